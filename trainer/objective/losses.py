"""What training makes small: cross entropy over the valid pixels, hard-pixel mining, Lovász-softmax and soft Dice.

Every term is an average over *one image*, and images are averaged by their weight, the sum of the class weights of
their valid pixels (without class weights: the number of their valid pixels):

    loss = sum_i weight_i * (entropy_i + lovasz * lovasz_i + dice * dice_i)  /  sum_i weight_i

So the numerator and the denominator are sums over images: a global batch has one loss, however its images are spread
over replicas, processes and accumulated batches, and whatever share of each is `IGNORE`. With cross entropy alone it
is the mean over all valid pixels of the global batch. With several outputs (deep supervision) the terms of all outputs
are added, each with weight 1, as in U2-Net (Qin et al. 2020, equation 1).

    gradient on a replica = gradient of loss_sum / (weight_sum summed over replicas); then sum the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

CLASS_WEIGHTS = ("none", "median_frequency", "enet", "effective_number")


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss:
    """The loss of a batch as a sum and the weight to divide it by.

    Attributes:
      class_weights: factor of each class's pixels, in the sum and in the weight; None is 1 for all. Only their ratios
        matter.
      top_k: share, above 0 to 1, of each image's valid pixels, those of the largest loss, that cross entropy averages.
        As DeepLab's `top_k_percent_pixels`, but of each image rather than of a device's batch.
      top_k_ramp_steps: steps over which the share goes linearly from 1 to `top_k`; as DeepLab's
        `hard_example_mining_step`.
      lovasz: weight of the Lovász-softmax term.
      dice: weight of the soft Dice term.

    Raises:
      ValueError: one of these is out of its range.
    """

    class_weights: Sequence[float] | None = None
    top_k: float = 1.0
    top_k_ramp_steps: int = 0
    lovasz: float = 0.0
    dice: float = 0.0

    def __post_init__(self) -> None:
        weights = () if self.class_weights is None else self.class_weights
        if any(not 0 <= weight < np.inf for weight in weights):
            raise ValueError(f"class_weights {list(weights)}: each must be 0 or more, and finite")
        if not 0 < self.top_k <= 1:
            raise ValueError(f"top_k {self.top_k}: a share above 0, at most 1, was expected")
        for name in ("top_k_ramp_steps", "lovasz", "dice"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} {getattr(self, name)}: 0 or more was expected")

    def __call__(
        self, labels: tf.Tensor, outputs: Sequence[tf.Tensor], step: tf.Tensor | int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums over the batch; `mean_loss` of their totals over all replicas is the loss.

        Pixels that are `IGNORE` have a gradient of exactly 0, even where their logits are not finite. A label that is
        neither a class nor `IGNORE` is an error on CPUs and gives NaN on GPUs, as in TensorFlow.

        Args:
          labels: train ids, uint8 or int32 [B, H, W].
          outputs: logits, any float [B, H, W, C] each; all is computed in float32.
          step: of the optimizer; needed with `top_k_ramp_steps`, else not used.

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
        if self.lovasz or self.dice:
            probabilities = tf.nn.softmax(logits)
            members = tf.one_hot(truth, logits.shape[-1]) * tf.cast(valid, tf.float32)[..., tf.newaxis]
            if self.lovasz:
                losses += self.lovasz * lovasz_softmax(probabilities, members, valid)
            if self.dice:
                losses += self.dice * soft_dice(probabilities, members, valid)
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
        if self.top_k == 1:
            return None
        if not self.top_k_ramp_steps:
            return tf.constant(self.top_k, tf.float32)
        if step is None:
            raise ValueError("top_k_ramp_steps needs the optimizer's step: loss(labels, outputs, step)")
        progress = tf.minimum(tf.cast(step, tf.float32) / self.top_k_ramp_steps, 1.0)
        return 1.0 - (1.0 - self.top_k) * progress


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


def lovasz_softmax(probabilities: tf.Tensor, members: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Lovász-softmax (Berman et al. 2018, equations 9 and 12) of each image, over the classes present in its labels.

    Algorithm 1 takes differences of the Jaccard index along the sorted errors, which float32 can't do for millions of
    pixels. The same in closed form, with I and U the intersection and union up to and with a pixel: a pixel of the
    class adds 1 / U, another one I / (U * (U - 1)).

    Args:
      probabilities: float32 [B, P, C].
      members: one-hot labels, float32 [B, P, C], all 0 where ignored.
      valid: bool [B, P].

    Returns:
      float32 [B], from 0 to 1; 0 for an image without labels.
    """
    mask = tf.cast(valid, tf.float32)[..., tf.newaxis]
    errors = tf.transpose(tf.abs(members - probabilities) * mask, [0, 2, 1])
    order = tf.argsort(tf.stop_gradient(errors), axis=2, direction="DESCENDING")
    inside = tf.gather(tf.transpose(members, [0, 2, 1]), order, batch_dims=2)
    outside = 1.0 - inside  # with the ignored pixels: they are last, at an error of 0, and add 0
    size = tf.reduce_sum(inside, axis=2, keepdims=True)
    intersection = size - tf.cumsum(inside, axis=2)
    union = size + tf.cumsum(outside, axis=2)
    rises = tf.math.divide_no_nan(inside, union)
    rises += outside * tf.math.divide_no_nan(intersection, union * (union - 1.0))
    losses = tf.reduce_sum(tf.gather(errors, order, batch_dims=2) * rises, axis=2)
    return _mean_over_present(losses, members)


def soft_dice(probabilities: tf.Tensor, members: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """1 - 2 sum(p g) / (sum(p) + sum(g)) of each image (Sudre et al. 2017), the mean over the classes in its labels.

    A class that is present has sum(g) >= 1, so nothing needs smoothing. Arguments and result as of `lovasz_softmax`.
    """
    shown = probabilities * tf.cast(valid, tf.float32)[..., tf.newaxis]
    overlap = tf.reduce_sum(shown * members, axis=1)
    return _mean_over_present(
        1.0 - tf.math.divide_no_nan(2.0 * overlap, tf.reduce_sum(shown, axis=1) + tf.reduce_sum(members, axis=1)),
        members,
    )


def class_weights(class_pixels: Sequence[int], scheme: str, beta: float = 1 - 1e-7) -> np.ndarray:
    """Weights that raise rare classes, from the pixel counts of the train split. -> float32[C].

    A class without pixels has weight 0: its frequency says nothing, and it never occurs in training. Only ratios
    matter in `SegmentationLoss`, which divides by the sum of the weights.

    * `none`: 1.
    * `median_frequency`: median(f) / f (Eigen and Fergus 2015, SegNet), f the class's share of all labelled pixels and
      the median over the present classes. The papers count only images that have the class, which totals can't tell.
    * `enet`: 1 / ln(1.02 + f) (Paszke et al. 2016).
    * `effective_number`: (1 - beta) / (1 - beta^n) (Cui et al. 2019), scaled to a mean of 1 over the present classes.
      Classes of many more than 1 / (1 - beta) pixels count as equal, so the paper's beta of 0.9999, meant for images,
      does nothing for pixels; the default tells apart classes below some 10 million.

    Raises:
      ValueError: the scheme is unknown, beta is not within 0 and 1, a count is negative, or no class has pixels.
    """
    counts = np.asarray(class_pixels, np.float64)
    if counts.ndim != 1 or (counts < 0).any() or not counts.any():
        raise ValueError(f"class_pixels {list(class_pixels)}: counts of 0 or more, one above 0, were expected")
    if not 0 <= beta < 1:
        raise ValueError(f"beta {beta}: at least 0 and below 1 was expected")
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = _scheme(counts[present], scheme, beta)
    return weights.astype(np.float32)


def _scheme(counts: np.ndarray, scheme: str, beta: float) -> np.ndarray:
    """Weights of classes that all have pixels."""
    shares = counts / counts.sum()
    weights: np.ndarray = np.ones_like(counts)
    if scheme == "median_frequency":
        weights = np.median(shares) / shares
    elif scheme == "enet":
        weights = 1 / np.log(1.02 + shares)
    elif scheme == "effective_number" and beta:
        weights = (1 - beta) / -np.expm1(counts * np.log(beta))
        weights /= weights.mean()
    elif scheme not in CLASS_WEIGHTS:
        raise ValueError(f"class weights {scheme!r}: one of {', '.join(CLASS_WEIGHTS)} was expected")
    return weights


def _flatten(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """-> train ids int32[B, P] with 0 where ignored, and bool[B, P]: not ignored."""
    truth = tf.cast(tf.reshape(labels, [tf.shape(labels)[0], -1]), tf.int32)
    valid = truth != IGNORE
    return tf.where(valid, truth, 0), valid


def _mean_over_present(losses: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Mean of losses [B, C] over the classes that have pixels in members [B, P, C]. -> [B]."""
    present = tf.cast(tf.reduce_any(members > 0, axis=1), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * present, axis=1), tf.reduce_sum(present, axis=1))
