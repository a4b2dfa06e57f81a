"""What an evaluation measures of each image, as counts of pixels: sums over images are exact in any order.

A new measure is an entry of `measure`, a field of `trainer.evaluation.results.ImageResults`, and what is made of it.
"""

from __future__ import annotations

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.evaluation.boundaries import near_boundaries, near_edges, reach_of
from trainer.inference.segmenter import most_probable

CONFIDENCE_LEVELS = 1500  # a confidence c counts in level floor(1500 c)
_TEMPERATURE = 0.1  # of the label quality


def measure(mask: tf.Tensor, probabilities: tf.Tensor, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Measures the images of a batch; pixels that are `IGNORE` in the mask don't count.

    Works eagerly, in tf.function and under XLA with static shapes. An image may have up to 2^31 pixels.

    Args:
      mask: train ids uint8[B, H, W].
      probabilities: float32[B, H, W, C].
      pixels: RGB uint8[B, H, W, 3].

    Returns:
      confusions: int64[B, C, C], see `confusions`.
      near: int64[B, C, C], those of the pixels near a boundary between true classes, see `near_boundaries`.
      boundary: int64[B, C, 3]: of Boundary IoU (Cheng et al. 2021, equation 2) the pixels of the intersection, and the
        true and predicted pixels that are near the boundary of their class, or the edge of the image.
      levels: int64[B, 2, CONFIDENCE_LEVELS]: wrong and correct pixels by confidence, the largest probability.
      label_quality: float32[B], see `label_quality`.
      color: float32[B, 3], the mean of the pixels, 0..255.
    """
    prediction = most_probable(probabilities)
    counts, near, boundary = _boundary_counts(mask, prediction, probabilities.shape[-1])
    return {
        "confusions": counts,
        "near": near,
        "boundary": boundary,
        "levels": _levels(mask, prediction, probabilities),
        "label_quality": label_quality(mask, probabilities),
        "color": tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2]),
    }


def confusions(labels: tf.Tensor, predictions: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Counts the pixels of each image by true and predicted class, without those that are `IGNORE` in `labels`.

    Works eagerly, in tf.function and under XLA with static shapes. One image may have up to 2^31 pixels.

    Args:
      labels: train ids, uint8 or integer [B, ...].
      predictions: train ids below `num_classes`, integer [B, ...].
      num_classes: static.

    Returns:
      int64 [B, num_classes, num_classes]; rows are the truth.
    """
    truth = tf.cast(labels, tf.int32)
    cells = truth * num_classes + tf.cast(predictions, tf.int32)
    counts = _histograms(cells, truth != IGNORE, num_classes * num_classes)
    return tf.reshape(counts, [-1, num_classes, num_classes])


def confusion(labels: tf.Tensor, predictions: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The sum of `confusions` over the batch. -> int64 [num_classes, num_classes]; rows are the truth."""
    return tf.reduce_sum(confusions(labels, predictions, num_classes), axis=0)


def label_quality(mask: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """How well the labels of each image agree with the model: 1 if it is sure of each, low if some are surely wrong.

    The soft minimum over the valid pixels of the probability p of the label (Lad and Mueller 2023, "Estimating label
    quality and errors in semantic segmentation data via any model", section 3): the mean of p, weighted by
    exp((1 - p) / 0.1).

    Returns:
      float32[B]; NaN for an image without valid pixels.
    """
    is_valid = mask != IGNORE
    known = tf.where(is_valid, tf.cast(mask, tf.int32), 0)
    of_label = tf.gather(probabilities, known, batch_dims=3)
    weights = tf.where(is_valid, tf.exp((1 - of_label) / _TEMPERATURE), 0.0)
    return tf.reduce_sum(weights * of_label, [1, 2]) / tf.reduce_sum(weights, [1, 2])


def _boundary_counts(mask: tf.Tensor, prediction: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """-> `confusions`, `near` and `boundary` of `measure`."""
    height, width = (mask.shape[axis] or tf.shape(mask)[axis] for axis in (1, 2))
    reach, is_valid = reach_of(height, width), mask != IGNORE
    shown = tf.where(is_valid, tf.cast(prediction, tf.uint8), IGNORE)
    near_truth = near_boundaries(mask, reach)
    edges = near_edges(height, width, reach)
    in_truth, in_shown = near_truth | edges & is_valid, near_boundaries(shown, reach) | edges & is_valid
    truth, shown = tf.cast(mask, tf.int32), tf.cast(shown, tf.int32)
    parts = [(truth, in_truth & in_shown & (truth == shown)), (truth, in_truth), (shown, in_shown)]
    boundary = tf.stack([_histograms(ids, chosen, classes) for ids, chosen in parts], axis=-1)
    near = confusions(tf.where(near_truth, mask, IGNORE), prediction, classes)
    return confusions(mask, prediction, classes), near, boundary


def _levels(mask: tf.Tensor, prediction: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """-> `levels` of `measure`."""
    confidence = tf.reduce_max(probabilities, axis=-1)
    level = tf.minimum(tf.cast(confidence * CONFIDENCE_LEVELS, tf.int32), CONFIDENCE_LEVELS - 1)
    is_correct = tf.cast(tf.cast(mask, tf.int32) == prediction, tf.int32)
    counts = _histograms(is_correct * CONFIDENCE_LEVELS + level, mask != IGNORE, 2 * CONFIDENCE_LEVELS)
    return tf.reshape(counts, [-1, 2, CONFIDENCE_LEVELS])


def _histograms(values: tf.Tensor, chosen: tf.Tensor, size: int) -> tf.Tensor:
    """Counts the chosen values 0..size - 1 of each image: int32[B, ...] and bool[B, ...] -> int64[B, size]."""
    images = tf.shape(values)[0]
    flat = tf.reshape(tf.where(chosen, values, -1), [images, -1])
    cells = tf.where(flat < 0, -1, flat + tf.range(images)[:, tf.newaxis] * size)  # a negative segment is dropped
    counts = tf.math.unsorted_segment_sum(tf.ones_like(cells), cells, images * size)
    return tf.cast(tf.reshape(counts, [images, size]), tf.int64)
