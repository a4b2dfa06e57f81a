"""Test-time augmentation: the mean prediction over several scales of an image and its mirror image."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.inference.views import Views
from trainer.models import as_list


def predict_logits(model: keras.Model, images: tf.Tensor, views: Views) -> tf.Tensor:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, C] of the model's first output.

    The views of an image are its scales and, with `flip`, their mirror images. With several views, the result is the
    logarithm of their mean probabilities. As in DeepLab (`predict_labels_multi_scale` in tensorflow/models,
    research/deeplab/model.py), the logits of a view are resized back, not its probabilities.
    """
    if not views.several:
        return _views(model, images, views.scales[0], flip=False)[0]
    predicted = [logits for scale in views.scales for logits in _views(model, images, scale, views.flip)]
    mean = tf.add_n([tf.nn.softmax(logits) for logits in predicted]) / len(predicted)
    return tf.math.log(tf.maximum(mean, np.finfo(np.float32).tiny))


def _views(model: keras.Model, images: tf.Tensor, scale: float, flip: bool) -> list[tf.Tensor]:
    """The logits of the images at `scale`, and with `flip` of their mirror images, resized and mirrored back."""
    sides = [images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2)]
    seen = images if scale == 1 else tf.image.resize(images, [_scaled(side, scale) for side in sides])
    seen = (
        tf.concat([seen, tf.reverse(seen, [2])], axis=0) if flip else seen
    )  # in one batch, so that the model is traced once
    logits = tf.cast(as_list(model(seen, training=False))[0], tf.float32)
    logits = logits if scale == 1 else tf.image.resize(logits, sides)
    if not flip:
        return [logits]
    straight, mirrored = tf.split(logits, 2)
    return [straight, tf.reverse(mirrored, [2])]


def _scaled(side: Any, scale: float) -> Any:
    """A side in pixels, at least 1: an int, or an int32 scalar if `side` is one."""
    if isinstance(side, int):
        return max(1, round(side * scale))
    return tf.maximum(1, tf.cast(tf.round(tf.cast(side, tf.float32) * scale), tf.int32))
