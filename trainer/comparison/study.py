"""The sides of a comparison, and what is found about them."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.comparison import configuration
from trainer.comparison.estimate import Estimate
from trainer.comparison.matching import cautions, matched
from trainer.comparison.paired import compare_pair
from trainer.comparison.runs import Run
from trainer.comparison.scores import MEAN, scores_of
from trainer.comparison.several import compare_several, labels_p
from trainer.comparison.significance import holm
from trainer.evaluation.metrics import plain

CLEAR = 0.05  # an adjusted p-value below it is called a difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One run, or several runs of one setting, whose scores are averaged."""

    name: str
    runs: Sequence[Run]

    @functools.cached_property
    def parts(self) -> np.ndarray:
        """float64[runs, N, 2, C]; see `trainer.comparison.scores`."""
        return np.stack([run.parts for run in self.runs])

    @functools.cached_property
    def means(self) -> np.ndarray:
        """Mean IoU of each run: float64[runs]."""
        return scores_of(self.parts.sum(1))[:, MEAN]

    @functools.cached_property
    def image_scores(self) -> np.ndarray:
        """Mean IoU of each image, averaged over the runs: float64[N]; NaN without valid pixels."""
        scores: np.ndarray = scores_of(self.parts)[..., MEAN].mean(0)
        return scores


@dataclass(frozen=True)
class ImageDifference:
    """Mean IoU of one image on both sides."""

    filename: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Side `b` against side `a`.

    Attributes:
      adjusted: float64[1 + C], the p-values of `estimate` by Holm's method: mean IoU with that of other comparisons of
        the study, each class with all classes of all its comparisons.
      labels: the p-value of the permutation of runs, and the least that it can be; None with one run on a side.
      images: those with a score on both sides, `b` better first.
    """

    a: Side
    b: Side
    estimate: Estimate
    adjusted: np.ndarray
    labels: tuple[float, float] | None
    images: Sequence[ImageDifference]

    def verdict(self, place: int) -> str:
        """Of mean IoU or a class: which side is better by more than chance; "unclear" if neither is."""
        if not self.adjusted[place] < CLEAR:
            return "unclear"
        return "better" if self.estimate.difference[place] > 0 else "worse"


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """All that was compared. The first side is `a` of each comparison."""

    class_names: Sequence[str]
    sides: Sequence[Side]
    comparisons: Sequence[Comparison]
    cautions: Sequence[str]
    settings: Sequence[configuration.Setting]
    argv: Sequence[str]

    @property
    def runs(self) -> list[Run]:
        return [run for side in self.sides for run in side.runs]

    @property
    def names(self) -> list[str]:
        """Of the places of scores."""
        return ["mean IoU", *self.class_names]

    @property
    def split(self) -> str:
        return str(self.runs[0].metrics["split"])

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", "trainer.compare", *self.argv])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        return {
            "command": self.command,
            "split": self.split,
            "dataset": self.runs[0].fingerprint,
            "images": len(self.runs[0].filenames),
            "sides": [{"name": side.name, "runs": [_run_json(run) for run in side.runs]} for side in self.sides],
            "cautions": list(self.cautions),
            "comparisons": [_comparison_json(each, self.class_names) for each in self.comparisons],
            "settings": {each.name: dict(each.values) for each in self.settings},
        }


def study(runs: Sequence[Run], sizes: Sequence[int], argv: Sequence[str] = ()) -> Study:
    """Compares each later side with the first.

    Args:
      runs: of all sides, one after the other.
      sizes: number of runs of each side.
      argv: the command line, to be shown.

    Raises:
      ComparisonError: the runs can't be compared.
    """
    fitting = iter(matched(runs))
    divided = [[next(fitting) for _ in range(size)] for size in sizes]
    names = [
        side[0].name if max(sizes) == 1 else letter for side, letter in zip(divided, _letters(len(sizes)), strict=True)
    ]
    sides = [Side(name=name, runs=side) for name, side in zip(names, divided, strict=True)]
    estimates = [_estimate(sides[0], side) for side in sides[1:]]
    comparisons = [
        Comparison(
            a=sides[0],
            b=side,
            estimate=estimate,
            adjusted=adjusted,
            labels=labels_p(sides[0].means, side.means) if min(len(sides[0].runs), len(side.runs)) > 1 else None,
            images=_image_differences(sides[0], side),
        )
        for side, estimate, adjusted in zip(sides[1:], estimates, _adjusted(estimates), strict=True)
    ]
    return Study(
        class_names=runs[0].class_names,
        sides=sides,
        comparisons=comparisons,
        cautions=[*cautions(divided)],
        settings=configuration.differing(runs),
        argv=argv,
    )


def _letters(count: int) -> list[str]:
    return [chr(ord("A") + place) for place in range(count)]


def _estimate(a: Side, b: Side) -> Estimate:
    if len(a.runs) == len(b.runs) == 1:
        return compare_pair(a.parts[0], b.parts[0])
    return compare_several(a.parts, b.parts)


def _adjusted(estimates: Sequence[Estimate]) -> np.ndarray:
    """float64[comparisons, 1 + C]."""
    p = np.stack([estimate.p for estimate in estimates])
    classes = holm(p[:, 1:].ravel()).reshape(len(p), -1)
    return np.concatenate([holm(p[:, MEAN])[:, np.newaxis], classes], axis=1)


def _image_differences(a: Side, b: Side) -> list[ImageDifference]:
    rows = zip(a.runs[0].filenames, a.image_scores.tolist(), b.image_scores.tolist(), strict=True)
    found = [ImageDifference(*row) for row in rows if not (math.isnan(row[1]) or math.isnan(row[2]))]
    return sorted(found, key=lambda each: (-each.difference, each.filename))


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "report": run.report,
        "model": run.metrics["model"],
        **_named([*run.class_names], run.scores),
    }


def _comparison_json(each: Comparison, class_names: Sequence[str]) -> dict[str, Any]:
    rows = [
        {
            "a": plain(estimate.a[place]),
            "b": plain(estimate.b[place]),
            "difference": plain(estimate.difference[place]),
            "interval_95": [plain(limit) for limit in estimate.interval[place]],
            "p": plain(estimate.p[place]),
            "p_adjusted": plain(each.adjusted[place]),
        }
        for estimate in [each.estimate]
        for place in range(1 + len(class_names))
    ]
    p, least = each.labels or (None, None)
    return {
        "a": each.a.name,
        "b": each.b.name,
        "method": each.estimate.method,
        "mean_iou": rows[0],
        "class_iou": dict(zip(class_names, rows[1:], strict=True)),
        "permutation_of_runs": None if p is None else {"p": p, "least": least},
        "image_mean_iou": [
            {"filename": image.filename, "a": image.a, "b": image.b, "difference": image.difference}
            for image in each.images
        ],
    }


def _named(names: Sequence[str], scores: np.ndarray) -> dict[str, Any]:
    values = [plain(score) for score in scores]
    return {"mean_iou": values[MEAN], "class_iou": dict(zip(names, values[1:], strict=True))}
