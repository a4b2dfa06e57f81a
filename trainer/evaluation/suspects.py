"""Suspected label errors: regions where a model holds the labels for nearly impossible.

That a model which has not seen an image in training is sure of another class is evidence against the label: the idea of
confident learning (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3).
In segmentation, most such pixels lie along boundaries, where labels are a few pixels off. A score of all pixels, as
the soft minimum of Lad and Mueller 2023 ("Estimating label quality and errors in semantic segmentation data via any
model", section 3), sees these first. So this score, which is our own, counts wide regions only.
"""

from __future__ import annotations

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.evaluation.boundaries import SHARE_OF_DIAGONAL, grown, reach_in

IMPOSSIBLE = 0.01  # probability of a label up to which it is suspected
_PART_OF_REACH = 3  # of what is near a boundary: two thirds of a percent of the diagonal
SIDE_OF_DIAGONAL = 2 * SHARE_OF_DIAGONAL / _PART_OF_REACH  # of a square, about


def suspect_regions(mask: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """The pixels of suspected label errors: all squares of `side_of` pixels (cut off at the edge of the image) in which
    no pixel's label has a probability above IMPOSSIBLE. Works in tf.function with any sizes.

    Args:
      mask: train ids uint8[B, H, W]; a square has no pixels that are IGNORE.
      probabilities: float32[B, H, W, C].

    Returns:
      bool[B, H, W].
    """
    is_valid = mask != IGNORE
    known = tf.where(is_valid, tf.cast(mask, tf.int32), 0)
    impossible = is_valid & (tf.gather(probabilities, known, batch_dims=3) <= IMPOSSIBLE)
    steps = _steps(reach_in(mask))
    return grown(~grown(~impossible, steps), steps)


def side_of(reach: tf.Tensor) -> tf.Tensor:
    """The side of a square, in pixels, int32."""
    return 2 * _steps(reach) + 1


def _steps(reach: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1, reach // _PART_OF_REACH)
