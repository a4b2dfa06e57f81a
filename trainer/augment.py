"""Random scale, crop, flip and colour: stateless, of static shape, and one geometry for image and mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE

Pair = tuple[tf.Tensor, tf.Tensor]


def make_augment(
    size: tuple[int, int], mean: Sequence[float], std: Sequence[float], scale: tuple[float, float], color: float
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]:
    """-> augment(image, mask, seed): float32[H, W, 3] normalized, uint8[H, W], int64[2] -> the same at `size`.

    Outside the picture the image is 0, the mean, and the mask is ignored. Ids never blend: the mask is taken from the
    nearest pixel. `mean` and `std` (of x / 255) undo the normalization for the colours; `color` 0 leaves them.
    """
    std = [value or 1.0 for value in std]  # as in the normalization: a channel of one value is only centred

    def augment(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> Pair:
        numbers = tf.random.stateless_uniform([8], seed)
        if color:
            image = _recolor(image, numbers[:4], color, tf.constant(mean, tf.float32), tf.constant(std, tf.float32))
        return cut(image, mask, size, _transform(tf.shape(mask), size, scale, numbers[4:]))

    return augment


def make_center_crop(size: tuple[int, int]) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]:
    """Without chance: the middle `size` of the picture, padded where it is smaller."""

    def crop(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> Pair:
        del seed
        half = tf.constant([0.5, 0.5, 0.5, 1.0])
        return cut(image, mask, size, _transform(tf.shape(mask), size, (1.0, 1.0), half))

    return crop


def cut(image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int], transform: tf.Tensor) -> Pair:
    """Takes each pixel of the result from where `transform` (float32[8], of ImageProjectiveTransformV3) points."""

    def projected(pixels: tf.Tensor, interpolation: str, fill: float) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels[None],
            transforms=transform[None],
            output_shape=tf.constant(size),
            fill_value=fill,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )[0]

    moved = tf.ensure_shape(projected(image, "BILINEAR", 0.0), [*size, 3])
    ids = tf.ensure_shape(projected(mask[..., None], "NEAREST", float(IGNORE))[..., 0], size)
    return moved, ids


def _transform(shape: tf.Tensor, size: tuple[int, int], scale: tuple[float, float], numbers: tf.Tensor) -> tf.Tensor:
    """float32[8]: a random scale between `scale`, a random place, a flip in half of the cases.

    In the scaled picture a window of `size` is placed where it fits, or, if the picture is smaller, around it.
    """
    zoom = scale[0] * (scale[1] / scale[0]) ** numbers[0]
    height, width = (tf.cast(shape[axis], tf.float32) for axis in (0, 1))
    top = _place(height - size[0] / zoom, numbers[1])
    left = _place(width - size[1] / zoom, numbers[2])
    step_x = tf.where(numbers[3] < 0.5, -1.0, 1.0) / zoom
    start_x = tf.where(numbers[3] < 0.5, left + size[1] / zoom, left)
    # Output pixel i has its centre at i + 1/2; the half pixels keep image and mask on one grid.
    x = start_x + 0.5 * step_x - 0.5
    y = top + 0.5 / zoom - 0.5
    zero = tf.zeros_like(x)
    return tf.stack([step_x, zero, x, zero, 1.0 / zoom, y, zero, zero])


def _place(room: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A whole pixel from 0 to `room`, which may be negative: a shift by parts of a pixel would blur the image."""
    return tf.sign(room) * tf.floor((tf.floor(tf.abs(room)) + 1) * number)


def _recolor(image: tf.Tensor, numbers: tf.Tensor, strength: float, mean: tf.Tensor, std: tf.Tensor) -> tf.Tensor:
    """Brightness, contrast, saturation within 1 +- strength (brightness: added), hue within +- strength / 10."""
    amounts = (2 * numbers - 1) * strength
    colors = image * std + mean
    colors = tf.image.adjust_contrast(colors + amounts[0], 1 + amounts[1])
    colors = tf.image.adjust_saturation(tf.clip_by_value(colors, 0.0, 1.0), 1 + amounts[2])
    return (tf.image.adjust_hue(colors, amounts[3] / 10) - mean) / std
