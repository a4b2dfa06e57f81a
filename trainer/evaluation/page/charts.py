"""The charts of a report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from beam_pipelines.contract.pages import count, share
from beam_pipelines.contract.pages.charts import TONES, Chart, Table, bars, curves, intervals
from trainer.evaluation.calibration import BINS, Calibration
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.page.wording import interval, percent
from trainer.evaluation.series import thin_points_of
from trainer.evaluation.slices import Slice

_MOST = 40  # bars of a chart
_IDEAL = "perfectly calibrated"


def class_charts(evaluation: Evaluation) -> list[Chart]:
    """IoU and Boundary IoU of each class, with their intervals."""
    names = [row.name for row in evaluation.labels.classes]
    near = evaluation.boundary_intervals.class_iou
    return [
        _shares("IoU", names, evaluation.scores.class_iou, evaluation.intervals.class_iou),
        _shares("Boundary IoU", names, evaluation.boundary_iou, near),
    ]


def slice_chart(evaluation: Evaluation, slices: Sequence[Slice]) -> Chart:
    """Mean IoU of slices, after that of all images."""
    shown = slices[: _MOST - 1]
    names = ["all images", *(f"{each.kind}: {each.name.partition(':')[0]}" for each in shown)]
    values = np.array([evaluation.scores.mean_iou, *(each.iou for each in shown)])
    limits = np.array([evaluation.intervals.mean_iou, *(each.interval for each in shown)])
    return _shares("Mean IoU", names, values, limits, what="part")


def _shares(title: str, names: Sequence[str], values: np.ndarray, limits: np.ndarray, what: str = "class") -> Chart:
    """A point for each name on its interval, from 0 to 100 %."""
    known = [None if np.isnan(pair).any() else (float(pair[0]), float(pair[1])) for pair in limits]
    rows = [[name, percent(value), interval(pair)] for name, value, pair in zip(names, values, limits, strict=True)]
    return intervals(
        title,
        names[:_MOST],
        values[:_MOST].tolist(),
        {"95 % interval": known[:_MOST]},
        what=title,
        tones=TONES[:1],
        table=Table([what, title, "95 % interval"], rows),
        dots=title,
        signed=False,
        within=(0, 1),
        note=f"The first {_MOST} of {len(names)}; the table has all." if len(names) > _MOST else "",
    )


def calibration_charts(calibration: Calibration) -> list[Chart]:
    """The reliability curve, and how many pixels have each confidence; none without pixels."""
    pixels = int(calibration.pixels.sum())
    if not pixels:
        return []
    rows = zip(calibration.confidence.tolist(), calibration.accuracy.tolist(), calibration.pixels.tolist(), strict=True)
    known = [(sure, right) for sure, right, held in rows if held]
    series = {"share that is right": known, _IDEAL: [(0.0, 0.0), (1.0, 1.0)]}
    reliability = curves("Share of the pixels that is right", series, what="confidence", percent=True)
    names = [f"{100 * place / BINS:.0f} to {100 * (place + 1) / BINS:.0f}%" for place in range(BINS)]
    shares = {"pixels": [held / pixels for held in calibration.pixels.tolist()]}
    held = bars("Share of the pixels with each confidence", names, shares, what="confidence", touching=True)
    return [replace(reliability, table=_bins(calibration, names)), held]


def _bins(calibration: Calibration, names: Sequence[str]) -> Table:
    columns = calibration.pixels.tolist(), calibration.confidence.tolist(), calibration.accuracy.tolist()
    total = sum(columns[0])
    rows = [
        [name, count(held), share(held / total), percent(sure), percent(right)]
        for name, held, sure, right in zip(names, *columns, strict=True)
    ]
    return Table(["confidence", "pixels", "share", "mean confidence", "right"], rows)


def learning_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """The curves of the run, by epoch; none without rows."""
    wanted = (
        ("Loss", "loss", False, "train: the whole objective of the training; val: cross entropy in nats."),
        ("Mean IoU", "mean_iou", True, "train: of augmented crops, while the weights change."),
        ("Learning rate", "learning_rate", False, ""),
    )
    found = []
    for title, key, is_share, note in wanted:
        series = {split: points for split in ("train", "val") if (points := thin_points_of(rows, split, key))}
        if series:
            found.append(curves(title, series, what="epoch", percent=is_share, note=note))
    return found
