"""The report of an evaluation: JSON, CSV and plots in a folder. A new file is a row of `FILES`.

TensorFlow and matplotlib are imported when a report is written, so that `--help` can list the files without waiting.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.evaluation.tables import class_rows, csv_of, image_rows, more_scores, slice_rows

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluated import Evaluation
    from trainer.evaluation.examples import Example
    from trainer.inference.model_file import Description


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The data of a report.

    Attributes:
      evaluation: of `model` on `split`, on one host.
      description: what the model was trained on; None if unknown.
      rows: the rows of the run's metrics.jsonl; empty if there are none.
      is_kept: whether the data set is there after the evaluation.
    """

    evaluation: Evaluation
    split: Split
    model: keras.Model
    description: Description | None
    rows: Sequence[Mapping[str, Any]]
    is_kept: bool = True

    @property
    def about(self) -> str:
        return f"{self.evaluation.split}, {len(self.evaluation.images.filenames):,} images"

    @functools.cached_property
    def examples(self) -> list[Example]:
        from trainer.evaluation.examples import pick_examples

        return pick_examples(self.evaluation, self.split, self.model, self.description)


def write_report(
    folder: str,
    evaluation: Evaluation,
    split: Split,
    model: keras.Model,
    *,
    description: Description | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    is_kept: bool = True,
) -> None:
    """Writes `FILES` to `folder`, local or gs://, and replaces those of an earlier report. See `Report`."""
    from trainer.files import make_folder, write_whole

    report = Report(
        evaluation=evaluation, split=split, model=model, description=description, rows=rows, is_kept=is_kept
    )
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


def _table(rows: Callable[[Evaluation], Iterable[Mapping[str, Any]]]) -> Callable[[Report], bytes]:
    """The CSV file of the rows that `rows` makes."""
    return lambda report: csv_of(rows(report.evaluation))


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
        "images": len(evaluation.images.filenames),
        "dataset": {
            "folder": report.split.folder if report.is_kept else None,
            "input": manifest.recipe.get("input"),
            "fingerprint": manifest.fingerprint,
        },
        "model": None if description is None else {**description.to_json(), "labels": description.labels.name},
        **evaluation.views.to_json(),
        "size": _sizes(report),
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "interval_95": evaluation.intervals.to_json(evaluation.labels),
        **evaluation.scores.to_json(),
        **more_scores(evaluation),
    }
    return _render(value).encode()


def _sizes(report: Report) -> dict[str, Any]:
    from trainer.evaluation.sizes import Sizes
    from trainer.inference.model_file import Description

    manifest = report.split.manifest
    description = report.description or Description.of("", manifest)
    return Sizes.of(manifest, description, report.evaluation.views).to_json()


def _render(value: Any) -> str:
    """JSON with each list of plain values on one line, so that people can read it."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # Strings in JSON contain no line breaks, so these brackets belong to lists.
    return re.sub(r"\[\n[^][{}]*\n *\]", lambda found: re.sub(r"\n *", " ", found[0]), text) + "\n"


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
    "per_class.csv": ReportFile("IoU, interval and pixels of each class", _table(class_rows)),
    "per_image.csv": ReportFile("scores of each image", _table(image_rows)),
    "slices.csv": ReportFile("IoU and interval of parts of the split", _table(slice_rows)),
    "images.npz": ReportFile(
        "what was measured of each image, which trainer.compare reads",
        lambda report: report.evaluation.images.to_bytes(report.evaluation.labels),
    ),
    "metrics.json": ReportFile("all scores, the confusion matrix, the data set and the model", _metrics),
}
