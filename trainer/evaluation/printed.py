"""The scores of an evaluation as a table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.instances import WEIGHTING
from trainer.evaluation.metrics import METRICS


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Prints the IoU of each class with its 95 % interval, its Boundary IoU and its share of the true pixels, then one
    line for each score of all classes.
    """
    scores = evaluation.scores
    table = Table(title_justify="left")
    table.add_column("class", no_wrap=True)
    instances = evaluation.instances
    for name in ("IoU, %", "95 % interval", "boundary IoU, %", "true pixels", *(["iIoU, %"] if instances else [])):
        table.add_column(name, justify="right")
    pixels = scores.confusion.sum(axis=1)
    columns = scores.class_iou, evaluation.intervals.class_iou, evaluation.boundary_iou, pixels / max(1, pixels.sum())
    for row, iou, limits, boundary, share in zip(scores.labels.classes, *columns, strict=True):
        cells = [_percent(iou), _interval(limits), _percent(boundary), f"{100 * share:.2f} %"]
        if instances is not None:
            cells.append(_percent(instances.class_iou[row.name]) if row.name in instances.class_iou else "")
        table.add_row(Text(row.name), *cells)
    console.print(table)
    for line in _summary(evaluation):
        console.print(line, highlight=False, markup=False)


def _summary(evaluation: Evaluation) -> Iterator[str]:
    """Yields a line for each score, and one for the classes without an IoU."""
    scores, calibration = evaluation.scores, evaluation.calibration
    count = len(scores.labels.classes) - len(scores.absent)
    values = [(metric.title, metric.of(scores), "") for metric in METRICS]
    values[0] = (*values[0][:2], f" of {count} classes, {_interval(evaluation.intervals.mean_iou)}")
    values.append(
        ("boundary IoU", evaluation.mean_boundary_iou, f", {_interval(evaluation.boundary_intervals.mean_iou)}")
    )
    limits = _interval(evaluation.calibration_interval)
    note = "" if math.isnan(calibration.error) else f", {limits}, {calibration.tendency}"
    values.append(("calibration error", calibration.error, note))
    if evaluation.instances is not None:
        values.append(("iIoU", evaluation.instances.mean_class_iou, f", {WEIGHTING}"))
        values.append(("category iIoU", evaluation.instances.mean_category_iou, ""))
    width = max(len(title) for title, _, _ in values)
    for title, value, note in values:
        yield f"{title:<{width}}  {_percent(value)} %{note}"
    if scores.absent:
        yield f"left out, as they are neither true nor predicted: {', '.join(scores.absent)}"


def _percent(share: float) -> str:
    return "absent" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(limits: np.ndarray) -> str:
    return "" if np.isnan(limits).any() else f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"
