"""A function that segments pictures of any size, from a model and its description.

A picture is resized to the height of the data set's images, with its aspect ratio, and the probabilities are resized
back. Where the data set had images of several sizes, a picture keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from trainer.inference.model_file import Description
from trainer.inference.views import predict_logits

_PICTURES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
# Float32 sums of a block can end up below the half that they are; means of up to 500 pixels differ by more than this.
_HALF = 0.5 + 1e-3


class Segmenter:
    """Segments pictures with `model`, in TensorFlow alone, so that it can be saved.

    scales, flip: see `trainer.inference.views.predict_logits`.

    Attributes, both tf.functions of RGB pictures uint8[B, H, W, 3]:
      probabilities: -> float32[B, H, W, C]; the C of a pixel sum up to 1.
      class_map: -> train ids uint8[B, H, W], the most probable.
    """

    def __init__(
        self, model: keras.Model, description: Description, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> None:
        self._model = model
        self._description = description
        self._scales = tuple(scales)
        self._flip = flip
        # Not decorators: those hold their instance only weakly.
        self.probabilities = tf.function(self._probabilities, input_signature=[_PICTURES])
        self.class_map = tf.function(self._class_map, input_signature=[_PICTURES])

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        logits = predict_logits(self._model, network_input(images, self._description), self._scales, self._flip)
        return tf.image.resize(tf.nn.softmax(logits), tf.shape(images)[1:3])

    def _class_map(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(self.probabilities(images), -1, output_type=tf.int32), tf.uint8)


def network_input(images: tf.Tensor, description: Description) -> tf.Tensor:
    """RGB uint8[B, H, W, 3] -> float32[B, h, w, 3], resized and normalized as the examples of the data set were.

    h is the height of the data set's images, or H where they had several, and w keeps the shape.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    target = height if description.size is None else description.size[0]
    size = tf.stack([target, tf.maximum(1, (2 * width * target + height) // (2 * height))])
    pixels = tf.cond(target < height, lambda: _shrunk(images, size), lambda: tf.image.resize(images, size))
    shift, factor = description.normalization.shift_and_factor()
    return (tf.clip_by_value(tf.floor(pixels + _HALF), 0, 255) - shift) * factor


def _shrunk(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Means over boxes, float32: those of Pillow's BOX, which `--resize=area` of the pipeline is.

    TensorFlow's own "area" weighs the pixels at the edge of a box, and differs by tens of levels where the factor is
    not whole.
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
