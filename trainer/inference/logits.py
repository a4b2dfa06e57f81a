"""Test-time augmentation: the mean prediction over scales of an image, its mirror image, and windows of both."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.inference.views import Views, scaled
from trainer.inference.windows import predict_whole, predict_windows, sides_of


def predict_logits(model: keras.Model, images: tf.Tensor, views: Views) -> tf.Tensor:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, C] of the model's first output.

    The views of an image are its scales and, with `flip`, their mirror images. With several views, the result is the
    logarithm of their mean probabilities. As in DeepLab (`predict_labels_multi_scale` in tensorflow/models,
    research/deeplab/model.py), the logits of a view are resized back, not its probabilities.

    With a window, the model sees each view by windows: a scale changes what a window shows, and not its size, as in the
    tests of mmsegmentation and semseg. See `trainer.inference.windows`.

    Raises:
      ViewsError: an image has too many windows.
    """
    if images.shape[1] and images.shape[2]:
        views.check_windows(images.shape[1:3])
    predicted = [logits for scale in views.scales for logits in _views(model, images, scale, views)]
    if not views.several:
        return predicted[0]
    mean = tf.add_n([tf.nn.softmax(logits) for logits in predicted]) / len(predicted)
    return logarithm(mean)


def logarithm(probabilities: tf.Tensor) -> tf.Tensor:
    """Logits with these probabilities, float32; finite where one is 0."""
    return tf.math.log(tf.maximum(probabilities, np.finfo(np.float32).tiny))


def _views(model: keras.Model, images: tf.Tensor, scale: float, views: Views) -> list[tf.Tensor]:
    """The logits of the images at `scale`, and with `flip` of their mirror images, resized and mirrored back."""
    sides = sides_of(images)
    seen = images if scale == 1 else tf.image.resize(images, [_scaled(side, scale) for side in sides])
    if views.flip:  # in one batch, so that the model is traced once
        seen = tf.concat([seen, tf.reverse(seen, [2])], axis=0)
    logits = predict_whole(model, seen) if views.window is None else predict_windows(model, seen, views)
    logits = logits if scale == 1 else tf.image.resize(logits, sides)
    if not views.flip:
        return [logits]
    straight, mirrored = tf.split(logits, 2)
    return [straight, tf.reverse(mirrored, [2])]


def _scaled(side: Any, scale: float) -> Any:
    """A side in pixels, at least 1: an int, or an int32 scalar if `side` is one."""
    if isinstance(side, int):
        return scaled(side, scale)
    return tf.maximum(1, tf.cast(tf.round(tf.cast(side, tf.float32) * scale), tf.int32))
