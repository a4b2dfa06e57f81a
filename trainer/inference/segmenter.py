"""Segments images of any size with a model and its description.

An image is resized to the height of the images in the data set, with its aspect ratio, and the probabilities are
resized back. If the data set has images of several sizes, an image keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from trainer.inference.model_file import Description
from trainer.inference.views import predict_logits

_PICTURES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
# A float32 mean can be slightly less than an exact half; other means of up to 500 pixels differ from it by more.
_HALF = 0.5 + 1e-3


class Segmenter:
    """Segments images in TensorFlow only, so that it can be saved.

    Args:
      scales, flip: see `trainer.inference.views.predict_logits`.

    Attributes:
      probabilities: a tf.function of RGB images uint8[B, H, W, 3] -> float32[B, H, W, C], which sum to 1 over C.
      class_map: a tf.function of RGB images uint8[B, H, W, 3] -> uint8[B, H, W], the most probable train ids.
    """

    def __init__(
        self, model: keras.Model, description: Description, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> None:
        self._model = model
        self._description = description
        self._scales = tuple(scales)
        self._flip = flip
        # Not decorators, which hold only a weak reference to the instance.
        self.probabilities = tf.function(self._probabilities, input_signature=[_PICTURES], autograph=False)
        self.class_map = tf.function(self._class_map, input_signature=[_PICTURES], autograph=False)

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        logits = predict_logits(self._model, network_input(images, self._description), self._scales, self._flip)
        return tf.image.resize(tf.nn.softmax(logits), tf.shape(images)[1:3])

    def _class_map(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(self.probabilities(images), -1, output_type=tf.int32), tf.uint8)


def network_input(images: tf.Tensor, description: Description) -> tf.Tensor:
    """RGB uint8[B, H, W, 3] -> float32[B, h, w, 3], resized and normalized like the examples of the data set.

    h is the height of the images in the data set, or H if they have several; w keeps the aspect ratio.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    target = height if description.size is None else description.size[0]
    size = tf.stack([target, tf.maximum(1, (2 * width * target + height) // (2 * height))])
    pixels = tf.cond(target < height, lambda: _shrunk(images, size), lambda: tf.image.resize(images, size))
    shift, factor = description.normalization.shift_and_factor()
    return (tf.clip_by_value(tf.floor(pixels + _HALF), 0, 255) - shift) * factor


def _shrunk(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Means over boxes, float32, as Pillow's BOX, which the pipeline uses for `--resize=area`.

    TensorFlow's "area" weights the pixels at the edges of a box, and differs by tens of levels for fractional factors.
    """
    factors = tf.cast(size, tf.float32) / tf.cast(tf.shape(images)[1:3], tf.float32)
    return tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(images, tf.float32),
        size=size,
        scale=factors,
        translation=tf.zeros([2]),
        kernel_type="box",
        antialias=True,
    )
