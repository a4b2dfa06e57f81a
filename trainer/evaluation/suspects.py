"""Suspected label errors: regions where a model is sure of another class than the label.

That a model which has not seen an image in training is sure of another class is evidence against the label: the idea of
confident learning (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3).
In segmentation, most sure errors lie along boundaries, where labels are a few pixels off; a score of all pixels, such
as the soft minimum of Lad and Mueller 2023 ("Estimating label quality and errors in semantic segmentation data via any
model", section 3), ranks images by these. So this score, which is our own, counts wide regions only.
"""

from __future__ import annotations

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.evaluation.boundaries import grown, near_boundaries, reach_in
from trainer.inference.segmenter import most_probable

SURE = 0.9  # probability from which on a model is called sure


def suspect_regions(mask: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """The pixels of suspected label errors.

    These are all squares of 2 reach + 1 pixels (`reach_of`; cut off at the edge of the image) of one label and one
    prediction, which differ, where the model is sure of the pixel in the middle. Ignored pixels don't count.

    Args:
      mask: train ids uint8[B, H, W].
      probabilities: float32[B, H, W, C].

    Returns:
      bool[B, H, W].
    """
    shown = tf.where(mask != IGNORE, tf.cast(most_probable(probabilities), tf.uint8), IGNORE)
    reach = reach_in(mask)
    near = near_boundaries(mask, reach) | near_boundaries(shown, reach)
    return regions_around(sure_errors(mask, shown, tf.reduce_max(probabilities, axis=-1)) & ~near, mask, reach)


def sure_errors(mask: tf.Tensor, shown: tf.Tensor, confidence: tf.Tensor) -> tf.Tensor:
    """Where the model is sure of another class. `shown` is the prediction, and IGNORE where `mask` is. -> bool."""
    return (mask != shown) & (confidence >= SURE)


def regions_around(middles: tf.Tensor, mask: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """The squares around their middles, without ignored pixels. -> bool[B, H, W]."""
    return grown(middles, reach) & (mask != IGNORE)
