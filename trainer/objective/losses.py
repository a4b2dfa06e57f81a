"""The training loss: cross entropy over valid pixels, hard-pixel mining, and the terms of `terms.TERMS`.

Each term is an average over *one image*. Images are averaged with their weights: the sum of the class weights of their
valid pixels, or without class weights, the number of valid pixels:

    loss = sum_i weight_i * (entropy_i + sum_t factor_t * term_t,i)  /  sum_i weight_i

Numerator and denominator are sums over images, so the loss of a global batch does not depend on how its images are
distributed over replicas, processes and accumulated batches, nor on the fraction of each that is `IGNORE`. With cross
entropy only, it is the mean over all valid pixels of the global batch. With several outputs (deep supervision), the
terms of all outputs are added with weight 1, as in U2-Net (Qin et al. 2020, equation 1).

    gradient on a replica = gradient of loss_sum / (weight_sum summed over replicas); then sum the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.objective.terms import TERMS


@dataclass(frozen=True, kw_only=True, eq=False)  # hashable, which tf.function needs
class SegmentationLoss:
    """The loss of a batch, as a sum and the weight to divide it by.

    Attributes:
      class_weights: factor of the pixels of each class, in the sum and in the weight; None is 1 for all. Only the
        ratios matter.
      label_smoothing: e, at least 0 and below 1: cross entropy is against (1 - e) * onehot + e / C (Szegedy et al.
        2016, arXiv 1512.00567, section 7). The weight of a pixel is that of its label, as with the sample weights of
        Keras' CategoricalCrossentropy; PyTorch's CrossEntropyLoss weights each class of the smoothed label instead. The
        other terms, which are measures of overlap, compare with the labels as they are.
      hard_pixel_fraction: fraction of the valid pixels of each image, above 0 and at most 1: cross entropy averages
        those with the largest loss. Like `top_k_percent_pixels` of DeepLab, but per image rather than per device.
      hard_pixel_ramp_steps: steps over which this fraction falls linearly from 1; like `hard_example_mining_step` of
        DeepLab.
      terms: name of a term in `trainer.objective.terms.TERMS` -> its weight; 0 if it is missing.

    Raises:
      ValueError: a value is out of range.
    """

    class_weights: Sequence[float] | None = None
    label_smoothing: float = 0.0
    hard_pixel_fraction: float = 1.0
    hard_pixel_ramp_steps: int = 0
    terms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = () if self.class_weights is None else self.class_weights
        if any(not 0 <= weight < np.inf for weight in weights):
            raise ValueError(f"class_weights {list(weights)}: expected finite numbers of at least 0")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing}: expected at least 0 and below 1")
        if not 0 < self.hard_pixel_fraction <= 1:
            raise ValueError(f"hard_pixel_fraction {self.hard_pixel_fraction}: expected above 0 and at most 1")
        unknown = self.terms.keys() - {term.name for term in TERMS}
        if unknown:
            raise ValueError(f"unknown term {min(unknown)!r}; the terms are {', '.join(term.name for term in TERMS)}")
        for name, value in {"hard_pixel_ramp_steps": self.hard_pixel_ramp_steps, **self.terms}.items():
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} {value}: expected at least 0")

    def __call__(
        self, labels: tf.Tensor, outputs: Sequence[tf.Tensor], step: tf.Tensor | int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums over the batch. The loss is the `mean_loss` of their totals over all replicas.

        Pixels that are `IGNORE` have a gradient of exactly 0, even if their logits are not finite. As in TensorFlow, a
        label that is neither a class nor `IGNORE` is an error on CPUs and gives NaN on GPUs.

        Args:
          labels: train ids, uint8 or int32 [B, H, W].
          outputs: logits [B, H, W, C] of any float dtype; the loss is computed in float32.
          step: step of the optimizer, needed for `hard_pixel_ramp_steps`.

        Returns:
          loss_sum and weight_sum, float32 scalars; both 0 if all pixels are ignored.

        Raises:
          ValueError: the number of `class_weights` is not that of the classes, or `step` is needed and missing.
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
        """-> float32[B]: the weighted sum of the terms of each image, for one output."""
        logits = tf.cast(tf.reshape(logits, [tf.shape(truth)[0], -1, logits.shape[-1]]), tf.float32)
        logits = tf.where(valid[..., tf.newaxis], logits, 0.0)
        entropies = self._entropies(truth, logits)
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

    def _entropies(self, truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """-> float32[B, P]: the cross entropy of each pixel."""
        entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
        if not self.label_smoothing:
            return entropies
        uniform = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        return (1.0 - self.label_smoothing) * entropies + self.label_smoothing * uniform

    def _pixel_weights(self, truth: tf.Tensor, valid: tf.Tensor, classes: int) -> tf.Tensor:
        """-> float32[B, P]: the weights of pixels; 0 if ignored."""
        mask = tf.cast(valid, tf.float32)
        if self.class_weights is None:
            return mask
        if len(self.class_weights) != classes:
            raise ValueError(
                f"there are {len(self.class_weights)} class weights, but the logits have {classes} channels"
            )
        return mask * tf.gather(tf.constant(self.class_weights, tf.float32), truth)

    def _share(self, step: tf.Tensor | int | None) -> tf.Tensor | None:
        """-> the fraction of pixels to keep at `step`, a float32 scalar; None for all."""
        if self.hard_pixel_fraction == 1:
            return None
        if not self.hard_pixel_ramp_steps:
            return tf.constant(self.hard_pixel_fraction, tf.float32)
        if step is None:
            raise ValueError("hard_pixel_ramp_steps needs the step of the optimizer: loss(labels, outputs, step)")
        progress = tf.minimum(tf.cast(step, tf.float32) / self.hard_pixel_ramp_steps, 1.0)
        return 1.0 - (1.0 - self.hard_pixel_fraction) * progress


def mean_loss(loss_sum: tf.Tensor, weight_sum: tf.Tensor) -> tf.Tensor:
    """loss_sum / weight_sum; 0 if no pixel was valid."""
    return tf.math.divide_no_nan(loss_sum, weight_sum)


def hard_pixels(losses: tf.Tensor, valid: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
    """Selects the ceil(keep * valid pixels) pixels with the largest loss in each image.

    Pixels that tie for the last places share them equally, so that the sum is exact and positions do not matter.

    Args:
      losses: float32 [B, P], at least 0.
      valid: bool [B, P].
      keep: float32 scalar, above 0 and at most 1.

    Returns:
      Factors of the pixels, float32 [B, P] from 0 to 1, without gradient.
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
    """-> train ids int32[B, P], 0 if ignored; and bool[B, P], whether a pixel is valid."""
    truth = tf.cast(tf.reshape(labels, [tf.shape(labels)[0], -1]), tf.int32)
    valid = truth != IGNORE
    return tf.where(valid, truth, 0), valid
