"""The result of an evaluation, and the scores that follow from it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from trainer.evaluation.calibration import Calibration, error_interval
from trainer.evaluation.metrics import (
    Intervals,
    Scores,
    bootstrap_interval,
    bootstrap_of_counts,
    iou_of_counts,
    mean_over_classes,
)
from trainer.evaluation.results import ImageResults
from trainer.evaluation.slices import Slice, slices_of
from trainer.inference.views import Views

if TYPE_CHECKING:
    from trainer.evaluation.instances import InstanceScores


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The result of a model on a split.

    Attributes:
      split: name of the split.
      labels: the table of the C classes.
      images: of this host.
      confusion: int64[C, C], the exact sum over the images of all hosts.
      loss: mean cross entropy of the valid pixels of all hosts, in nats, for any training loss; NaN if no pixel is
        valid.
      views: what the model saw of each image; see `predict_logits`.
      instances: scores by objects, if files of instance ids were given.
    """

    split: str
    labels: LabelTable
    images: ImageResults
    confusion: np.ndarray
    loss: float
    views: Views
    instances: InstanceScores | None = None

    @functools.cached_property
    def scores(self) -> Scores:
        """The scores of all hosts."""
        return Scores(confusion=self.confusion, labels=self.labels)

    @functools.cached_property
    def image_scores(self) -> tuple[Scores, ...]:
        """The scores of each image of this host."""
        return tuple(Scores(confusion=counts, labels=self.labels) for counts in self.images.confusions)

    @functools.cached_property
    def intervals(self) -> Intervals:
        """95 % confidence intervals, over the images of this host."""
        return bootstrap_interval(self.images.confusions, seed=0)

    @functools.cached_property
    def boundary_iou(self) -> np.ndarray:
        """float64[C]: Boundary IoU over the images of this host; NaN for a class that is nowhere near a boundary."""
        return iou_of_counts(*self.images.boundary.sum(axis=0).T)

    @property
    def mean_boundary_iou(self) -> float:
        """Mean of `boundary_iou` over the classes that have one."""
        return mean_over_classes(self.boundary_iou)

    @functools.cached_property
    def boundary_intervals(self) -> Intervals:
        """95 % confidence intervals of `boundary_iou` and its mean."""
        return bootstrap_of_counts(*np.moveaxis(self.images.boundary, -1, 0), seed=0)

    @functools.cached_property
    def calibration(self) -> Calibration:
        """Of the pixels of all images of this host."""
        return Calibration(self.images.calibration.sum(axis=0))

    @functools.cached_property
    def calibration_interval(self) -> np.ndarray:
        """float64[2]: the 95 % confidence interval of the calibration error."""
        return error_interval(self.images.calibration, seed=0)

    @functools.cached_property
    def slices(self) -> list[Slice]:
        """Scores of parts of the images of this host."""
        return slices_of(self.images, self.labels)
