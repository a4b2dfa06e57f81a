"""The scores of an evaluation as a table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.instances import InstanceScores
from trainer.evaluation.metrics import METRICS, Intervals, Scores


def print_scores(
    scores: Scores, intervals: Intervals, console: Console, instances: InstanceScores | None = None
) -> None:
    """Prints the IoU of each class with its 95 % interval and its share of the true pixels, then `METRICS`.

    instances: adds the instance-weighted IoU.
    """
    table = Table(title_justify="left")
    table.add_column("class")
    for name in ("IoU, %", "95 % interval", "true pixels", *(("iIoU, %",) if instances else ())):
        table.add_column(name, justify="right")
    weighted = instances.class_iou if instances else {}
    pixels = scores.confusion.sum(axis=1)
    for row, iou, limits in zip(scores.labels.classes, scores.class_iou, intervals.class_iou, strict=True):
        share = pixels[row.train_id] / max(1, pixels.sum())
        last = [_percent(weighted[row.name]) if row.name in weighted else ""] if instances else []
        table.add_row(Text(row.name), _percent(iou), _interval(limits), f"{100 * share:.2f} %", *last)
    console.print(table)
    for line in (*_summary(scores, intervals), *(_objects(instances) if instances else ())):
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


def _objects(instances: InstanceScores) -> Iterator[str]:
    """Yields a line for each mean of the instance-weighted IoU."""
    for name, ious, mean in (
        ("mean iIoU", instances.class_iou, instances.mean_class_iou),
        ("mean category iIoU", instances.category_iou, instances.mean_category_iou),
    ):
        known = [each for each, iou in ious.items() if not math.isnan(iou)]
        yield f"{name:<22}  {_percent(mean)} %{f' of {len(known)}: ' if known else ''}{', '.join(known)}"


def _percent(share: float) -> str:
    return "absent" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(limits: np.ndarray) -> str:
    return "" if np.isnan(limits).any() else f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"
