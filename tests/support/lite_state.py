"""State dicts of EfficientNet-Lite0, as the package efficientnet-lite-pytorch names their tensors."""

from __future__ import annotations

import keras
import numpy as np

from trainer.models.layers import leaves

State = dict[str, np.ndarray]


def state_of(published: keras.Model) -> State:
    """The weights of the classifier under PyTorch's names and in its order of axes, by rules of the tests' own."""
    found: State = {}
    for layer in leaves(published):
        if layer.weights:
            prefix, values = _pytorch_name(layer.name), [np.asarray(value) for value in layer.get_weights()]
            if isinstance(layer, keras.layers.BatchNormalization):
                names = ("weight", "bias", "running_mean", "running_var")
                found |= {f"{prefix}.{name}": value for name, value in zip(names, values, strict=True)}
                found[f"{prefix}.num_batches_tracked"] = np.array(7)
            elif isinstance(layer, keras.layers.Dense):
                found |= {f"{prefix}.weight": values[0].T, f"{prefix}.bias": values[1]}
            else:
                by_channel = np.moveaxis(values[0], (0, 1), (2, 3))  # in, out, H, W; of depthwise kernels in, 1, H, W
                is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                found[f"{prefix}.weight"] = by_channel if is_depthwise else by_channel.swapaxes(0, 1)
    return found


def _pytorch_name(ours: str) -> str:
    whole = {"stem": "_conv_stem", "stem_bn": "_bn0", "head": "_conv_head", "head_bn": "_bn1", "classes": "_fc"}
    if ours in whole:
        return whole[ours]
    block, part = ours.removeprefix("block").split("_", 1)
    number = {"expand_bn": 0, "depthwise_bn": 1, "project_bn": 2}.get(part)
    return f"_blocks.{block}." + (f"_{part}_conv" if number is None else f"_bn{number}")
