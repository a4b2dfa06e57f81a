"""Scores of a confusion matrix, equal to those of cityscapesScripts, and their confidence intervals.

A new metric is a row of `METRICS`, from which metrics.json, the printed table and TensorBoard follow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import LabelTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores of a confusion matrix. All are fractions from 0 to 1, in float64; NaN if the denominator is 0.

    A class that occurs neither in the truth nor in the predictions has no IoU: it is NaN, left out of the mean and
    listed in `absent`, as in cityscapesScripts and keras.metrics.MeanIoU. A class that is predicted but never true has
    an IoU of 0.

    Attributes:
      confusion: int64 [C, C]; rows are the truth.
      labels: the table with the names and categories of the C classes.

    Raises:
      ValueError: the shapes do not fit, or a count is negative.
    """

    confusion: np.ndarray
    labels: LabelTable

    def __post_init__(self) -> None:
        classes = self.labels.num_classes
        if self.confusion.shape != (classes, classes) or not np.issubdtype(self.confusion.dtype, np.integer):
            found = f"{self.confusion.dtype}{list(self.confusion.shape)}"
            raise ValueError(f"confusion {found}: expected integer[{classes}, {classes}] for {classes} classes")
        if (self.confusion < 0).any():
            raise ValueError("a confusion matrix can't have negative counts")

    @functools.cached_property
    def class_iou(self) -> np.ndarray:
        """float64[C]: true positives / (true positives + false positives + false negatives)."""
        return _iou(self.confusion)

    @property
    def mean_iou(self) -> float:
        """Mean of `class_iou` over the classes that have one."""
        return mean_over_classes(self.class_iou)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes without an IoU."""
        return tuple(row.name for row, iou in zip(self.labels.classes, self.class_iou, strict=True) if math.isnan(iou))

    @functools.cached_property
    def category_iou(self) -> dict[str, float]:
        """IoU of each category of the table's classes, in the order of their first classes.

        The classes of a category count as one: to predict a bus for a car is not an error. As in cityscapesScripts
        (`getIouScoreForCategory`), true positives are the block of the category's evaluated labels, false negatives the
        rest of their rows, false positives the rest of their columns. There, rows of labels that are ignored in
        evaluation are skipped, even if their category is the same (parking is "flat"). Only columns of such labels
        could make a difference, and a model of the evaluated classes never predicts them.
        """
        names = tuple(dict.fromkeys(row.category for row in self.labels.classes))
        member = np.array([[row.category == name for name in names] for row in self.labels.classes], np.int64)
        ious = _iou(member.T @ self.confusion @ member)
        return {name: float(iou) for name, iou in zip(names, ious, strict=True)}

    @property
    def mean_category_iou(self) -> float:
        """Mean of `category_iou` over the categories that have one."""
        return mean_over_classes(np.array(list(self.category_iou.values())))

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the valid pixels that are predicted correctly."""
        return _share(np.trace(self.confusion), self.confusion.sum())

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `class_iou`, each class weighted by its true pixels (Long et al. 2015, section 5)."""
        pixels = self.confusion.sum(axis=1)
        return _share((pixels * np.nan_to_num(self.class_iou)).sum(), pixels.sum())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        names = [row.name for row in self.labels.classes]
        return {
            "pixels": int(self.confusion.sum()),
            **{metric.name: plain(metric.of(self)) for metric in METRICS},
            "class_iou": {name: plain(iou) for name, iou in zip(names, self.class_iou, strict=True)},
            "category_iou": {name: plain(iou) for name, iou in self.category_iou.items()},
            "absent": list(self.absent),
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class Metric:
    """One number for all classes: a row of `METRICS`.

    Attributes:
      name: in files.
      title: in printed tables.
      of: scores -> a fraction from 0 to 1; NaN if it is not defined.
    """

    name: str
    title: str
    of: Callable[[Scores], float]


METRICS = (
    Metric("mean_iou", "mean IoU", lambda scores: scores.mean_iou),
    Metric("mean_category_iou", "mean category IoU", lambda scores: scores.mean_category_iou),
    Metric("pixel_accuracy", "pixel accuracy", lambda scores: scores.pixel_accuracy),
    Metric("frequency_weighted_iou", "frequency-weighted IoU", lambda scores: scores.frequency_weighted_iou),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """Lower and upper limits of confidence intervals.

    Attributes:
      mean_iou: float64 [2].
      class_iou: float64 [C, 2]; NaN for a class without an IoU in any sample.
    """

    mean_iou: np.ndarray
    class_iou: np.ndarray

    def to_json(self, labels: LabelTable) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        pairs = [[plain(limit) for limit in pair] for pair in (self.mean_iou, *self.class_iou)]
        return {
            "mean_iou": pairs[0],
            "class_iou": {row.name: pair for row, pair in zip(labels.classes, pairs[1:], strict=True)},
        }


def bootstrap_interval(
    confusions: np.ndarray, *, seed: int, samples: int = 1000, confidence: float = 0.95
) -> Intervals:
    """Percentile bootstrap (Efron 1979) over images: the range of scores to expect for other images of the same kind.

    Each sample draws N of the N images with replacement and scores the sum of their confusion matrices. It draws images
    rather than pixels because the pixels of an image are not independent. The interval does not account for other
    cities or seeds, and is too narrow for fewer than some tens of images.

    Args:
      confusions: integer [N, C, C], one for each image; rows are the truth. Sums below 2^53.
      seed: equal seeds give equal intervals.
      samples: number of samples.
      confidence: at least 0 and below 1.

    Raises:
      ValueError: there are no images, or a number is out of its range.
    """
    if confusions.ndim != 3 or not len(confusions):
        raise ValueError(f"confusions of shape {confusions.shape}: expected [images, classes, classes] with images > 0")
    return bootstrap_of_counts(*counts_of(confusions), seed=seed, samples=samples, confidence=confidence)


def bootstrap_of_counts(
    hits: np.ndarray, truth: np.ndarray, shown: np.ndarray, *, seed: int, samples: int = 1000, confidence: float = 0.95
) -> Intervals:
    """`bootstrap_interval` of integers [N, C]: the correct, true and predicted pixels of each image and class."""
    if samples < 1 or not 0 <= confidence < 1:
        raise ValueError(f"samples {samples}, confidence {confidence}: expected at least 1, and at least 0 and below 1")
    draws = draw_images(len(hits), samples, np.random.default_rng(seed))
    hits, truth, shown = (draws @ part.astype(np.float64) for part in (hits, truth, shown))  # exact: below 2^53
    ious = iou_of_counts(hits, truth, shown)
    limits = [limits_of(column, confidence) for column in (_row_means(ious), *ious.T)]
    return Intervals(mean_iou=limits[0], class_iou=np.stack(limits[1:]))


def share_interval(hits: np.ndarray, pixels: np.ndarray, *, seed: int, samples: int = 1000) -> np.ndarray:
    """float64[2]: the 95 % limits of the share that integers [N], summed over images, are of others; as above."""
    draws = draw_images(len(hits), samples, np.random.default_rng(seed))
    drawn = draws @ np.stack([hits, pixels], axis=-1).astype(np.float64)
    return limits_of(_divide(drawn[:, 0], drawn[:, 1]))


def draw_images(images: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each image is in each sample of as many images, drawn with replacement: float64[samples, images]."""
    return generator.multinomial(images, np.full(images, 1 / images), samples).astype(np.float64)


def limits_of(values: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """float64[2]: the percentiles that have this share of the values between them; without NaNs, NaN if all are."""
    known = values[~np.isnan(values)]
    levels = ((1 - confidence) / 2, (1 + confidence) / 2)
    return np.quantile(known, levels) if known.size else np.full(2, np.nan)


def counts_of(confusions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correct, true and predicted pixels of each class, integer [..., C] each, of confusions [..., C, C]."""
    return np.diagonal(confusions, axis1=-2, axis2=-1), confusions.sum(axis=-1), confusions.sum(axis=-2)


def iou_of_counts(hits: np.ndarray, truth: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """hits / (truth + shown - hits), float64; NaN where nothing is true or predicted."""
    return _divide(hits, truth + shown - hits)


def _iou(confusion: np.ndarray) -> np.ndarray:
    return iou_of_counts(*counts_of(confusion))


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below in float64; NaN where below is 0."""
    shares: np.ndarray = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)
    return shares


def _row_means(values: np.ndarray) -> np.ndarray:
    """Means of [S, C] along C without NaNs; NaN for a row that has only NaNs."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1))


def mean_over_classes(values: np.ndarray) -> float:
    """The mean of [C] without NaNs; NaN if all are."""
    return float(_row_means(values[np.newaxis])[0])


def _share(part: float, whole: int) -> float:
    return float(part) / float(whole) if whole else math.nan


def plain(value: float) -> float | None:
    """For a JSON file: None for NaN."""
    return None if math.isnan(value) else float(value)
