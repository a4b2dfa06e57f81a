"""The training loss: cross entropy over the valid pixels, hard-pixel mining, and the terms of `terms.TERMS`.

Every term is an average over *one image*, and images are averaged by their weight, the sum of the class weights of
their valid pixels (without class weights: the number of their valid pixels):

    loss = sum_i weight_i * (entropy_i + sum_t factor_t * term_t,i)  /  sum_i weight_i

So the numerator and the denominator are sums over images: a global batch has one loss, however its images are spread
over replicas, processes and accumulated batches, and whatever share of each is `IGNORE`. With cross entropy alone it
is the mean over all valid pixels of the global batch. With several outputs (deep supervision) the terms of all outputs
are added, each with weight 1, as in U2-Net (Qin et al. 2020, equation 1).

    gradient on a replica = gradient of loss_sum / (weight_sum summed over replicas); then sum the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.objective.terms import TERMS


@dataclass(frozen=True, kw_only=True, eq=False)  # so that it can be traced: tf.function wants a hash
class SegmentationLoss:
    """The loss of a batch as a sum and the weight to divide it by.

    Attributes:
      class_weights: factor of each class's pixels, in the sum and in the weight; None is 1 for all. Only their ratios
        matter.
      hard_pixel_fraction: of each image's valid pixels, above 0 to 1: cross entropy averages those of the largest loss.
        As DeepLab's `top_k_percent_pixels`, but of each image rather than of a device's batch.
      hard_pixel_ramp_steps: steps over which the share goes linearly from 1 to `hard_pixel_fraction`; as DeepLab's
        `hard_example_mining_step`.
      terms: weights of the terms of `trainer.objective.terms.TERMS`, by their names; a term that is left out weighs 0.

    Raises:
      ValueError: one of these is out of its range.
    """

    class_weights: Sequence[float] | None = None
    hard_pixel_fraction: float = 1.0
    hard_pixel_ramp_steps: int = 0
    terms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = () if self.class_weights is None else self.class_weights
        if any(not 0 <= weight < np.inf for weight in weights):
            raise ValueError(f"class_weights {list(weights)}: each must be 0 or more, and finite")
        if not 0 < self.hard_pixel_fraction <= 1:
            raise ValueError(
                f"hard_pixel_fraction {self.hard_pixel_fraction}: a share above 0, at most 1, was expected"
            )
        unknown = self.terms.keys() - {term.name for term in TERMS}
        if unknown:
            raise ValueError(f"there is no term {min(unknown)!r}: {', '.join(term.name for term in TERMS)} are known")
        for name, value in {"hard_pixel_ramp_steps": self.hard_pixel_ramp_steps, **self.terms}.items():
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} {value}: 0 or more was expected")

    def __call__(
        self, labels: tf.Tensor, outputs: Sequence[tf.Tensor], step: tf.Tensor | int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums over the batch; `mean_loss` of their totals over all replicas is the loss.

        Pixels that are `IGNORE` have a gradient of exactly 0, even where their logits are not finite. A label that is
        neither a class nor `IGNORE` is an error on CPUs and gives NaN on GPUs, as in TensorFlow.

        Args:
          labels: train ids, uint8 or int32 [B, H, W].
          outputs: logits, any float [B, H, W, C] each; all is computed in float32.
          step: of the optimizer; needed with `hard_pixel_ramp_steps`, else not used.

        Returns:
          loss_sum and weight_sum, float32 scalars; (0, 0) where all is ignored.

        Raises:
          ValueError: `class_weights` are not as many as the logits' channels, or a ramp has no `step`.
        """
        with tf.name_scope("segmentation_loss"):
            truth, valid = _flatten(labels)
            weights = self._pixel_weights(truth, valid, outputs[0].shape[-1])
            image_weights = tf.reduce_sum(weights, axis=1)
            keep = self._share(step)
            losses = tf.add_n([self._image_losses(truth, valid, weights, logits, keep) for logits in outputs])
            return tf.reduce_sum(losses * image_weights), tf.reduce_sum(image_weights)

    def _image_losses(
        self, truth: tf.Tensor, valid: tf.Tensor, weights: tf.Tensor, logits: tf.Tensor, keep: tf.Tensor | None
    ) -> tf.Tensor:
        """-> float32[B]: each image's weighted sum of terms for one output."""
        logits = tf.cast(tf.reshape(logits, [tf.shape(truth)[0], -1, logits.shape[-1]]), tf.float32)
        logits = tf.where(valid[..., tf.newaxis], logits, 0.0)
        entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
        if keep is not None:
            weights *= hard_pixels(entropies * weights, valid, keep)
        weight = tf.reduce_sum(weights, axis=1)
        losses = tf.math.divide_no_nan(tf.reduce_sum(entropies * weights, axis=1), weight)
        weighted = [(self.terms[term.name], term) for term in TERMS if self.terms.get(term.name)]
        if weighted:
            probabilities = tf.nn.softmax(logits)
            members = tf.one_hot(truth, logits.shape[-1]) * tf.cast(valid, tf.float32)[..., tf.newaxis]
        for factor, term in weighted:
            losses += factor * term.function(probabilities, members, valid)
        return losses

    def _pixel_weights(self, truth: tf.Tensor, valid: tf.Tensor, classes: int) -> tf.Tensor:
        """-> float32[B, P], 0 where ignored."""
        mask = tf.cast(valid, tf.float32)
        if self.class_weights is None:
            return mask
        if len(self.class_weights) != classes:
            raise ValueError(f"{len(self.class_weights)} class weights, but the logits have {classes} channels")
        return mask * tf.gather(tf.constant(self.class_weights, tf.float32), truth)

    def _share(self, step: tf.Tensor | int | None) -> tf.Tensor | None:
        """-> the share of pixels to keep at `step`, float32 scalar; None is all of them."""
        if self.hard_pixel_fraction == 1:
            return None
        if not self.hard_pixel_ramp_steps:
            return tf.constant(self.hard_pixel_fraction, tf.float32)
        if step is None:
            raise ValueError("hard_pixel_ramp_steps needs the optimizer's step: loss(labels, outputs, step)")
        progress = tf.minimum(tf.cast(step, tf.float32) / self.hard_pixel_ramp_steps, 1.0)
        return 1.0 - (1.0 - self.hard_pixel_fraction) * progress


def mean_loss(loss_sum: tf.Tensor, weight_sum: tf.Tensor) -> tf.Tensor:
    """loss_sum / weight_sum, and 0 where nothing was valid."""
    return tf.math.divide_no_nan(loss_sum, weight_sum)


def hard_pixels(losses: tf.Tensor, valid: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
    """Which pixels are among the ceil(keep * valid pixels) of the largest loss in their image.

    Pixels that tie for the last places share them evenly, so the sum is exact and no pixel's position matters.

    Args:
      losses: float32 [B, P], 0 or more.
      valid: bool [B, P].
      keep: float32 scalar, above 0 to 1.

    Returns:
      float32 [B, P] from 0 to 1, without gradient.
    """
    ranked = tf.stop_gradient(tf.where(valid, losses, -1.0))
    places = tf.math.ceil(keep * tf.reduce_sum(tf.cast(valid, tf.float32), axis=1, keepdims=True))
    last = tf.maximum(tf.cast(places, tf.int32) - 1, 0)
    threshold = tf.gather(tf.sort(ranked, axis=1, direction="DESCENDING"), last, batch_dims=1)
    above = tf.cast(ranked > threshold, tf.float32)
    ties = tf.cast((ranked == threshold) & valid, tf.float32)
    free = places - tf.reduce_sum(above, axis=1, keepdims=True)
    return above + ties * tf.math.divide_no_nan(free, tf.reduce_sum(ties, axis=1, keepdims=True))


def _flatten(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """-> train ids int32[B, P] with 0 where ignored, and bool[B, P]: not ignored."""
    truth = tf.cast(tf.reshape(labels, [tf.shape(labels)[0], -1]), tf.int32)
    valid = truth != IGNORE
    return tf.where(valid, truth, 0), valid
