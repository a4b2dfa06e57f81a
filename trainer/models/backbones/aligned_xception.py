"""The modified aligned Xception of DeepLabV3+: Chen et al. 2018, arXiv 1802.02611, section 3.2 and figure 4.

Numbers are from figure 4 and from tensorflow/models, research/deeplab/core/xception.py (`xception_41`, `xception_65`,
`xception_71`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import layers

from trainer.models.backbones import Features, backbone_of
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import Convolutions, apply_block, leaves
from trainer.models.weights import slim_names
from trainer.models.weights.checkpoint_file import open_checkpoint
from trainer.models.weights.transfer import load

EPSILON = 1e-3  # of batch normalization: batch_norm_epsilon in research/deeplab/core/feature_extractor.py
STDDEV = 0.09  # of all initial kernels: weights_initializer_stddev of xception_arg_scope


class Module(NamedTuple):
    """Three separable convolutions, the last with the stride, and the kind of skip connection: conv, sum or none."""

    name: str
    filters: tuple[int, int, int]
    skip: str
    stride: int = 1


class Variant(NamedTuple):
    """A network of the official code.

    Attributes:
      entry: (filters, stride) of the modules of the entry flow.
      low: the last of them at stride 4 before its own stride.
      middle_units: repetitions of the middle flow.
    """

    entry: tuple[tuple[int, int], ...]
    low: str
    middle_units: int


_ENTRY = ((128, 2), (256, 2), (728, 2))
_LONG_ENTRY = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
VARIANTS = {
    "xception_41": Variant(_ENTRY, "entry_block2", 8),
    "xception_65": Variant(_ENTRY, "entry_block2", 16),  # figure 4
    "xception_71": Variant(_LONG_ENTRY, "entry_block3", 16),
}


def build(
    images: Any, convolutions: Convolutions, *, output_stride: int, variant: str, depthwise_relu: bool = True
) -> Features:
    """Features of images [B, H, W, 3]: high [B, H / output_stride, W / output_stride, 2048] and
    low [B, H / 4, W / 4, 256], rounded up.

    When the stride reaches `output_stride`, further strides are replaced by dilation of the following modules, as in
    stack_blocks_dense of the official code. `low` is the last separable_conv2_pointwise at stride 4
    (networks_to_feature_maps in feature_extractor.py).

    Args:
      variant: a row of `VARIANTS`; the number is that of layers with weights.
      depthwise_relu: whether a ReLU follows the batch normalization of each depthwise convolution, as in the paper. The
        official code, with which the released checkpoints were trained, has it only in the last module
        (activation_fn_in_separable_conv=False elsewhere). The number of parameters is the same.
    """
    convolutions = replace(convolutions, epsilon=EPSILON, stddev=STDDEV, depthwise_stddev=STDDEV)
    x = convolutions.conv(images, 32, 3, stride=2, name="entry_conv1")
    x = convolutions.conv(x, 64, 3, name="entry_conv2")
    low, stride, rate = None, 2, 1
    for module in _modules(VARIANTS[variant]):
        atrous = stride == output_stride
        kept = 1 if atrous else module.stride
        options: dict[str, Any] = {"stride": kept, "rate": rate, "depthwise_relu": depthwise_relu}
        x, second = apply_block(module.name, partial(_apply, module, convolutions=convolutions, **options), x)
        stride *= kept
        rate *= module.stride // kept
        if module.name == VARIANTS[variant].low:
            low = second
    return Features(low, x)


def read_weights(source: str, *, variant: str) -> Callable[[keras.Model], None]:
    """-> a function that copies the backbone of a checkpoint of research/deeplab to a model with this backbone.

    Args:
      source: a checkpoint of TensorFlow 1: see `trainer.models.weights.checkpoint_file.open_checkpoint`.

    Raises:
      ModelError: the checkpoint has another network, or not all of its variables.
      WeightsError: there is no such checkpoint.
    """
    names = slim_names.backbone(variant)
    if source == "imagenet":
        raise WeightsError(
            f"the ImageNet weights of {variant} are in no Python package: {names.cure}; or set "
            "--backbone=efficientnet_lite0 or --backbone=keras_xception, which have some"
        )
    opened = open_checkpoint(source)
    for other in VARIANTS.keys() - {variant}:
        if opened.has(f"{other}/") and not opened.has(f"{variant}/"):
            raise ModelError(
                f"{opened.path} has {other}, not {variant}: set --backbone={other.replace('_', '')}, or {names.cure}"
            )

    def copy(model: keras.Model) -> None:
        load(opened, names, model, leaves(backbone_of(model)))

    return copy


def _modules(variant: Variant) -> list[Module]:
    entry = enumerate(variant.entry, start=1)
    return [
        *(Module(f"entry_block{number}", (size,) * 3, "conv", stride) for number, (size, stride) in entry),
        *(Module(f"middle_unit{unit}", (728, 728, 728), "sum") for unit in range(1, variant.middle_units + 1)),
        Module("exit_block1", (728, 1024, 1024), "conv", stride=2),
        Module("exit_block2", (1536, 1536, 2048), "none"),
    ]


def _apply(
    module: Module, x: Any, convolutions: Convolutions, *, stride: int, rate: int, depthwise_relu: bool
) -> tuple[Any, Any]:
    """-> the output of the module, and that of its second separable convolution.

    ReLU precedes each separable convolution, but follows it in the last module (xception_module).
    """
    last = module.skip == "none"
    points = [x]
    for number, filters in enumerate(module.filters, start=1):
        name = f"{module.name}_separable{number}"
        before = points[-1] if last else layers.ReLU(name=f"{name}_before_relu")(points[-1])
        step = stride if number == len(module.filters) else 1
        points.append(
            convolutions.separable(
                before, filters, stride=step, rate=rate, depthwise_relu=depthwise_relu or last, relu=last, name=name
            )
        )
    return _skip(module, x, points[-1], convolutions, stride), points[2]


def _skip(module: Module, x: Any, residual: Any, convolutions: Convolutions, stride: int) -> Any:
    if module.skip == "none":
        return residual
    if module.skip == "conv":
        x = convolutions.conv(x, module.filters[-1], 1, stride=stride, relu=False, name=f"{module.name}_shortcut")
    return layers.Add(name=f"{module.name}_add")([x, residual])
