"""The report of an evaluation: JSON, CSV and plots in a folder. A new file is a row of `FILES`.

TensorFlow and matplotlib are imported when a report is written, so that `--help` can list the files without waiting.
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

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluator import Evaluation
    from trainer.evaluation.examples import Example
    from trainer.inference.model_file import Description


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The data of a report.

    Attributes:
      evaluation: of `model` on `split`, on one host.
      description: what the model was trained on; None if unknown.
      rows: the rows of the run's metrics.jsonl; empty if there are none.
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
        from trainer.evaluation.examples import pick_examples

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
    """Writes `FILES` to `folder`, local or gs://, and replaces those of an earlier report. See `Report`."""
    from trainer.files import make_folder, write_whole

    report = Report(evaluation=evaluation, split=split, model=model, description=description, rows=rows)
    make_folder(folder)
    for name, file in FILES.items():
        content = file.make(report)
        if content is not None:
            write_whole(f"{folder}/{name}", content)


def _picture(draw: Callable[[Any, Report], Figure | None]) -> Callable[[Report], bytes | None]:
    """The PNG file of the figure that `draw` returns; `draw` gets the module `trainer.evaluation.plots`."""

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
        "scales": list(evaluation.views.scales),
        "flip": evaluation.views.flip,
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "interval_95": evaluation.intervals.to_json(evaluation.labels),
        **evaluation.scores.to_json(),
    }
    return _render(value).encode()


def _render(value: Any) -> str:
    """JSON with each list of plain values on one line, so that people can read it."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # Strings in JSON contain no line breaks, so these brackets belong to lists.
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
    """A CSV file with a header and a line for each row; NaN is an empty cell."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in listed)
    return text.getvalue().encode()


@dataclass(frozen=True)
class ReportFile:
    """A row of the table: what the file shows, and a function that returns its bytes, or None if it has no content."""

    about: str
    make: Callable[[Report], bytes | None]


# In the order in which they are written. metrics.json is last: a report that has it is complete.
FILES: Mapping[str, ReportFile] = {
    "class_iou.png": ReportFile("IoU of each class, with 95 % intervals", _picture(_class_iou)),
    "category_iou.png": ReportFile("IoU of each category", _picture(_category_iou)),
    "confusion.png": ReportFile("confusion matrix, in percent of the true pixels", _picture(_confusion)),
    "images.png": ReportFile("worst, median and best images: truth, prediction and errors", _picture(_images)),
    "learning_curves.png": ReportFile("loss, mean IoU and learning rate of the run", _picture(_learning_curves)),
    "per_class.csv": ReportFile("IoU, interval and pixels of each class", lambda report: _csv(_class_rows(report))),
    "per_image.csv": ReportFile("scores of each image", lambda report: _csv(_image_rows(report))),
    "metrics.json": ReportFile("all scores, the confusion matrix, the data set and the model", _metrics),
}
