"""What the command prints: kinds of masks, their values, and problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from beam_pipelines.label_drafts.contents import (
    PALETTE,
    RGB,
    SHALLOW,
    STORAGES,
    Contents,
    Values,
    colors_of,
    entries_of,
)
from beam_pipelines.label_drafts.draft import share
from beam_pipelines.label_drafts.lint import Problem
from beam_pipelines.label_drafts.names import labels_of
from beam_pipelines.label_drafts.tallies import MOST_VALUES, Tally
from beam_pipelines.wording import counted

SHOWN_VALUES = 300


def print_contents(contents: Contents, file: Callable[[int], str], console: Console) -> None:
    """Prints the kinds of masks, and the values of each way of storage. `file`: index -> name."""
    table = _table("masks", "kind", "masks", "share", "such as")
    for kind, group in sorted(contents.kinds.items(), key=lambda item: (-item[1].masks, item[0])):
        part = share(group.masks, contents.masks)
        table.add_row(kind, f"{group.masks:,}", part, file(group.first[0]))
    console.print(table)
    for storage in STORAGES:
        if storage in contents.values:
            _print_values(storage, contents.values[storage], console)

    if contents.names:
        _print_names(contents, console)


def _print_names(contents: Contents, console: Console) -> None:
    table, labels = _table("labels of regions", "label", "regions", "images"), labels_of(contents)
    for name in labels[:SHOWN_VALUES]:
        table.add_row(name, f"{contents.regions[name]:,}", f"{contents.names[name].masks:,}")
    console.print(table)
    if len(labels) > SHOWN_VALUES:
        console.print(f"... and {counted(len(labels) - SHOWN_VALUES, 'rarer label')}", highlight=False)


def _print_values(storage: str, values: Values, console: Console) -> None:
    if values.exact is None:
        console.print(
            f"masks stored as {storage} hold more than {MOST_VALUES:,} colors; counted here are those that fill a good "
            "part of a mask, in these masks",
            highlight=False,
        )
    tally = values.exact if values.exact is not None else values.main if values.main is not None else values.coarse
    shown = tally.commonest(SHOWN_VALUES)
    if storage != RGB:
        shown = shown.of(shown.values.argsort())
    if not shown.values.size:
        return
    table = _table(f"values of {storage}", *_columns(storage), "pixels", "share", "masks", "share")
    by_entry = storage == PALETTE and values.exact is not None
    for names, pixels, count in zip(_names(storage, shown, by_entry), shown.pixels, shown.masks, strict=True):
        shares = share(pixels, values.pixels), share(count, values.masks)
        table.add_row(*names, f"{pixels:,}", shares[0], f"{count:,}", shares[1])
    console.print(table)
    if tally.values.size > SHOWN_VALUES:
        console.print(f"... and {counted(tally.values.size - SHOWN_VALUES, 'rarer value')}", highlight=False)


def _columns(storage: str) -> tuple[str, ...]:
    if storage == RGB:
        return ("color",)
    return (
        ("index", "color") if storage == PALETTE else ("id", "gray level") if storage in SHALLOW.values() else ("id",)
    )


def _names(storage: str, tally: Tally, by_entry: bool) -> Iterator[tuple[str, ...]]:
    if storage not in (RGB, PALETTE):
        factor = {storage: 255 // (2**bits - 1) for bits, storage in SHALLOW.items()}.get(storage)
        for value in tally.values.tolist():
            yield (str(value),) if factor is None else (str(value), str(value * factor))
        return
    indices, codes = entries_of(tally.values) if by_entry else (None, tally.values)
    for place, color in enumerate(colors_of(codes).tolist()):
        text = "not opaque" if color[0] < 0 else " ".join(map(str, color))
        yield (text,) if storage == RGB else ("" if indices is None else str(indices[place]), text)


def print_problems(problems: Sequence[Problem], console: Console) -> None:
    """Prints each problem with its first files and its cure."""
    for problem in problems:
        files = f" (first: {', '.join(problem.files)})" if problem.files else ""
        cure = f"; {problem.cure}" if problem.cure else ""
        console.print(f"problem: {problem.text}{files}{cure}", highlight=False, markup=False)
    console.print(counted(len(problems), "problem") if problems else "the table fits every mask", highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column in ("such as", "color") else "right")
    return table
