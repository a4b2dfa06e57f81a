"""The report of an evaluation: a table in the terminal, and JSON, CSV and pictures in a folder.

A new file is a row of `FILES`.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.data.dataset import Split
from trainer.evaluation.evaluator import Evaluation
from trainer.evaluation.examples import Example, pick_examples
from trainer.evaluation.metrics import METRICS, Intervals, Scores
from trainer.files import make_folder, write_whole
from trainer.inference.model_file import Description

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What the files of a report are made of.

    Attributes:
      evaluation: of `model` on `split`, of one host.
      description: what the model was trained on, if known.
      rows: of the run's metrics.jsonl, if there are any.
    """

    evaluation: Evaluation
    split: Split
    model: keras.Model
    description: Description | None
    rows: Sequence[Mapping[str, Any]]

    @property
    def about(self) -> str:
        return f"{self.evaluation.split}, {len(self.evaluation.filenames):,} images"

    @functools.cached_property
    def examples(self) -> list[Example]:
        return pick_examples(self.evaluation, self.split, self.model)


def write_report(
    folder: str,
    evaluation: Evaluation,
    split: Split,
    model: keras.Model,
    *,
    description: Description | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes `FILES` to `folder`, local or gs://; those of an earlier report are replaced. See `Report`."""
    report = Report(evaluation=evaluation, split=split, model=model, description=description, rows=rows)
    make_folder(folder)
    for name, make in FILES.items():
        content = make(report)
        if content is not None:
            write_whole(f"{folder}/{name}", content)


def print_scores(scores: Scores, intervals: Intervals, console: Console) -> None:
    """IoU of each class with its 95 % interval and its share of the true pixels, then `METRICS`."""
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
    """A line for each of `METRICS`, and one for the classes that have no IoU."""
    count = len(scores.labels.classes) - len(scores.absent)
    notes = {"mean_iou": f" of {count} classes, {_interval(intervals.mean_iou)}"}
    width = max(len(metric.title) for metric in METRICS)
    for metric in METRICS:
        yield f"{metric.title:<{width}}  {_percent(metric.of(scores))} %{notes.get(metric.name, '')}"
    if scores.absent:
        yield f"left out, as they are neither true nor predicted: {', '.join(scores.absent)}"


def _picture(draw: Callable[[Any, Report], Figure | None]) -> Callable[[Report], bytes | None]:
    """A file with the figure that `draw` makes, given `trainer.evaluation.plots`: matplotlib is imported to draw."""

    def make(report: Report) -> bytes | None:
        from trainer.evaluation import plots

        figure = draw(plots, report)
        return None if figure is None else plots.png_of(figure)

    return make


def _class_iou(plots: Any, report: Report) -> Any:
    about = f"{report.about}; whiskers and brackets: 95 % interval over images"
    return plots.class_bars(report.evaluation.scores, report.evaluation.intervals, about)


def _category_iou(plots: Any, report: Report) -> Any:
    return plots.category_bars(report.evaluation.scores, report.about)


def _confusion(plots: Any, report: Report) -> Any:
    return plots.confusion_matrix(report.evaluation.scores, report.about)


def _images(plots: Any, report: Report) -> Any:
    return plots.contact_sheet(report.examples, report.evaluation.labels, report.about) if report.examples else None


def _learning_curves(plots: Any, report: Report) -> Any:
    return plots.learning_curves(report.rows) if report.rows else None


def _metrics(report: Report) -> bytes:
    evaluation, manifest, description = report.evaluation, report.split.manifest, report.description
    value = {
        "split": evaluation.split,
        "images": len(evaluation.filenames),
        "dataset": {"folder": report.split.folder, "fingerprint": manifest.fingerprint},
        "model": None if description is None else {**description.to_json(), "labels": description.labels.name},
        "scales": list(evaluation.scales),
        "flip": evaluation.flip,
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "interval_95": evaluation.intervals.to_json(evaluation.labels),
        **evaluation.scores.to_json(),
    }
    return _render(value).encode()


def _render(value: Any) -> str:
    """JSON with one line for each list of plain values, so that a person can read it."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # No string in JSON has a line break, so that these brackets are those of lists.
    return re.sub(r"\[\n[^][{}]*\n *\]", lambda found: re.sub(r"\n *", " ", found[0]), text) + "\n"


def _class_rows(report: Report) -> Iterator[dict[str, Any]]:
    scores, intervals = report.evaluation.scores, report.evaluation.intervals
    truth, shown = scores.confusion.sum(axis=1), scores.confusion.sum(axis=0)
    for row in scores.labels.classes:
        low, high = intervals.class_iou[row.train_id]
        yield {
            "train_id": row.train_id,
            "name": row.name,
            "category": row.category,
            "iou": scores.class_iou[row.train_id],
            "low": low,
            "high": high,
            "true_pixels": truth[row.train_id],
            "predicted_pixels": shown[row.train_id],
            "correct_pixels": scores.confusion[row.train_id, row.train_id],
        }


def _image_rows(report: Report) -> Iterator[dict[str, Any]]:
    for name, scores in zip(report.evaluation.filenames, report.evaluation.image_scores, strict=True):
        yield {
            "filename": name,
            "mean_iou": scores.mean_iou,
            "pixel_accuracy": scores.pixel_accuracy,
            "valid_pixels": scores.confusion.sum(),
        }


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """One line for each row, under their keys; NaN is an empty cell."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in listed)
    return text.getvalue().encode()


def _percent(share: float) -> str:
    return "absent" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(limits: np.ndarray) -> str:
    return "" if np.isnan(limits).any() else f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"


# Each file with the function that makes its content, or None where there is nothing to show. In the order in which they
# are written: a report that has metrics.json is whole.
FILES: Mapping[str, Callable[[Report], bytes | None]] = {
    "class_iou.png": _picture(_class_iou),
    "category_iou.png": _picture(_category_iou),
    "confusion.png": _picture(_confusion),
    "images.png": _picture(_images),
    "learning_curves.png": _picture(_learning_curves),
    "per_class.csv": lambda report: _csv(_class_rows(report)),
    "per_image.csv": lambda report: _csv(_image_rows(report)),
    "metrics.json": _metrics,
}
