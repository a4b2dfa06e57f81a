"""The report of an evaluation: JSON, CSV and plots in a folder. A new file is a row of `FILES`.

TensorFlow and matplotlib are imported when a report is written, so that `--help` can list the files without waiting.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_pipelines.contract.errors import UserError
from trainer.evaluation.reported import Report
from trainer.evaluation.tables import class_rows, csv_of, image_rows, more_scores, slice_rows

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluated import Evaluation
    from trainer.inference.model_file import Description


class ReportError(UserError, ValueError):
    """A report that can't be written; the message says how to fix it."""


def check_folder(folder: str) -> None:
    """Raises ReportError if `write_report` would replace files that are not of a report: one begins with the first of
    `FILES`.
    """
    from trainer.files import names_in

    there = FILES.keys() & set(names_in(folder))
    if there and next(iter(FILES)) not in there:
        raise ReportError(f"{folder} has {min(there)}, which is not of a report: choose another --output")


def write_report(
    folder: str,
    evaluation: Evaluation,
    split: Split,
    model: keras.Model,
    *,
    description: Description | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    run: str | None = None,
    is_kept: bool = True,
) -> None:
    """Writes `FILES` to `folder`, local or gs://, and replaces those of an earlier report. See `Report`."""
    import tensorflow as tf

    from trainer.files import make_folder, write_whole

    report = Report(
        evaluation=evaluation,
        split=split,
        model=model,
        description=description,
        rows=rows,
        config=config or {},
        run=run,
        is_kept=is_kept,
    )
    made = {name: file.make(report) for name, file in FILES.items()}
    make_folder(folder)
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(f"{folder}/{_LAST}")  # that of an earlier report would say that this one is complete
    for name, content in made.items():
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
    sheet = report.examples.sheet
    return plots.contact_sheet(sheet, report.evaluation.labels, report.about) if sheet else None


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
        "run": report.run,
        **evaluation.views.to_json(),
        "size": report.sizes.to_json(),
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "interval_95": evaluation.intervals.to_json(evaluation.labels),
        **evaluation.scores.to_json(),
        **more_scores(evaluation),
    }
    return _render(value).encode()


def _page(report: Report) -> bytes:
    from trainer.evaluation.page.values import render

    return render(report, {name: file.about for name, file in FILES.items()}).encode()


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


_LAST = "metrics.json"
# In the order in which they are written: a report that has the last one is complete.
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
    "index.html": ReportFile("all of it as a page, with more images and suspected label errors", _page),
    _LAST: ReportFile("all scores, the confusion matrix, the data set and the model", _metrics),
}
