"""Random scale, crop, flip and colour: stateless, of static shape, and one geometry for image and mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

Pair = tuple[tf.Tensor, tf.Tensor]

# RGB -> luma and the two axes of hue, YIQ (NTSC, 1953): hue is an angle there, and a rotation keeps the luma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_RGB = np.linalg.inv(_YIQ)


def make_augment(
    size: tuple[int, int], mean: Sequence[float], std: Sequence[float], scale: tuple[float, float], color: float
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]:
    """-> augment(image, mask, seed): float32[H, W, 3] normalized, uint8[H, W], int64[2] -> the same at `size`.

    Outside the picture the image is 0, the mean, and the mask is ignored. Ids never blend: the mask is taken from the
    nearest pixel. `mean` and `std` (of x / 255) are those of the normalization. `color` is the most that brightness,
    contrast and saturation change by, and the hue by a tenth of it; 0 leaves the colours.
    """
    center = np.array(mean, np.float32)
    spread = np.array([value or 1.0 for value in std], np.float32)  # as in the normalization

    def augment(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> Pair:
        numbers = tf.random.stateless_uniform([8], seed)
        zoom = scale[0] * (scale[1] / scale[0]) ** numbers[0]
        window = _window(tf.shape(mask), size, zoom, numbers[1:3])
        image, mask = cut(image, mask, window)
        if color:
            image = recolor(image, (2 * numbers[4:] - 1) * color, center, spread)
        return _pad(*_flip(image, mask, numbers[3] < 0.5), size, window)

    return augment


def make_center_crop(size: tuple[int, int]) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]:
    """Without chance: the middle `size` of the picture, padded where it is smaller."""

    def crop(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> Pair:
        del seed
        window = _window(tf.shape(mask), size, tf.constant(1.0), tf.constant([0.5, 0.5]))
        return _pad(*cut(image, mask, window), size, window)

    return crop


@dataclass(frozen=True)
class Span:
    """Along one axis: the `taken` pixels of the picture from `start` become `filled` ones, from `offset` on. int32."""

    start: tf.Tensor
    taken: tf.Tensor
    filled: tf.Tensor
    offset: tf.Tensor

    def nearest(self) -> tf.Tensor:
        """int32[filled]: the pixel of the picture that each one lies in. Integers: none is off by a rounding."""
        return self.start + (2 * tf.range(self.filled) + 1) * self.taken // (2 * self.filled)


def cut(image: tf.Tensor, mask: tf.Tensor, window: tuple[Span, Span]) -> Pair:
    """Takes the window (rows, columns) out of the pair, scaled."""
    rows, columns = window
    taken = image[rows.start : rows.start + rows.taken, columns.start : columns.start + columns.taken]
    scaled = tf.image.resize(taken, tf.stack([rows.filled, columns.filled]))
    return scaled, tf.gather(tf.gather(mask, rows.nearest()), columns.nearest(), axis=1)


def _window(shape: tf.Tensor, size: tuple[int, int], zoom: tf.Tensor, numbers: tf.Tensor) -> tuple[Span, Span]:
    rows, columns = (_span(shape[axis], size[axis], zoom, numbers[axis]) for axis in (0, 1))
    return rows, columns


def _span(length: tf.Tensor, output: int, zoom: tf.Tensor, number: tf.Tensor) -> Span:
    """In the scaled picture `output` pixels are placed where they fit, or, if it is smaller, around it. Whole pixels of
    the picture are taken: a shift by parts of one would blur the image.
    """
    taken = tf.clip_by_value(_round(output / zoom), 1, length)
    filled = tf.clip_by_value(_round(tf.cast(length, tf.float32) * zoom), 1, output)
    return Span(_place(length - taken, number), taken, filled, _place(output - filled, number))


def _place(room: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """One of the whole numbers 0 to `room`, each as likely."""
    return tf.cast(tf.cast(room + 1, tf.float32) * number, tf.int32)


def _round(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(value), tf.int32)


def _flip(image: tf.Tensor, mask: tf.Tensor, flipped: tf.Tensor) -> Pair:
    mirrored: Pair = tf.cond(flipped, lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])), lambda: (image, mask))
    return mirrored


def _pad(image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int], window: tuple[Span, Span]) -> Pair:
    margins = [[span.offset, length - span.filled - span.offset] for span, length in zip(window, size, strict=True)]
    padded = tf.pad(image, [*margins, [0, 0]]), tf.pad(mask, margins, constant_values=IGNORE)
    return tf.ensure_shape(padded[0], [*size, 3]), tf.ensure_shape(padded[1], size)


def recolor(image: tf.Tensor, amounts: tf.Tensor, mean: np.ndarray, std: np.ndarray) -> tf.Tensor:
    """Adds amounts[0] to the brightness, and to 1, the factor of contrast and of saturation, amounts[1] and [2]; turns
    the hue by amounts[3] / 10 of a circle. All of it is linear: one matrix for each pixel, and colours stay in 0..1.
    """
    brightness, contrast, saturation = amounts[0], 1 + amounts[1], 1 + amounts[2]
    angle = 2 * np.pi * amounts[3] / 10
    cosine, sine = saturation * tf.cos(angle), saturation * tf.sin(angle)
    chroma = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, cosine, -sine, 0.0, sine, cosine]), [3, 3])
    matrix = tf.transpose(_RGB @ chroma @ _YIQ)  # of colours that are rows
    average = tf.reduce_mean(image, [0, 1]) * std + mean
    offset = tf.linalg.matvec(matrix, contrast * mean + (1 - contrast) * average + brightness, transpose_a=True)
    # Straight from normalized to normalized; three numbers are repeated for a whole row, which is much faster.
    shape = tf.shape(image)
    pixels = tf.reshape(image, [-1, 3]) @ (contrast * std[:, None] * matrix / std)
    shift, least, most = (tf.tile((value - mean) / std, shape[1:2]) for value in (offset, 0.0, 1.0))
    return tf.reshape(tf.clip_by_value(tf.reshape(pixels, [shape[0], -1]) + shift, least, most), shape)
