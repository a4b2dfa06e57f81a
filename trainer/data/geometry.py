"""Crops, scales and pads windows of an image, with the same geometry for its mask. Needs TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

Pair = tuple[tf.Tensor, tf.Tensor]  # image float32[h, w, 3], normalized, or uint8; mask uint8[h, w], train ids


@dataclass(frozen=True)
class Span:
    """One axis of a window: `taken` pixels from `start` on are resized to `resized` pixels. int32 scalars."""

    start: tf.Tensor
    taken: tf.Tensor
    resized: tf.Tensor

    def nearest(self) -> tf.Tensor:
        """int32[resized]: the nearest source pixel of each resized pixel, without rounding errors."""
        return self.start + (2 * tf.range(self.resized) + 1) * self.taken // (2 * self.resized)


def crop(image: tf.Tensor, mask: tf.Tensor, window: tuple[Span, Span]) -> Pair:
    """Crops the window (rows, columns) of a pair, whose pixels keep their type; what `cut` gives where nothing is
    resized.
    """
    rows, columns = (slice(span.start, span.start + span.taken) for span in window)
    return image[rows, columns], mask[rows, columns]


def cut(image: tf.Tensor, mask: tf.Tensor, window: tuple[Span, Span]) -> Pair:
    """Crops the window (rows, columns) of a pair and resizes it."""
    rows, columns = window
    taken = image[rows.start : rows.start + rows.taken, columns.start : columns.start + columns.taken]
    scaled = tf.image.resize(taken, tf.stack([rows.resized, columns.resized]))
    return scaled, tf.gather(tf.gather(mask, rows.nearest()), columns.nearest(), axis=1)


def window_of(
    shape: tf.Tensor, size: tuple[int, int], zoom: tf.Tensor, place: tf.Tensor, focus: tf.Tensor | None = None
) -> tuple[Span, Span]:
    """The window (rows, columns) of an image that has at most `size` after scaling by `zoom`.

    Args:
      shape: (height, width) of the image, int32[2].
      size: (height, width) in pixels.
      zoom: float32 scalar.
      place: float32[2] in 0..1, the position of the window along each axis.
      focus: float32[2] in 0..1, a point of the image which then has the position `place` within the window, or the
        next one that leaves the window inside the image. Negative or None for no such point.
    """
    spans = []
    for axis in (0, 1):
        taken, resized = _lengths(shape[axis], size[axis], zoom)
        start = _place(shape[axis] - taken, place[axis])
        if focus is not None:
            start = tf.where(focus[axis] < 0, start, _around(shape[axis], taken, place[axis], focus[axis]))
        spans.append(Span(start, taken, resized))
    return spans[0], spans[1]


def _lengths(length: tf.Tensor, output: int, zoom: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels taken and resized along an axis, whole numbers: a shift by a fraction of a pixel would blur the image."""
    taken = tf.clip_by_value(_round(output / zoom), 1, length)
    return taken, tf.clip_by_value(_round(tf.cast(length, tf.float32) * zoom), 1, output)


def _around(length: tf.Tensor, taken: tf.Tensor, place: tf.Tensor, focus: tf.Tensor) -> tf.Tensor:
    """The start of a window of `taken` pixels in which the pixel at `focus` of the axis has the position `place`."""
    return tf.clip_by_value(_place(length - 1, focus) - _place(taken - 1, place), 0, length - taken)


def pad(image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int], place: tf.Tensor) -> Pair:
    """Pads a pair to `size`, with the image at `place`, float32[2] in 0..1.

    The padding of the image is 0, the mean color; that of the mask is IGNORE.
    """
    shape = tf.shape(mask)
    before = [_place(size[axis] - shape[axis], place[axis]) for axis in (0, 1)]
    margins = [[before[axis], size[axis] - shape[axis] - before[axis]] for axis in (0, 1)]
    padded = tf.pad(image, [*margins, [0, 0]]), tf.pad(mask, margins, constant_values=IGNORE)
    return tf.ensure_shape(padded[0], [*size, 3]), tf.ensure_shape(padded[1], size)


def _place(room: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """`place` in 0..1 -> a whole number from 0 to `room`, each for an equal part of 0..1."""
    return tf.minimum(tf.cast(tf.cast(room + 1, tf.float32) * place, tf.int32), room)


def _round(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(value), tf.int32)
