"""Windows of a picture: cropped, scaled and padded, with one geometry for image and mask. Needs TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

Pair = tuple[tf.Tensor, tf.Tensor]  # image float32[h, w, 3] normalized, mask uint8[h, w] of train ids


@dataclass(frozen=True)
class Span:
    """Along one axis: the `taken` pixels from `start` on are resized to `resized` pixels. int32 scalars."""

    start: tf.Tensor
    taken: tf.Tensor
    resized: tf.Tensor

    def nearest(self) -> tf.Tensor:
        """int32[resized]: the source pixel of each resized one; in integers, so that no rounding moves it."""
        return self.start + (2 * tf.range(self.resized) + 1) * self.taken // (2 * self.resized)


def cut(image: tf.Tensor, mask: tf.Tensor, window: tuple[Span, Span]) -> Pair:
    """Crops the window (rows, columns) of the pair, and resizes it."""
    rows, columns = window
    taken = image[rows.start : rows.start + rows.taken, columns.start : columns.start + columns.taken]
    scaled = tf.image.resize(taken, tf.stack([rows.resized, columns.resized]))
    return scaled, tf.gather(tf.gather(mask, rows.nearest()), columns.nearest(), axis=1)


def window_of(shape: tf.Tensor, size: tuple[int, int], zoom: tf.Tensor, place: tf.Tensor) -> tuple[Span, Span]:
    """The window (rows, columns) of a picture of `shape` that has at most `size` once it is scaled by `zoom`.

    place: float32[2] in 0..1, where in the picture the window lies, along each axis.
    """
    rows, columns = (_span(shape[axis], size[axis], zoom, place[axis]) for axis in (0, 1))
    return rows, columns


def _span(length: tf.Tensor, output: int, zoom: tf.Tensor, place: tf.Tensor) -> Span:
    """In whole pixels: a shift by a fraction of one would blur the image."""
    taken = tf.clip_by_value(_round(output / zoom), 1, length)
    resized = tf.clip_by_value(_round(tf.cast(length, tf.float32) * zoom), 1, output)
    return Span(_place(length - taken, place), taken, resized)


def pad(image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int], place: tf.Tensor) -> Pair:
    """Pads a pair to `size`, with the picture at `place`, float32[2] in 0..1. Outside the picture the image is 0, the
    mean, and the mask is ignored.
    """
    shape = tf.shape(mask)
    before = [_place(size[axis] - shape[axis], place[axis]) for axis in (0, 1)]
    margins = [[before[axis], size[axis] - shape[axis] - before[axis]] for axis in (0, 1)]
    padded = tf.pad(image, [*margins, [0, 0]]), tf.pad(mask, margins, constant_values=IGNORE)
    return tf.ensure_shape(padded[0], [*size, 3]), tf.ensure_shape(padded[1], size)


def _place(room: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """`place` in 0..1 -> a whole number from 0 to `room`, each for an equal part of the range."""
    return tf.minimum(tf.cast(tf.cast(room + 1, tf.float32) * place, tf.int32), room)


def _round(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(value), tf.int32)
