"""A study as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.comparison.scores import MEAN
from trainer.comparison.study import Comparison, Study
from trainer.comparison.wording import chance, interval, percent, points

_STYLES = {"better": "green", "worse": "red", "unclear": ""}


def print_study(found: Study, console: Console) -> None:
    """Prints a table for each comparison, then what it can't tell."""
    for side in found.sides:
        if len(side.runs) > 1:
            scores = ", ".join(f"{run.name} {percent(run.scores[MEAN])}" for run in side.runs)
            _say(f"{side.name}: mean IoU of {len(side.runs)} runs, %: {scores}", console)
    for comparison in found.comparisons:
        console.print(_table(comparison, found))
        _say(sentence(comparison), console)
        if comparison.labels:
            _say(labels_sentence(comparison.labels), console)
    for caution in found.cautions:
        _say(f"note: {caution}", console)


def sentence(comparison: Comparison) -> str:
    """The result for mean IoU."""
    estimate, a, b = comparison.estimate, comparison.a.name, comparison.b.name
    verdict = comparison.verdict(MEAN)
    told = (
        f"Mean IoU of {b} minus {a}: {points(estimate.difference[MEAN])} points {interval(estimate.interval[MEAN])}, "
        f"p {chance(comparison.adjusted[MEAN])}"
    )
    return f"{told}: {b} is {verdict}" if verdict != "unclear" else f"{told}: this may be chance"


def labels_sentence(labels: tuple[float, float]) -> str:
    """The permutation test of runs."""
    p, least = map(chance, labels)
    return (
        f"Permutation of the runs, for these images only: p {p}; with these numbers of runs it can't be below {least}"
    )


def _table(comparison: Comparison, found: Study) -> Table:
    estimate = comparison.estimate
    table = Table(title=Text(f"{found.split}, {len(found.runs[0].filenames):,} images"), title_justify="left")
    table.add_column("IoU, %")
    for name in (comparison.a.name, comparison.b.name, "difference", "95 % interval", "adjusted p"):
        table.add_column(Text(name), justify="right")
    for place, name in enumerate(found.names):
        table.add_row(
            Text(name),
            percent(estimate.a[place]),
            percent(estimate.b[place]),
            Text(points(estimate.difference[place]), style=_STYLES[comparison.verdict(place)]),
            interval(estimate.interval[place]),
            chance(comparison.adjusted[place]),
            end_section=place == MEAN,
        )
    return table


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False, markup=False)
