"""Parses the records of a data set, in any of its encodings."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from beam_pipelines.contract import record
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization

Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def parser(manifest: Manifest, normalization: Normalization | None = None) -> Parse:
    """A function: serialized record -> `image` float32[H, W, 3], normalized; `mask` uint8[H, W]; `filename`.

    Args:
      normalization: of the images that the function returns; None for that of the data set.
    """
    parse_stored = _stored_parser(manifest)
    own = manifest.moments.normalization
    normalization = normalization or own
    shift, factor = normalization.shift_and_factor()
    scale, offset = (numbers.astype(np.float32) for numbers in own.change_to(normalization))

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse_stored(serialized)
        image = tf.cast(example["image"], tf.float32)
        if not manifest.pixels.normalized:
            return example | {"image": normalized(image)}
        return example | {"image": image if own == normalization else image * scale + offset}

    def normalized(image: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        # Repeating three numbers for a whole row is much faster.
        rows = tf.reshape(image, [shape[0], -1]) - tf.tile(shift, shape[1:2])
        return tf.reshape(rows * tf.tile(factor, shape[1:2]), shape)

    return parse


def pixel_parser(manifest: Manifest) -> Parse:
    """A function: serialized record -> `image` RGB uint8[H, W, 3], the pixels before any normalization; `mask` uint8[H,
    W]; `filename`.

    They are exact for all encodings: float16 holds a normalized pixel to less than a tenth of a level.
    """
    normalization = manifest.moments.normalization
    parse = _stored_parser(manifest)

    def parse_pixels(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized)
        if not manifest.pixels.normalized:
            return example
        levels = (tf.cast(example["image"], tf.float64) * normalization.divisor + normalization.center) * 255
        return example | {"image": tf.cast(tf.clip_by_value(tf.round(levels), 0, 255), tf.uint8)}

    return parse_pixels


def _stored_parser(manifest: Manifest) -> Parse:
    """As `beam_pipelines.contract.record.parse`, for the records of a data set."""
    pixels = manifest.pixels
    return functools.partial(
        record.parse,
        image_format=pixels.image_format,
        mask_format=pixels.mask_format,
        height=pixels.height,
        width=pixels.width,
    )
