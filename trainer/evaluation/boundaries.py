"""The pixels of a class map that lie near the boundary of their own class.

As in Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", section
4 and the reference code): a pixel is near if eroding its class by `reach` steps of 3x3 removes it, that is, if a pixel
of another class is at most `reach` pixels away in both directions. `reach` is 2 % of the diagonal.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

_SHARE_OF_DIAGONAL = 0.02


def reach_of(height: Any, width: Any) -> tf.Tensor:
    """How far from a boundary a pixel is near, in pixels, int32, at least 1."""
    sides = tf.cast(tf.stack([height, width]), tf.float32)
    diagonal = tf.sqrt(tf.reduce_sum(sides * sides))
    return tf.maximum(1, tf.cast(tf.round(_SHARE_OF_DIAGONAL * diagonal), tf.int32))


def near_boundaries(ids: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """Which pixels have another class within reach. Works in tf.function with any sizes.

    Pixels that are `IGNORE` are not near, and belong to no other class: the edge of an ignored region is no boundary.

    Args:
      ids: train ids uint8[B, H, W].
      reach: int32.

    Returns:
      bool[B, H, W].
    """
    is_valid = ids != IGNORE
    # The largest id and, as its complement, the smallest one; zero is below both.
    both = tf.where(is_valid, tf.stack([ids + 1, IGNORE - ids]), 0)
    largest = both
    for axis in (2, 3):
        largest = _largest_within(largest, reach, axis)
    return tf.reduce_any(largest != both, axis=0) & is_valid


def near_edges(height: Any, width: Any, reach: tf.Tensor) -> tf.Tensor:
    """Which pixels of an image have the outside within reach. -> bool[H, W]."""
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)
    inside = (rows >= reach) & (rows < height - reach) & (columns >= reach) & (columns < width - reach)
    return ~inside


def _largest_within(values: tf.Tensor, reach: tf.Tensor, axis: int) -> tf.Tensor:
    """The largest of the 2 reach + 1 values around each one: windows are doubled, so that wide ones cost little more.

    The rolled values that come in at the other end are never used.
    """
    window, length = 2 * reach + 1, tf.shape(values)[axis]
    margins = tf.stack([tf.stack([reach, reach]) if each == axis else tf.zeros(2, tf.int32) for each in range(4)])
    padded = tf.pad(values, margins)

    def double(width: tf.Tensor, largest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return 2 * width, tf.maximum(largest, tf.roll(largest, -width, axis))

    width, largest = tf.while_loop(lambda width, _: 2 * width <= window, double, (tf.constant(1), padded))
    largest = tf.maximum(largest, tf.roll(largest, width - window, axis))
    size = [length if each == axis else -1 for each in range(4)]
    return tf.ensure_shape(tf.slice(largest, [0, 0, 0, 0], size), values.shape)
