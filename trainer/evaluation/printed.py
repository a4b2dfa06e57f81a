"""The scores of an evaluation as a table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.metrics import METRICS, Intervals, Scores


def print_scores(scores: Scores, intervals: Intervals, console: Console) -> None:
    """Prints the IoU of each class with its 95 % interval and its share of the true pixels, then `METRICS`."""
    table = Table(title_justify="left")
    table.add_column("class")
    for name in ("IoU, %", "95 % interval", "true pixels"):
        table.add_column(name, justify="right")
    pixels = scores.confusion.sum(axis=1)
    for row, iou, limits in zip(scores.labels.classes, scores.class_iou, intervals.class_iou, strict=True):
        share = pixels[row.train_id] / max(1, pixels.sum())
        table.add_row(Text(row.name), _percent(iou), _interval(limits), f"{100 * share:.2f} %")
    console.print(table)
    for line in _summary(scores, intervals):
        console.print(line, highlight=False, markup=False)


def _summary(scores: Scores, intervals: Intervals) -> Iterator[str]:
    """Yields a line for each of `METRICS`, and one for the classes without an IoU."""
    count = len(scores.labels.classes) - len(scores.absent)
    notes = {"mean_iou": f" of {count} classes, {_interval(intervals.mean_iou)}"}
    width = max(len(metric.title) for metric in METRICS)
    for metric in METRICS:
        yield f"{metric.title:<{width}}  {_percent(metric.of(scores))} %{notes.get(metric.name, '')}"
    if scores.absent:
        yield f"left out, as they are neither true nor predicted: {', '.join(scores.absent)}"


def _percent(share: float) -> str:
    return "absent" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(limits: np.ndarray) -> str:
    return "" if np.isnan(limits).any() else f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"
