"""DeepLabV3+: Chen et al. 2018, arXiv 1802.02611; details as in tensorflow/models, research/deeplab.

The official code uses sizes of k * output_stride + 1 (513 = 32 * 16 + 1, 1025x2049 for Cityscapes) and resizes with
aligned corners. This model pads images to such a size and crops the logits back: see trainer/models/layers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras
from keras import layers

from beam_pipelines.contract.normalization import Normalization
from trainer.models.backbones import BACKBONES, BLOCK, Backbone
from trainer.models.decoders import DECODERS, Decoder
from trainer.models.errors import ModelError
from trainer.models.layers import Convolutions, CropLike, PadToMultiple, ResizeLike, apply_block, head_dtype
from trainer.models.weights import INITIAL

# By output stride: section 4 of the paper and research/deeplab/g3doc/model_zoo.md, column ASPP.
ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}

# research/deeplab/model.py: batch_norm_params, _split_separable_conv2d and _get_branch_logits.
EPSILON = 1e-5
DEPTHWISE_STDDEV, POINTWISE_STDDEV, LOGITS_STDDEV = 0.33, 0.06, 0.01


def deeplabv3plus(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone: str = "xception65",
    output_stride: int = 16,
    decoder: str = "full",
    backbone_weights: str = "none",
    depthwise_relu: bool | None = None,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.99,
    sync_batch_norm: bool = False,
    width: float = 1.0,
    normalization: Normalization | None = None,
) -> keras.Model:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, num_classes], for any H and W.

    Args:
      backbone: a name in `trainer.models.backbones.BACKBONES`.
      output_stride: 16, or 8, which is denser: about 4 times the work in most of the network.
      decoder: a name in `trainer.models.decoders.DECODERS`: "full", that of the paper, or "light", with half the
        filters: 0.96 and 0.39 million parameters after EfficientNet-Lite0, which has 2.96.
      backbone_weights: "none", "imagenet" or a file; see the row of the backbone. Pretrained weights expect pixels in
        the range of the row. They need `normalization`, so that a layer before the backbone can rescale the images.
        "initial_model" is the same network with random weights, for those of another model.
      depthwise_relu: see `trainer.models.backbones.aligned_xception`; None is the backbone's default, or that of its
        pretrained weights.
      dropout: rate before the decoder; 1 - keep_prob in research/deeplab/model.py.
      batch_norm_momentum: the official 0.9997 takes tens of thousands of steps until moving averages are useful.
      sync_batch_norm: whether batch statistics are those of all replicas.
      width: factor of the number of filters of each layer.
      normalization: of the images.

    Raises:
      ModelError: the options do not fit together, or the weights are not those of the backbone.
      WeightsError: the weights could not be read or downloaded.
    """
    row = _checked(backbone, output_stride, backbone_weights, normalization, width)
    options = _options_of(row, backbone, backbone_weights, {"depthwise_relu": depthwise_relu})
    if decoder not in DECODERS:
        raise ModelError(f"unknown decoder {decoder!r}; the decoders are {', '.join(DECODERS)}")
    copy = None if backbone_weights in ("none", INITIAL) else row.read_weights(backbone_weights)
    convolutions = Convolutions(
        width=width, epsilon=EPSILON, momentum=batch_norm_momentum, synchronized=sync_batch_norm
    )
    images = keras.Input(input_shape, name="images")
    padded = PadToMultiple(output_stride, extra=1, name="pad")(images)
    x = padded
    if backbone_weights != "none" and normalization is not None:
        x = _rescaling(normalization, row.pixel_range)(padded)
    low, high = apply_block(
        BLOCK, partial(row.build, convolutions=convolutions, output_stride=output_stride, **options), x
    )
    head: dict[str, Any] = {"convolutions": convolutions, "decoder": DECODERS[decoder]}
    encoded = apply_block("aspp", partial(_aspp, rates=ATROUS_RATES[output_stride], **head), high)
    decoded = apply_block("decoder", partial(_decode, dropout=dropout, **head), encoded, low)
    logits = _logits(decoded, padded, images, num_classes)
    model = keras.Model(images, logits, name="deeplabv3plus")
    if copy is not None:
        copy(model)
    return model


def _checked(
    backbone: str, output_stride: int, backbone_weights: str, normalization: Normalization | None, width: float
) -> Backbone:
    """-> the row of the backbone. Raises ModelError if the options do not fit together."""
    if backbone not in BACKBONES:
        raise ModelError(f"unknown backbone {backbone!r}; the backbones are {', '.join(BACKBONES)}")
    if output_stride not in ATROUS_RATES:
        raise ModelError(f"output_stride is {output_stride}: set 16 or 8")
    row = BACKBONES[backbone]
    if backbone_weights == "none":
        return row
    if row.weights is None or width != 1:
        able = [name for name, each in BACKBONES.items() if each.weights]
        raise ModelError(
            f"backbone_weights={backbone_weights} needs {' or '.join(able)} of width 1, and the model has {backbone} "
            f"of width {width:g}: leave out --width, or set --backbone_weights=none"
        )
    if normalization is None:
        raise ModelError(
            f"backbone_weights={backbone_weights} needs the `normalization` of the images: the pretrained filters "
            f"expect pixels in {row.pixel_range[0]:g}..{row.pixel_range[1]:g}"
        )
    return row


def _options_of(row: Backbone, backbone: str, backbone_weights: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set, of options that only some backbones have, and those that pretrained weights require.

    Raises:
      ModelError: this backbone does not have one of them, or the weights require another value.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name in given.keys() - set(row.options):
        raise ModelError(f"backbone {backbone} has no option {name}: leave out --{name}")
    if backbone_weights == "none":
        return given
    for name, value in row.trained_with.items():
        if given.get(name, value) != value:
            raise ModelError(
                f"{name}={given[name]} does not fit backbone_weights={backbone_weights}, which were trained with "
                f"{name}={value}: leave out --{name}"
            )
    return {**given, **row.trained_with}


def _rescaling(normalization: Normalization, pixel_range: tuple[float, float]) -> Any:
    """Normalized images -> pixels in `pixel_range`, in float32."""
    scale, offset = normalization.rescaling(*pixel_range)
    return layers.Rescaling(scale, offset, dtype="float32", name="rescale")


def _aspp(x: Any, convolutions: Convolutions, decoder: Decoder, rates: tuple[int, ...]) -> Any:
    """Atrous spatial pyramid pooling, with separable convolutions: section 3.1; _extract_features in model.py."""
    filters = decoder.filters
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pooling")(x)
    pooled = convolutions.conv(pooled, filters, 1, name="aspp_image")
    branches = [
        ResizeLike(align_corners=True, name="aspp_image_resize")(pooled, x),
        convolutions.conv(x, filters, 1, name="aspp_point"),
        *(_separable(x, filters, convolutions, name=f"aspp_rate{rate}", rate=rate) for rate in rates),
    ]
    return convolutions.conv(layers.Concatenate(name="aspp_concat")(branches), filters, 1, name="aspp_projection")


def _decode(encoded: Any, low: Any, convolutions: Convolutions, decoder: Decoder, dropout: float) -> Any:
    """Features at stride 4: section 3.1 and figure 2; refine_by_decoder in model.py."""
    encoded = layers.Dropout(dropout, name="aspp_dropout")(encoded)
    low = convolutions.conv(low, decoder.low_level_filters, 1, name="decoder_low_level")
    encoded = ResizeLike(align_corners=True, name="decoder_resize")(encoded, low)
    x = layers.Concatenate(name="decoder_concat")([encoded, low])
    x = _separable(x, decoder.filters, convolutions, name="decoder_conv1")
    return _separable(x, decoder.filters, convolutions, name="decoder_conv2")


def _logits(x: Any, padded: Any, images: Any, num_classes: int) -> Any:
    """1x1 convolution, resized to the padded image and cropped to the image; float32 under any dtype policy."""
    start = keras.initializers.TruncatedNormal(stddev=LOGITS_STDDEV)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=start, dtype=head_dtype(), name="logits")(x)
    x = ResizeLike(align_corners=True, dtype="float32", name="logits_resize")(x, padded)
    return CropLike(dtype="float32", name="logits_crop")(x, images)


def _separable(x: Any, filters: int, convolutions: Convolutions, *, name: str, rate: int = 1) -> Any:
    start = replace(convolutions, stddev=POINTWISE_STDDEV, depthwise_stddev=DEPTHWISE_STDDEV)
    return start.separable(x, filters, rate=rate, depthwise_relu=True, relu=True, name=name)
