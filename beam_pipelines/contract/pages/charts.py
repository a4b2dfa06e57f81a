"""Charts for pages: what Chart.js draws, and the table of the same numbers.

A configuration is Chart.js' own (https://www.chartjs.org/docs/latest/configuration/), with two fields of ours:
`percent` says that the numbers are shares, and the `tone` of a series names a color of `base.css`, which differs by
color scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.contract.pages import share

TONES = tuple(f"series-{number}" for number in range(1, 7))  # of series without a meaning of their own
_PLOT = 240  # pixels: the height of a chart
_LABEL = 22  # characters, so that it leaves room for the bars on a phone; the table has all


@dataclass(frozen=True)
class Table:
    """The head and the rows of a table, as text; the first cell of a row is its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart that the macro `draw` of `charts.html` takes. `height` is in pixels."""

    title: str
    config: Mapping[str, Any]
    table: Table
    height: int = _PLOT


def bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    what: str,
    horizontal: bool = False,
    touching: bool = False,
) -> Chart:
    """Bars of shares: for each label one of each series. `what` names the labels; `touching` bars are a histogram."""
    sets = [
        {"label": name, "data": [*map(_rounded, values)], "tone": tone, "borderWidth": 0}
        for (name, values), tone in zip(series.items(), _tones(len(series)), strict=True)
    ]
    if touching:
        sets = [each | {"categoryPercentage": 1, "barPercentage": 0.92} for each in sets]
    height = 48 + len(labels) * (6 + 11 * len(series)) if horizontal else _PLOT
    options = _options(len(series) > 1) | {"indexAxis": "y" if horizontal else "x"}
    if horizontal:
        options["scales"] = {"y": {"ticks": {"autoSkip": False}, "grid": {"display": False}}}
    else:
        across = {"title": _title(what), "grid": {"display": False}, "ticks": {"maxRotation": 0}}
        options["scales"] = {"x": across, "y": {"beginAtZero": True}}
    config = {
        "type": "bar",
        "percent": True,
        "data": {"labels": [*map(_short, labels)], "datasets": sets},
        "options": options,
    }
    return Chart(title, config, _table(what, labels, series), height)


def lines(
    title: str,
    series: Mapping[str, Sequence[float]],
    *,
    what: str,
    step: int,
    tones: Sequence[str],
    marks: Sequence[int],
    most: float,
    table: Table,
) -> Chart:
    """A line of shares over 0, 1, 2, ... for each series, in the colors `tones`, with a mark at one place of each; what
    is above `most` is cut off. `step` is between two numbers of the axis.
    """
    sets = [
        {
            "label": name,
            "data": [{"x": place, "y": _rounded(value)} for place, value in enumerate(values)],
            "tone": tone,
            "borderWidth": 1.5,
            "pointRadius": [5 if place == mark else 0 for place in range(len(values))],
            "pointHitRadius": 6,
        }
        for (name, values), tone, mark in zip(series.items(), tones, marks, strict=True)
    ]
    last = max(map(len, series.values())) - 1
    across = {
        "type": "linear",
        "max": last,
        "ticks": {"stepSize": step},
        "grid": {"display": False},
        "title": _title(what),
    }
    options = _options(True) | {"scales": {"x": across, "y": {"min": 0, "max": most}}}
    return Chart(title, {"type": "line", "percent": True, "data": {"datasets": sets}, "options": options}, table)


def _options(legend: bool) -> dict[str, Any]:
    box = {"boxWidth": 12, "boxHeight": 12}
    return {
        "interaction": {"mode": "index", "intersect": False},
        "plugins": {"legend": {"display": legend, "position": "top", "align": "start", "labels": box}},
    }


def _title(text: str) -> dict[str, Any]:
    return {"display": True, "text": text}


def _tones(number: int) -> list[str]:
    return [TONES[place % len(TONES)] for place in range(number)]


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 3]}..."


def _rounded(value: float) -> float:
    return round(value, 6)


def _table(what: str, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> Table:
    columns = zip(*series.values(), strict=True)
    rows = [[label, *map(share, values)] for label, values in zip(labels, columns, strict=True)]
    return Table([what, *series], rows)
