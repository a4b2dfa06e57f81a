"""Segments images of any size with a model and its description.

An image is resized to the height of the images in the data set, with its aspect ratio, and the probabilities are
resized back. If the data set has images of several sizes, an image keeps its own.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from trainer.inference.logits import predict_logits
from trainer.inference.model_file import Description
from trainer.inference.views import WHOLE, Views

# A float32 mean can be slightly less than an exact half; other means of up to 500 pixels differ from it by more.
_HALF = 0.5 + 1e-3


class Segmenter:
    """Segments images in TensorFlow only, so that it can be saved.

    Args:
      size: (height, width) that images are resized to instead, whatever their aspect ratio.
      views: see `trainer.inference.logits.predict_logits`.

    Attributes:
      probabilities: a tf.function of RGB images uint8[B, H, W, 3] -> float32[B, H, W, C], which sum to 1 over C.
      class_map: a tf.function of RGB images uint8[B, H, W, 3] -> uint8[B, H, W], the most probable train ids.
      probabilities_of_size, class_map_of_size: the same for images of `size`, to the same bits, without the operations
        that resize, some of which TFLite lacks; without `size`, the same functions.
    """

    def __init__(
        self,
        model: keras.Model,
        description: Description,
        *,
        size: tuple[int, int] | None = None,
        views: Views = WHOLE,
    ) -> None:
        self._model = model
        self._description = description
        self._size = size
        self._views = views
        sides = size or (None, None)
        # Not decorators, which hold only a weak reference to the instance.
        self._segment = tf.function(
            self._segmented, input_signature=[tf.TensorSpec([None, *sides, 3], tf.float32)], autograph=False
        )
        self.probabilities, self.class_map = self._functions(None, None)
        self.probabilities_of_size, self.class_map_of_size = (
            self._functions(*size) if size else (self.probabilities, self.class_map)
        )

    def _functions(self, *sides: int | None) -> tuple[Any, Any]:
        """`probabilities` and `class_map` of images of these sides; None is any."""
        signature = [tf.TensorSpec([None, *sides, 3], tf.uint8, name="images")]
        probabilities = tf.function(self._probabilities, input_signature=signature, autograph=False)

        def class_map(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.argmax(probabilities(images), -1, output_type=tf.int32), tf.uint8)

        return probabilities, tf.function(class_map, input_signature=signature, autograph=False)

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        pixels = _conformed(images, self._description, self._size)
        sides = [images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2)]
        return tf.image.resize(self._segment(pixels), sides)

    def _segmented(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32[B, h, w, 3] of 0..255 -> probabilities float32[B, h, w, C]."""
        normalized = _normalized(pixels, self._description)
        return tf.nn.softmax(predict_logits(self._model, normalized, self._views))


def network_input(images: tf.Tensor, description: Description, size: tuple[int, int] | None = None) -> tf.Tensor:
    """RGB uint8[B, H, W, 3] -> float32[B, h, w, 3], resized and normalized like the examples of the data set.

    (h, w) is `size`. Without it, h is the height of the images in the data set, or H if they have several; w keeps the
    aspect ratio.
    """
    return _normalized(_conformed(images, description, size), description)


def _normalized(pixels: tf.Tensor, description: Description) -> tf.Tensor:
    shift, factor = description.normalization.shift_and_factor()
    return (pixels - shift) * factor


def _conformed(images: tf.Tensor, description: Description, size: tuple[int, int] | None) -> tf.Tensor:
    """-> float32[B, h, w, 3], whole numbers of 0..255."""
    if size is not None and list(images.shape[1:3]) == list(size):
        return tf.cast(images, tf.float32)
    sides = tf.shape(images)[1:3]
    target = _trained(sides, description) if size is None else tf.constant(size)
    shrinks = tf.reduce_all(target <= sides) & tf.reduce_any(target < sides)
    # Antialiased, as in the pipeline, where one side shrinks and the other does not.
    enlarged = functools.partial(tf.image.resize, images, target, antialias=size is not None)
    pixels = tf.cond(shrinks, lambda: _shrunk(images, target), enlarged)
    return tf.clip_by_value(tf.floor(pixels + _HALF), 0, 255)


def _trained(sides: tf.Tensor, description: Description) -> tf.Tensor:
    """(H, W) -> (h, w) in the data set: its height, and the same aspect ratio."""
    height, width = sides[0], sides[1]
    target = height if description.size is None else description.size[0]
    return tf.stack([target, tf.maximum(1, (2 * width * target + height) // (2 * height))])


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
