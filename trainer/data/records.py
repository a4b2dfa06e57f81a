"""Parses the records of a data set, in any of its encodings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.contract import record
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization

Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class Unnormalized:
    """An image that is normalized where it is taken: `image[rows, columns]` is float32[h, w, 3], normalized, and so is
    the whole image where TensorFlow needs a tensor.

    A crop then costs what its own pixels cost, with the same bits as a crop of the normalized image.
    """

    def __init__(self, stored: tf.Tensor, normalize: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._stored, self._normalize = stored, normalize

    def __getitem__(self, window: tuple[slice, slice]) -> tf.Tensor:
        return self._normalize(self._stored[window])

    def __tf_tensor__(self, dtype: tf.DType | None = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self._normalize(self._stored), dtype, name=name)


def parser(manifest: Manifest, normalization: Normalization | None = None) -> Parse:
    """A function: serialized record -> `image` float32[H, W, 3], normalized; `mask` uint8[H, W]; `filename`.

    Args:
      normalization: of the images that the function returns; None for that of the data set.
    """
    parse_lazily = lazy_parser(manifest, normalization)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse_lazily(serialized)
        return example | {"image": tf.convert_to_tensor(example["image"])}

    return parse


def lazy_parser(
    manifest: Manifest, normalization: Normalization | None = None
) -> Callable[[tf.Tensor], dict[str, Any]]:
    """As `parser`, but `image` is `Unnormalized`."""
    parse_stored = stored_parser(manifest)
    change = _normalizer(manifest, normalization or manifest.moments.normalization)

    def parse(serialized: tf.Tensor) -> dict[str, Any]:
        example = parse_stored(serialized)
        return example | {"image": Unnormalized(example["image"], change)}

    return parse


def _normalizer(manifest: Manifest, normalization: Normalization) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function: pixels as a data set stores them, [h, w, 3] -> float32[h, w, 3], normalized."""
    own = manifest.moments.normalization
    shift, factor = normalization.shift_and_factor()
    scale, offset = (numbers.astype(np.float32) for numbers in own.change_to(normalization))

    def change(stored: tf.Tensor) -> tf.Tensor:
        if not manifest.pixels.normalized:
            return normalize(stored, shift, factor)
        image = tf.cast(stored, tf.float32)
        return image if own == normalization else image * scale + offset

    return change


def normalize(pixels: tf.Tensor, shift: Any, factor: Any) -> tf.Tensor:
    """uint8[..., h, w, 3] -> float32[..., h, w, 3]: (pixel - shift) * factor, with float32[3] each. The bits of a pixel
    depend on nothing else.
    """
    shape = tf.shape(pixels)
    # Repeating three numbers for a whole row is much faster.
    rows = tf.reshape(tf.cast(pixels, tf.float32), tf.concat([shape[:-2], [-1]], 0)) - tf.tile(shift, shape[-2:-1])
    return tf.ensure_shape(tf.reshape(rows * tf.tile(factor, shape[-2:-1]), shape), pixels.shape)


def pixel_parser(manifest: Manifest) -> Parse:
    """A function: serialized record -> `image` RGB uint8[H, W, 3], the pixels before any normalization; `mask` uint8[H,
    W]; `filename`.

    They are exact for all encodings: float16 holds a normalized pixel to less than a tenth of a level.
    """
    normalization = manifest.moments.normalization
    parse = stored_parser(manifest)

    def parse_pixels(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized)
        if not manifest.pixels.normalized:
            return example
        levels = (tf.cast(example["image"], tf.float64) * normalization.divisor + normalization.center) * 255
        return example | {"image": tf.cast(tf.clip_by_value(tf.round(levels), 0, 255), tf.uint8)}

    return parse_pixels


def stored_parser(manifest: Manifest) -> Parse:
    """As `beam_pipelines.contract.record.parse`, for the records of a data set."""
    pixels = manifest.pixels
    return functools.partial(
        record.parse,
        image_format=pixels.image_format,
        mask_format=pixels.mask_format,
        height=pixels.height,
        width=pixels.width,
    )
