"""The pixels of a class map that lie near the boundary of their own class.

As in Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", section
4 and the reference code): a pixel is near if eroding its class by `reach` steps of 3x3 removes it, that is, if a pixel
of another class is at most `reach` pixels away in both directions. `reach` is 2 % of the diagonal.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

SHARE_OF_DIAGONAL = 0.02


def reach_of(height: Any, width: Any) -> tf.Tensor:
    """How far from a boundary a pixel is near, in pixels, int32, at least 1."""
    sides = tf.cast(tf.stack([height, width]), tf.float32)
    diagonal = tf.sqrt(tf.reduce_sum(sides * sides))
    return tf.maximum(1, tf.cast(tf.round(SHARE_OF_DIAGONAL * diagonal), tf.int32))


def reach_in(ids: tf.Tensor) -> tf.Tensor:
    """`reach_of` the size of maps [B, H, W], static or not."""
    return reach_of(*(ids.shape[axis] or tf.shape(ids)[axis] for axis in (1, 2)))


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
    largest = _largest_around(both, reach)
    return tf.reduce_any(largest != both, axis=0) & is_valid


def near_edges(height: Any, width: Any, reach: tf.Tensor) -> tf.Tensor:
    """Which pixels of an image have the outside within reach. -> bool[H, W]."""
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)
    inside = (rows >= reach) & (rows < height - reach) & (columns >= reach) & (columns < width - reach)
    return ~inside


def grown(chosen: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """Which pixels have a chosen one within reach, in both directions. bool[B, H, W] -> bool[B, H, W]."""
    return _largest_around(tf.cast(chosen, tf.uint8)[tf.newaxis], reach)[0] > 0


def _largest_around(values: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """uint8[N, B, H, W] -> the largest value of the square of 2 reach + 1 pixels around each pixel."""
    for axis in (2, 3):
        values = _largest_within(values, reach, axis)
    return values


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
