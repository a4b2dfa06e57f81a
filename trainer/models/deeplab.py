"""DeepLabV3+: Chen et al. 2018, arXiv 1802.02611; details as in tensorflow/models, research/deeplab.

The official code works at sizes of k * output_stride + 1 (513 = 32 * 16 + 1, 1025x2049 for Cityscapes) and resizes with
aligned corners; images are padded here to such a size, and logits cropped back: see trainer/models/layers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import layers

from trainer.models import xception
from trainer.models.keras_xception import copy_weights, keras_xception, pretrained_xception
from trainer.models.layers import Convolutions, CropLike, PadToMultiple, ResizeLike, head_dtype

BACKBONES = (*xception.MIDDLE_UNITS, "keras_xception")

# By output stride: section 4 of the paper and research/deeplab/g3doc/model_zoo.md, column ASPP.
ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}

FILTERS = 256  # of ASPP (section 3.1; depth in model.py) and of the decoder (table 2; decoder_depth in model.py)
LOW_LEVEL_FILTERS = 48  # table 1 of the paper; feature_projection0 in model.py

# research/deeplab/model.py: batch_norm_params, _split_separable_conv2d and _get_branch_logits.
EPSILON = 1e-5
DEPTHWISE_STDDEV, POINTWISE_STDDEV, LOGITS_STDDEV = 0.33, 0.06, 0.01


def deeplabv3plus(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone: str = "xception65",
    output_stride: int = 16,
    backbone_weights: str = "none",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    depthwise_relu: bool = True,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.99,
    sync_batch_norm: bool = False,
    width: float = 1.0,
) -> keras.Model:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, num_classes], of any H and W.

    backbone: xception65, xception41 (the paper's) or keras_xception (that of keras.applications, made atrous).
    output_stride: 16, or 8, which is denser: about 4 times the work in most of the network.
    backbone_weights: none; for keras_xception also imagenet or a file: see `pretrained_xception`. Those weights were
        trained on pixels in -1..1, so that `mean` and `std`, with which the images were normalized, must then be given:
        a layer in front of the backbone turns (pixel / 255 - mean) / std back and into -1..1.
    depthwise_relu: of the paper's backbones: see `aligned_xception`.
    dropout: before the decoder, 1 - keep_prob in research/deeplab/model.py.
    batch_norm_momentum: the official 0.9997 needs tens of thousands of steps before moving averages mean something.
    sync_batch_norm: batch statistics over all replicas.
    width: multiplies the numbers of filters.
    """
    _check(backbone, output_stride, backbone_weights, mean, std, width)
    pretrained = None if backbone_weights == "none" else pretrained_xception(backbone_weights)
    convolutions = Convolutions(
        width=width, epsilon=xception.EPSILON, momentum=batch_norm_momentum, synchronized=sync_batch_norm
    )
    images = keras.Input(input_shape, name="images")
    padded = PadToMultiple(output_stride, extra=1, name="pad")(images)
    x = padded if pretrained is None else _rescaling(mean or (), std or ())(padded)
    features = _backbone(x, backbone, convolutions, output_stride, depthwise_relu)
    head = replace(convolutions, epsilon=EPSILON)
    encoded = _aspp(features.high, head, ATROUS_RATES[output_stride])
    encoded = layers.Dropout(dropout, name="aspp_dropout")(encoded)
    logits = _logits(_decode(encoded, features.low, head), padded, images, num_classes)
    model = keras.Model(images, logits, name="deeplabv3plus")
    if pretrained is not None:
        copy_weights(pretrained, model)
    return model


def _check(
    backbone: str,
    output_stride: int,
    backbone_weights: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    width: float,
) -> None:
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}: one of {', '.join(BACKBONES)}")
    if output_stride not in ATROUS_RATES:
        raise ValueError(f"output_stride is {output_stride}: it can be 16 or 8")
    if backbone_weights == "none":
        return
    if backbone != "keras_xception" or width != 1:
        raise ValueError(
            f"backbone_weights={backbone_weights} fits keras_xception of width 1 only, and this is {backbone} of width "
            f"{width:g}: set backbone=keras_xception, or backbone_weights=none"
        )
    if mean is None or std is None or not len(mean) == len(std) == 3:
        raise ValueError(
            f"backbone_weights={backbone_weights} needs `mean` and `std`, three numbers each of pixel / 255, that the "
            "images were normalized with: the pretrained filters expect pixels in -1..1"
        )


def _rescaling(mean: Sequence[float], std: Sequence[float]) -> Any:
    """x = (pixel / 255 - mean) / std -> 2 * pixel / 255 - 1, in float32. A std of 0 normalized as 1 does."""
    scale = [2.0 * (each or 1.0) for each in std]
    offset = [2.0 * each - 1.0 for each in mean]
    return layers.Rescaling(scale, offset, dtype="float32", name="rescale")


def _backbone(
    x: Any, backbone: str, convolutions: Convolutions, output_stride: int, depthwise_relu: bool
) -> xception.Features:
    if backbone == "keras_xception":
        return keras_xception(x, convolutions, output_stride=output_stride)
    return xception.aligned_xception(
        x,
        replace(convolutions, stddev=xception.STDDEV, depthwise_stddev=xception.STDDEV),
        middle_units=xception.MIDDLE_UNITS[backbone],
        output_stride=output_stride,
        depthwise_relu=depthwise_relu,
    )


def _aspp(x: Any, convolutions: Convolutions, rates: tuple[int, ...]) -> Any:
    """Atrous spatial pyramid pooling, with separable convolutions: section 3.1; _extract_features in model.py."""
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pooling")(x)
    pooled = convolutions.conv(pooled, FILTERS, 1, name="aspp_image")
    branches = [
        ResizeLike(align_corners=True, name="aspp_image_resize")(pooled, x),
        convolutions.conv(x, FILTERS, 1, name="aspp_point"),
        *(_separable(x, convolutions, name=f"aspp_rate{rate}", rate=rate) for rate in rates),
    ]
    return convolutions.conv(layers.Concatenate(name="aspp_concat")(branches), FILTERS, 1, name="aspp_projection")


def _decode(encoded: Any, low: Any, convolutions: Convolutions) -> Any:
    """Features at stride 4: section 3.1 and figure 2; refine_by_decoder in model.py."""
    low = convolutions.conv(low, LOW_LEVEL_FILTERS, 1, name="decoder_low_level")
    encoded = ResizeLike(align_corners=True, name="decoder_resize")(encoded, low)
    x = layers.Concatenate(name="decoder_concat")([encoded, low])
    x = _separable(x, convolutions, name="decoder_conv1")
    return _separable(x, convolutions, name="decoder_conv2")


def _logits(x: Any, padded: Any, images: Any, num_classes: int) -> Any:
    """1x1 convolution, resized to the padded image and cropped to the image, in float32 whatever the policy."""
    start = keras.initializers.TruncatedNormal(stddev=LOGITS_STDDEV)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=start, dtype=head_dtype(), name="logits")(x)
    x = ResizeLike(align_corners=True, dtype="float32", name="logits_resize")(x, padded)
    return CropLike(dtype="float32", name="logits_crop")(x, images)


def _separable(x: Any, convolutions: Convolutions, *, name: str, rate: int = 1) -> Any:
    start = replace(convolutions, stddev=POINTWISE_STDDEV, depthwise_stddev=DEPTHWISE_STDDEV)
    return start.separable(x, FILTERS, rate=rate, depthwise_relu=True, relu=True, name=name)
