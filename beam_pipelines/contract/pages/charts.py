"""Charts for pages: what Chart.js draws, and the table of the same numbers.

A configuration is Chart.js' own (https://www.chartjs.org/docs/latest/configuration/), with three fields of ours:
`percent` says that the numbers are shares, `signed` that they are differences, and the `tone` of a series names a color
of `base.css`, which differs by color scheme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.contract.pages import share

TONES = tuple(f"series-{number}" for number in range(1, 7))  # of series without a meaning of their own
_FEW_POINTS = 40  # of the longest line, up to which points are marked
_PLOT = 240  # pixels: the height of a chart
_LABEL = 22  # characters, so that it leaves room for the bars on a phone; the table has all


@dataclass(frozen=True)
class Table:
    """The head and the rows of a table, as text; the first cell of a row is its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart that the macro `draw` of `charts.html` takes. `height` is in pixels; `note` says what it can't show."""

    title: str
    config: Mapping[str, Any]
    table: Table
    height: int = _PLOT
    note: str = ""


def bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    what: str,
    horizontal: bool = False,
    touching: bool = False,
    note: str = "",
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
    return Chart(title, config, _table(what, labels, series), height, note)


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
    note: str = "",
) -> Chart:
    """A line of shares over 0, 1, 2, ... for each series, in the colors `tones`, with a mark at one place of each; what
    is above `most` is cut off, which `note` should tell. `step` is between two numbers of the axis.
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
    config = {"type": "line", "percent": True, "data": {"datasets": sets}, "options": options}
    return Chart(title, config, table, note=note)


def intervals(
    title: str,
    labels: Sequence[str],
    values: Sequence[float],
    limits: Mapping[str, Sequence[tuple[float, float] | None]],
    *,
    what: str,
    tones: Sequence[str],
    table: Table,
    dots: str,
    signed: bool,
    within: tuple[float, float] | None = None,
    note: str = "",
) -> Chart:
    """A point for each label on a bar from its lower to its upper limit.

    Args:
      values: of the points; NaN for none.
      limits: the bars of each group, in the color of `tones`; None for a label that belongs to another group.
      what: what the axis of the values shows.
      dots: what the points are.
      signed: whether they are differences from 0, which are shown with their sign; else they are shares.
      within: what the axis shows at least; None for what is needed.
    """
    groups = [
        {"type": "bar", "label": name, "data": [each and [*map(_rounded, each)] for each in bars], "tone": tone}
        | {"grouped": False, "barThickness": 11, "borderWidth": 0}
        for (name, bars), tone in zip(limits.items(), tones, strict=True)
    ]
    sets = [_dots(dots, values), *groups, *([_zero_line(len(labels))] if signed else [])]
    across = {"title": _title(what)} | ({"suggestedMin": within[0], "suggestedMax": within[1]} if within else {})
    scales = {"x": across, "y": {"type": "category", "ticks": {"autoSkip": False}, "grid": {"display": False}}}
    options = _options(True) | {"indexAxis": "y", "scales": scales}
    data = {"labels": [*map(_short, labels)], "datasets": sets}
    config = {"type": "bar", "signed" if signed else "percent": True, "data": data, "options": options}
    return Chart(title, config, table, 84 + 24 * len(labels), note)


def _dots(label: str, values: Sequence[float]) -> dict[str, Any]:
    data = [None if math.isnan(value) else _rounded(value) for value in values]
    return {"type": "line", "label": label, "data": data, "tone": "text", "showLine": False, "pointRadius": 2.5}


def _zero_line(length: int) -> dict[str, Any]:
    """Without a name, so that neither the legend nor tips have it."""
    look = {"borderWidth": 1, "borderDash": [4, 3], "pointRadius": 0}
    return {"type": "line", "label": "", "data": [0] * length, "tone": "quiet"} | look


def curves(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    what: str,
    percent: bool,
    note: str = "",
) -> Chart:
    """A line through the points (x, y) of each series; `what` names x, from 0. Beyond six series, lines are dashed."""
    few = max(map(len, series.values())) <= _FEW_POINTS
    sets = [
        {
            "label": name,
            "data": [{"x": _rounded(x), "y": _rounded(y)} for x, y in points],
            "tone": tone,
            "borderWidth": 1.5,
            "borderDash": [6, 4] if number >= len(TONES) else [],
            "pointRadius": 2.5 if few or len(points) == 1 else 0,
            "pointHitRadius": 6,
        }
        for number, ((name, points), tone) in enumerate(zip(series.items(), _tones(len(series)), strict=True))
    ]
    across = {"type": "linear", "min": 0, "grid": {"display": False}, "title": _title(what)}
    options = _options(True) | {
        "interaction": {"mode": "nearest", "intersect": False},
        "scales": {"x": across, "y": {}},
    }
    config = {"type": "line", "percent": percent, "data": {"datasets": sets}, "options": options}
    return Chart(title, config, _points_table(what, series, percent), note=note)


def _points_table(what: str, series: Mapping[str, Sequence[tuple[float, float]]], percent: bool) -> Table:
    """A row for each x."""
    found = {name: dict(points) for name, points in series.items()}
    places = sorted({x for points in found.values() for x in points})
    shown = share if percent else "{:.4g}".format
    rows = [[f"{x:g}", *(shown(points[x]) if x in points else "" for points in found.values())] for x in places]
    return Table([what, *series], rows)


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
