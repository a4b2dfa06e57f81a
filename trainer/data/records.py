"""Parses the records of a data set, in any of its encodings."""

from __future__ import annotations

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
    pixels = manifest.pixels
    own = manifest.moments.normalization
    normalization = normalization or own
    shift, factor = normalization.shift_and_factor()
    scale, offset = (numbers.astype(np.float32) for numbers in own.change_to(normalization))

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = record.parse(
            serialized,
            image_format=pixels.image_format,
            mask_format=pixels.mask_format,
            height=pixels.height,
            width=pixels.width,
        )
        image = tf.cast(example["image"], tf.float32)
        if not pixels.normalized:
            return example | {"image": normalized(image)}
        return example | {"image": image if own == normalization else image * scale + offset}

    def normalized(image: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        # Repeating three numbers for a whole row is much faster.
        rows = tf.reshape(image, [shape[0], -1]) - tf.tile(shift, shape[1:2])
        return tf.reshape(rows * tf.tile(factor, shape[1:2]), shape)

    return parse
