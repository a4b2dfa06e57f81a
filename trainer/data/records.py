"""Parses the records of a data set, in any of its encodings."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from beam_pipelines.contract import record
from beam_pipelines.contract.manifest import Manifest

Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def parser(manifest: Manifest) -> Parse:
    """A function: serialized record -> `image` float32[H, W, 3], normalized; `mask` uint8[H, W]; `filename`."""
    pixels = manifest.pixels
    shift, factor = manifest.moments.normalization.shift_and_factor()

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = record.parse(
            serialized,
            image_format=pixels.image_format,
            mask_format=pixels.mask_format,
            height=pixels.height,
            width=pixels.width,
        )
        image = tf.cast(example["image"], tf.float32)
        return example | {"image": image if pixels.normalized else normalized(image)}

    def normalized(image: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        # Repeating three numbers for a whole row is much faster.
        rows = tf.reshape(image, [shape[0], -1]) - tf.tile(shift, shape[1:2])
        return tf.reshape(rows * tf.tile(factor, shape[1:2]), shape)

    return parse
