"""What the template of a report's page shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract import pages
from beam_pipelines.contract.pages import count
from beam_pipelines.contract.pages.pictures import legend_of
from trainer.evaluation.boundaries import reach_of
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.page.charts import calibration_charts, class_charts, learning_charts, slice_chart
from trainer.evaluation.page.pictures import VIEWS, ranked_pictures, suspect_pictures
from trainer.evaluation.page.slices import class_sizes_of, kinds_of
from trainer.evaluation.page.wording import NONE, interval, percent, views_words
from trainer.evaluation.reported import Report
from trainer.evaluation.suspects import IMPOSSIBLE, SIDE_OF_DIAGONAL, side_of

_PACKAGE = "trainer.evaluation"
_IN_MATRIX = 40  # classes
_NAME = "index.html"


@dataclass(frozen=True)
class Matrix:
    """The confusion of the classes with most pixels.

    Attributes:
      names: of the classes.
      pixels: rows are the truth; with all other classes, `totals` are the true pixels of each.
      shades: of each cell, 0 to 1: the square root of its share of the row, so that small ones can be seen.
      of: the number of all classes.
    """

    names: list[str]
    pixels: list[list[int]]
    totals: list[int]
    shades: list[list[float]]
    of: int


def render(report: Report, files: Mapping[str, str]) -> str:
    """The page. Equal reports give equal pages. `files`: name of each file of a report -> what it shows."""
    return pages.render(_PACKAGE, "report.html", values_of(report, files))


def values_of(report: Report, files: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows."""
    evaluation = report.evaluation
    means = [each for each in evaluation.slices if each.of_class is None]
    return {
        "report": report,
        "evaluation": evaluation,
        "images": len(evaluation.images.filenames),
        "figures": _figures(evaluation),
        "class_charts": class_charts(evaluation),
        "class_rows": _class_rows(evaluation),
        "weighted": evaluation.instances is not None,
        "matrix": _matrix(evaluation),
        "calibration_charts": calibration_charts(evaluation.calibration),
        "slice_chart": slice_chart(evaluation, means),
        "kinds": kinds_of(evaluation.slices),
        "class_sizes": class_sizes_of(evaluation.slices),
        "learning_charts": learning_charts(report.rows),
        "legend": legend_of(evaluation.labels),
        "views": VIEWS,
        "ranked": ranked_pictures(report),
        "suspects": suspect_pictures(report),
        "standing_out": len(evaluation.suspects.standing_out),
        "with_suspects": len(evaluation.suspects.ranked),
        "impossible": IMPOSSIBLE,
        "square": _square(report),
        "facts": _facts(report),
        "settings": _settings(report.config.get("identity", {})),
        "files": _files(report, files),
        "interval": interval,
        "percent": percent,
    }


def _figures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(title, value, its interval)."""
    calibration = evaluation.calibration
    limits = interval(evaluation.calibration_interval)
    return [
        ("Mean IoU", percent(evaluation.scores.mean_iou), interval(evaluation.intervals.mean_iou)),
        ("Boundary IoU", percent(evaluation.mean_boundary_iou), interval(evaluation.boundary_intervals.mean_iou)),
        ("Pixel accuracy", percent(evaluation.scores.pixel_accuracy), interval(evaluation.accuracy_interval)),
        ("Calibration error", percent(calibration.error), f"{limits}, {calibration.tendency}" if limits else ""),
    ]


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row of the table for each class."""
    scores, instances = evaluation.scores, evaluation.instances
    truth = scores.confusion.sum(axis=1)
    columns = zip(
        legend_of(evaluation.labels),
        *(scores.class_iou.tolist(), evaluation.intervals.class_iou.tolist()),
        *(evaluation.boundary_iou.tolist(), evaluation.boundary_intervals.class_iou.tolist()),
        truth.tolist(),
        strict=True,
    )
    return [
        {
            "name": name,
            "color": color,
            "iou": percent(iou),
            "limits": interval(limits),
            "boundary": percent(boundary),
            "boundary_limits": interval(boundary_limits),
            "weighted": "" if instances is None else percent(instances.class_iou.get(name, math.nan)),
            "pixels": count(pixels),
            "share": percent(pixels / max(1, int(truth.sum()))),
        }
        for (name, color), iou, limits, boundary, boundary_limits, pixels in columns
    ]


def _matrix(evaluation: Evaluation) -> Matrix:
    confusion = evaluation.scores.confusion
    size = confusion.sum(axis=0) + confusion.sum(axis=1)
    chosen = np.sort(np.argsort(-size, kind="stable")[:_IN_MATRIX])
    totals, cells = confusion.sum(axis=1)[chosen], confusion[np.ix_(chosen, chosen)]
    shades = np.sqrt(cells / np.maximum(1, totals)[:, np.newaxis])
    names = [row.name for row in evaluation.labels.classes]
    return Matrix(
        [names[place] for place in chosen], cells.tolist(), totals.tolist(), shades.round(2).tolist(), len(names)
    )


def _square(report: Report) -> str:
    """The side of the smallest suspected label error, in words."""
    share = f"about {100 * SIDE_OF_DIAGONAL:.1f} % of the diagonal"
    scored = report.sizes.scored
    return share if scored is None else f"{int(side_of(reach_of(*scored)))} pixels ({share})"


def _facts(report: Report) -> list[tuple[str, str]]:
    """What was evaluated, and how."""
    manifest, evaluation, about = report.split.manifest, report.evaluation, report.description
    found = []
    if about is not None:
        found += [
            ("model", about.model),
            ("updates", count(about.step)),
            ("mean IoU during training", NONE if about.mean_iou is None else percent(about.mean_iou)),
            ("trained on the data set", about.dataset),
            ("normalization: mean", ", ".join(f"{value:.4f}" for value in about.mean)),
            ("normalization: std", ", ".join(f"{value:.4f}" for value in about.std)),
        ]
    return [
        *found,
        ("data set", report.split.folder if report.is_kept else "built for this evaluation"),
        ("its fingerprint", manifest.fingerprint),
        ("label table", manifest.labels.name),
        ("split", f"{evaluation.split}, {count(len(evaluation.images.filenames))} images"),
        ("views", views_words(evaluation.views)),
        ("sizes", str(report.sizes)),
        ("cross entropy", NONE if math.isnan(evaluation.loss) else f"{evaluation.loss:.4f} nats"),
        ("frequency-weighted IoU", percent(evaluation.scores.frequency_weighted_iou)),
        ("mean IoU of categories", percent(evaluation.scores.mean_category_iou)),
    ]


def _settings(identity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What determines the run, as far as it is set."""
    return [(name, str(value)) for name, value in identity.items() if value is not None]


def _files(report: Report, files: Mapping[str, str]) -> list[tuple[str, str]]:
    """The files beside the page."""
    left_out = {_NAME} | (set() if report.rows else {"learning_curves.png"})
    left_out |= set() if report.examples.sheet else {"images.png"}
    return [(name, about) for name, about in files.items() if name not in left_out]
