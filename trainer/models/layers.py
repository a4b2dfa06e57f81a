"""Layers that architectures share: padding, resizing, cropping, and convolution with batch normalization.

Importing this module registers them with Keras: then `keras.models.load_model` reads a best.keras. All classes of
layers that the models save are here.

The alignment of a convolution with stride 2 depends on the size: TensorFlow's padding="same" is symmetric only for odd
sizes, and an even size shifts the features by a pixel at each stride (see separable_conv2d_same in tensorflow/models
research/deeplab/core/xception.py). DeepLab therefore uses sizes of k * stride + 1 (513, 769, 1025x2049), for which
features are at the pixels 0, stride, 2 * stride, ..., and resizing with aligned corners is exact. U2-Net halves even
sizes with 2x2 windows; resizing at half-pixel centers reverses that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers

PACKAGE = "trainer"


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToMultiple(layers.Layer):
    """Pads [B, H, W, C] with zeros at the bottom and right to sizes of k * multiple + extra.

    Zero is the mean color of normalized images, with which the official code pads (feature_extractor.mean_pixel). It
    also continues the padding of convolutions, and unlike reflection, it works if the padding is larger than the image.
    """

    def __init__(self, multiple: int, extra: int = 0, **options: Any) -> None:
        super().__init__(**{"autocast": False, **options})
        self.multiple = multiple
        self.extra = extra

    def call(self, images: tf.Tensor) -> tf.Tensor:
        rows, columns = ((self.extra - size) % self.multiple for size in _sizes(images))
        padded = tf.pad(images, [[0, 0], [0, rows], [0, columns], [0, 0]])
        sizes = [None if size is None else size + (self.extra - size) % self.multiple for size in images.shape[1:3]]
        return tf.ensure_shape(padded, [images.shape[0], *sizes, images.shape[3]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multiple": self.multiple, "extra": self.extra}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ResizeLike(layers.Layer):
    """Resizes [B, h, w, C] bilinearly to the H and W of `like`. Computes in float32; returns the layer's dtype.

    align_corners=True: pixel i of n is at i / (n - 1), as in tf.image.resize_bilinear in the official DeepLab code.
    align_corners=False: it is at (i + 0.5) / n, as in torch.nn.Upsample in the official U2-Net code.
    """

    def __init__(self, align_corners: bool, **options: Any) -> None:
        super().__init__(**{"autocast": False, **options})
        self.align_corners = align_corners

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(x, tf.float32),
            size=tf.stack(_sizes(like)),
            align_corners=self.align_corners,
            half_pixel_centers=not self.align_corners,
        )
        resized = tf.ensure_shape(resized, [x.shape[0], *like.shape[1:3], x.shape[3]])
        return tf.cast(resized, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "align_corners": self.align_corners}


@keras.saving.register_keras_serializable(package=PACKAGE)
class CropLike(layers.Layer):
    """Crops [B, H', W', C] at the bottom and right to the H and W of `like`: the inverse of PadToMultiple."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"autocast": False, **options})

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        rows, columns = _sizes(like)
        return tf.ensure_shape(x[:, :rows, :columns], [x.shape[0], *like.shape[1:3], x.shape[3]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}  # without this method, Keras would omit the name and the dtype


@keras.saving.register_keras_serializable(package=PACKAGE)
class DivideByMaximum(layers.Layer):
    """Divides each image of [B, H, W, C] in 0..1 by its largest number, in float32.

    By a level of 8 bits at least, so that rounding is not amplified in black images.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"autocast": False, "dtype": "float32", **options})

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return images / tf.maximum(tf.reduce_max(images, axis=[1, 2, 3], keepdims=True), 1 / 255)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}  # without this method, Keras would omit the name and the dtype


@keras.saving.register_keras_serializable(package=PACKAGE)
class AtrousMaxPool(layers.Layer):
    """The maximum of 3x3 pixels that are `rate` apart, at stride 1: max pooling with dilation instead of a stride."""

    def __init__(self, rate: int, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate

    def call(self, x: tf.Tensor) -> tf.Tensor:
        rate, border = self.rate, [self.rate, self.rate]
        rows = tf.pad(x, [[0, 0], border, [0, 0], [0, 0]], constant_values=x.dtype.min)
        x = tf.maximum(x, tf.maximum(rows[:, : -2 * rate], rows[:, 2 * rate :]))
        columns = tf.pad(x, [[0, 0], [0, 0], border, [0, 0]], constant_values=x.dtype.min)
        return tf.maximum(x, tf.maximum(columns[:, :, : -2 * rate], columns[:, :, 2 * rate :]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """Convolution, batch normalization and ReLU, with the settings that the blocks of a network share.

    Attributes:
      width: factor of each number of filters except that of the classes; 1 is the published network.
      epsilon, momentum: of batch normalization.
      synchronized: whether batch normalization uses the statistics of all replicas.
      stddev, depthwise_stddev: of the truncated normal distribution of initial kernels; None for Glorot uniform.
      fan_out: whether initial kernels are normal with variance 2 / fan-out instead (He et al. 2015, arXiv 1502.01852).
      relu_limit: the largest output of a ReLU, 6 for ReLU6; None for no limit.
    """

    width: float
    epsilon: float
    momentum: float
    synchronized: bool
    stddev: float | None = None
    depthwise_stddev: float | None = None
    fan_out: bool = False
    relu_limit: float | None = None

    def filters(self, number: int) -> int:
        return max(1, round(number * self.width))

    def norm(self, x: Any, name: str) -> Any:
        return layers.BatchNormalization(
            epsilon=self.epsilon, momentum=self.momentum, synchronized=self.synchronized, name=f"{name}_bn"
        )(x)

    def conv(
        self,
        x: Any,
        filters: int,
        size: int,
        *,
        name: str,
        stride: int = 1,
        rate: int = 1,
        relu: bool = True,
        bias: bool = False,
    ) -> Any:
        """A `size` x `size` convolution with `filters` * width filters, batch normalization, and with `relu` a ReLU."""
        x = layers.Conv2D(
            self.filters(filters),
            size,
            strides=stride,
            dilation_rate=rate,
            padding="same",
            use_bias=bias,
            kernel_initializer=self._initializer(self.stddev),
            name=name,
        )(x)
        return self._normalized(x, name, relu)

    def depthwise(self, x: Any, *, name: str, relu: bool, size: int = 3, stride: int = 1, rate: int = 1) -> Any:
        """A `size` x `size` depthwise convolution, batch normalization, and with `relu` a ReLU.

        TensorFlow computes rate > 1 as space-to-batch, and does not support it together with stride > 1. An atrous
        network does not need both: its strides come before its rates.
        """
        x = layers.DepthwiseConv2D(
            size,
            strides=stride,
            dilation_rate=rate,
            padding="same",
            use_bias=False,
            depthwise_initializer=self._initializer(self.depthwise_stddev),
            name=name,
        )(x)
        return self._normalized(x, name, relu)

    def separable(
        self, x: Any, filters: int, *, name: str, depthwise_relu: bool, relu: bool, stride: int = 1, rate: int = 1
    ) -> Any:
        """3x3 depthwise and 1x1 pointwise convolutions with batch normalization after each, unlike SeparableConv2D."""
        x = self.depthwise(x, stride=stride, rate=rate, relu=depthwise_relu, name=f"{name}_depthwise")
        return self.conv(x, filters, 1, relu=relu, name=f"{name}_pointwise")

    def _normalized(self, x: Any, name: str, relu: bool) -> Any:
        x = self.norm(x, name)
        return layers.ReLU(self.relu_limit, name=f"{name}_relu")(x) if relu else x

    def _initializer(self, stddev: float | None) -> Any:
        """A new initializer for each layer: one of Keras returns the same numbers at each call."""
        if self.fan_out:
            return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return "glorot_uniform" if stddev is None else keras.initializers.TruncatedNormal(stddev=stddev)


def apply_block(name: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """Applies the layers of `function` to `inputs` as a model of their own, which is one line of the summary.

    It computes what the layers compute without it, and their variables have the same paths and initial values.
    """
    starts = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=f"{name}_input{number}")
        for number, x in enumerate(inputs, start=1)
    ]
    outputs = function(*starts)
    outputs = list(outputs) if isinstance(outputs, tuple) else outputs
    if len(starts) == 1:
        return keras.Model(starts[0], outputs, name=name)(inputs[0])
    return keras.Model(starts, outputs, name=name)(list(inputs))


def leaves(model: keras.Model) -> Iterator[layers.Layer]:
    """Yields the layers of a model and of its blocks, but not the blocks."""
    for each in model.layers:
        if isinstance(each, keras.Model):
            yield from leaves(each)
        else:
            yield each


def head_dtype() -> str:
    """The dtype of layers that compute logits: float32, also in mixed precision; float64 under the float64 policy."""
    return "float64" if keras.config.dtype_policy().compute_dtype == "float64" else "float32"


def _sizes(x: tf.Tensor) -> list[Any]:
    """H and W of [B, H, W, C]: int if static, else int32 scalars."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2)]
