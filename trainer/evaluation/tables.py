"""The tables of a report, as rows for CSV files, and the scores beside those of the confusion matrix."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.evaluation.evaluated import Evaluation


def class_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """A row for each class: IoU and Boundary IoU with their intervals, and counts of pixels."""
    scores = evaluation.scores
    truth, shown = scores.confusion.sum(axis=1), scores.confusion.sum(axis=0)
    weighted = None if evaluation.instances is None else evaluation.instances.class_iou
    limits, near_limits = evaluation.intervals.class_iou, evaluation.boundary_intervals.class_iou
    for row in scores.labels.classes:
        place = row.train_id
        yield {
            "train_id": place,
            "name": row.name,
            "category": row.category,
            "iou": scores.class_iou[place],
            "low": limits[place, 0],
            "high": limits[place, 1],
            "boundary_iou": evaluation.boundary_iou[place],
            "boundary_low": near_limits[place, 0],
            "boundary_high": near_limits[place, 1],
            "true_pixels": truth[place],
            "predicted_pixels": shown[place],
            "correct_pixels": scores.confusion[place, place],
            **({} if weighted is None else {"instance_iou": weighted.get(row.name, math.nan)}),
        }


def image_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """A row for each image."""
    images = evaluation.images
    for place, (name, scores) in enumerate(zip(images.filenames, evaluation.image_scores, strict=True)):
        yield {
            "filename": name,
            "mean_iou": scores.mean_iou,
            "pixel_accuracy": scores.pixel_accuracy,
            "valid_pixels": scores.confusion.sum(),
            "brightness": images.brightness[place],
            "suspect_pixels": images.suspects[place],
        }


def slice_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """A row for each slice."""
    for each in evaluation.slices:
        yield {
            "kind": each.kind,
            "class": each.of_class or "",
            "name": each.name,
            "images": each.images,
            "pixels": each.pixels,
            "iou": each.iou,
            "low": each.interval[0],
            "high": each.interval[1],
        }


def more_scores(evaluation: Evaluation) -> dict[str, Any]:
    """Boundary IoU, calibration, slices and scores of objects as plain values for a JSON file, with None for NaN."""
    from trainer.evaluation.metrics import plain

    names = [row.name for row in evaluation.labels.classes]
    limits, accuracy = (
        [plain(limit) for limit in pair] for pair in (evaluation.calibration_interval, evaluation.accuracy_interval)
    )
    return {
        "pixel_accuracy_interval_95": accuracy,
        "boundary_iou": {
            "mean": plain(evaluation.mean_boundary_iou),
            "class_iou": {name: plain(iou) for name, iou in zip(names, evaluation.boundary_iou, strict=True)},
            "interval_95": evaluation.boundary_intervals.to_json(evaluation.labels),
        },
        "calibration": {**evaluation.calibration.to_json(), "interval_95": limits},
        "slices": [each.to_json() for each in evaluation.slices],
        "suspected_label_errors": _suspects(evaluation),
        **({} if evaluation.instances is None else {"instance_iou": evaluation.instances.to_json()}),
    }


def _suspects(evaluation: Evaluation) -> dict[str, Any]:
    """The images whose suspected label errors stand out, ranked."""
    images, suspects = evaluation.images, evaluation.suspects
    return {
        "images": len(suspects.ranked),
        "limit": suspects.limit,
        "standing_out": [
            {
                "filename": images.filenames[place],
                "pixels": int(images.suspects[place]),
                "share": float(suspects.values[place]),
            }
            for place in suspects.standing_out
        ],
    }


def csv_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A CSV file with a header and a line for each row; NaN is an empty cell."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in listed)
    return text.getvalue().encode()
