"""keras.applications.Xception (Chollet 2017, arXiv 1610.02357, figure 5) made atrous, so that its weights load.

Layers have the names of keras.applications.Xception. The convolutions of shortcuts, which have no fixed names there,
are blockN_residual here. Two differences do not affect the weights: the first two convolutions pad (there they are
"valid", which shifts the features by three pixels), and strides beyond the output stride are dilations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from trainer.models.backbones import Features
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import AtrousMaxPool, Convolutions, apply_block, leaves

EPSILON = 1e-3  # of batch normalization, the default that keras.applications.Xception uses

NOTOP = "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"  # as keras.applications names its file


def build(images: Any, convolutions: Convolutions, *, output_stride: int) -> Features:
    """Features of images [B, H, W, 3] in -1..1: high [B, H / output_stride, W / output_stride, 2048],
    low [B, H / 4, W / 4, 256] from block3_sepconv2_bn, the same depth as in the aligned Xception.
    """
    convolutions = replace(convolutions, epsilon=EPSILON)
    x = convolutions.conv(images, 32, 3, stride=2, name="block1_conv1")
    x = convolutions.conv(x, 64, 3, name="block1_conv2")
    strided = partial(_strided_block, convolutions=convolutions, rate=1)
    x, _ = apply_block("block2", partial(strided, number=2, filters=(128, 128), stride=2, relu_first=False), x)
    x, low = apply_block("block3", partial(strided, number=3, filters=(256, 256), stride=2), x)
    x, _ = apply_block("block4", partial(strided, number=4, filters=(728, 728), stride=output_stride // 8), x)
    rate = 16 // output_stride
    for number in range(5, 13):
        x = apply_block(
            f"block{number}", partial(_middle_block, number=number, convolutions=convolutions, rate=rate), x
        )
    x, _ = apply_block("block13", partial(strided, number=13, filters=(728, 1024), stride=1, rate=rate), x)
    return Features(low, apply_block("block14", partial(_last_block, convolutions=convolutions, rate=2 * rate), x))


def read_weights(source: str) -> Callable[[keras.Model], None]:
    """-> a function that copies the weights of `source` (see `pretrained_xception`) to a model with this backbone."""
    pretrained = pretrained_xception(source)
    return lambda model: copy_weights(pretrained, model)


def pretrained_xception(source: str) -> keras.Model:
    """keras.applications.Xception with the weights of `source`.

    Args:
      source: "imagenet" (Keras downloads them), or a file that Keras can load: .h5, .weights.h5 or .keras, with or
        without the classifier.

    Raises:
      ModelError: the file does not contain these weights.
      WeightsError: there is no such file, or the download failed.
    """
    return _downloaded() if source == "imagenet" else _from_file(Path(source))


def copy_weights(reference: keras.Model, model: keras.Model) -> None:
    """Copies the weights of keras.applications.Xception into the layers of `model` that match."""
    by_name = {layer.name: layer for layer in leaves(model)}
    for theirs, ours in matching_layers(reference):
        by_name[ours].set_weights(theirs.get_weights())


def matching_layers(reference: keras.Model) -> list[tuple[Any, str]]:
    """Pairs of a layer of keras.applications.Xception with weights, except the classifier, and its name here."""
    weighted = [layer for layer in reference.layers if layer.weights and not isinstance(layer, layers.Dense)]
    pairs = [(layer, layer.name) for layer in weighted if layer.name.startswith("block")]
    unnamed = [layer for layer in weighted if not layer.name.startswith("block")]
    for kind, suffix in ((layers.Conv2D, ""), (layers.BatchNormalization, "_bn")):
        shortcuts = [layer for layer in unnamed if isinstance(layer, kind)]
        blocks = (f"block{number}_residual{suffix}" for number in (2, 3, 4, 13))
        pairs.extend(zip(shortcuts, blocks, strict=True))
    return pairs


def _downloaded() -> keras.Model:
    try:
        return keras.applications.Xception(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare Exception
        raise WeightsError(
            "the ImageNet weights of keras.applications.Xception could not be downloaded: download the file "
            f"{NOTOP} on a machine with a network, and set --backbone_weights to its path"
        ) from error


def _from_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise WeightsError(
            f"backbone_weights: there is no file {path}; set `none`, `imagenet` or the path of a weights file of "
            "keras.applications.Xception"
        )
    problems = []
    for include_top in (False, True):
        model = keras.applications.Xception(weights=None, include_top=include_top)
        try:
            _load(model, path)
        except (ValueError, KeyError, OSError) as error:
            problems.append(str(error).partition("\n")[0])
        else:
            return model
    raise ModelError(
        f"backbone_weights: {path} does not contain the weights of keras.applications.Xception ({problems[0]}); "
        f"set the path of a file such as {NOTOP}"
    )


def _load(model: keras.Model, path: Path) -> None:
    """Loads `path`. Raises ValueError if a convolution is not in it: Keras leaves it unchanged, with a warning."""
    kernels = [
        variable for layer, _ in matching_layers(model) for variable in layer.weights if len(variable.shape) == 4
    ]
    before = [kernel.numpy() for kernel in kernels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.load_weights(path)
    for kernel, old in zip(kernels, before, strict=True):
        if np.array_equal(kernel.numpy(), old):
            raise ValueError(f"it has no weights for {kernel.path}")


def _middle_block(x: Any, *, number: int, convolutions: Convolutions, rate: int) -> Any:
    y = _separables(x, number, (728, 728, 728), convolutions, rate)
    return layers.Add(name=f"block{number}_add")([y, x])


def _last_block(x: Any, *, convolutions: Convolutions, rate: int) -> Any:
    for number, filters in enumerate((1536, 2048), start=1):
        name = f"block14_sepconv{number}"
        x = layers.ReLU(name=f"{name}_act")(_separable(x, filters, convolutions, rate, name))
    return x


def _strided_block(
    x: Any,
    *,
    number: int,
    filters: tuple[int, ...],
    convolutions: Convolutions,
    stride: int,
    rate: int,
    relu_first: bool = True,
) -> tuple[Any, Any]:
    """Separable convolutions, max pooling and a shortcut. -> the block's output, and its features before pooling."""
    name = f"block{number}"
    shortcut = convolutions.conv(x, filters[-1], 1, stride=stride, relu=False, name=f"{name}_residual")
    before = _separables(x, number, filters, convolutions, rate, relu_first=relu_first)
    if rate == 1:
        pool = layers.MaxPooling2D(3, strides=stride, padding="same", name=f"{name}_pool")
    else:
        pool = AtrousMaxPool(rate, name=f"{name}_pool")
    return layers.Add(name=f"{name}_add")([pool(before), shortcut]), before


def _separables(
    x: Any,
    block_number: int,
    filters: tuple[int, ...],
    convolutions: Convolutions,
    rate: int,
    *,
    relu_first: bool = True,
) -> Any:
    for number, each in enumerate(filters, start=1):
        name = f"block{block_number}_sepconv{number}"
        if number > 1 or relu_first:
            x = layers.ReLU(name=f"{name}_act")(x)
        x = _separable(x, each, convolutions, rate, name)
    return x


def _separable(x: Any, filters: int, convolutions: Convolutions, rate: int, name: str) -> Any:
    x = layers.SeparableConv2D(
        convolutions.filters(filters), 3, dilation_rate=rate, padding="same", use_bias=False, name=name
    )(x)
    return convolutions.norm(x, name)
