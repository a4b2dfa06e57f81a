"""Changes of color: one linear map for each image. Needs TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.normalization import Normalization

# RGB -> luma and the two axes of hue, YIQ (NTSC, 1953): hue is an angle there, and a rotation keeps the luma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_RGB = np.linalg.inv(_YIQ)


def recolor(image: tf.Tensor, amounts: tf.Tensor, normalization: Normalization) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue. All of them are linear, so one matrix does it.

    Args:
      image: float32[H, W, 3], normalized.
      amounts: float32[4]. Adds the first to the brightness, multiplies contrast and saturation by 1 + the second and
        third, and rotates the hue by a tenth of the fourth, in turns.

    Returns:
      float32[H, W, 3], normalized; colors are clipped to 0..1 before normalization.
    """
    mean, std = normalization.center.astype(np.float32), normalization.divisor.astype(np.float32)
    brightness, contrast, saturation = amounts[0], 1 + amounts[1], 1 + amounts[2]
    angle = 2 * np.pi * amounts[3] / 10
    cosine, sine = saturation * tf.cos(angle), saturation * tf.sin(angle)
    chroma = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, cosine, -sine, 0.0, sine, cosine]), [3, 3])
    matrix = tf.transpose(_RGB @ chroma @ _YIQ)  # for colors as rows
    average = tf.reduce_mean(image, [0, 1]) * std + mean
    offset = tf.linalg.matvec(matrix, contrast * mean + (1 - contrast) * average + brightness, transpose_a=True)
    # From normalized to normalized in one step. Repeating three numbers for a whole row is much faster.
    shape = tf.shape(image)
    pixels = tf.reshape(image, [-1, 3]) @ (contrast * std[:, None] * matrix / std)
    shift, least, most = (tf.tile((value - mean) / std, shape[1:2]) for value in (offset, 0.0, 1.0))
    return tf.reshape(tf.clip_by_value(tf.reshape(pixels, [shape[0], -1]) + shift, least, most), shape)
