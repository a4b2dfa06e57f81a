"""Names of tensors in state dicts of U2-Net (xuebinqin/U-2-Net, model/u2net.py), and its head for two classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainer.models.weights.transfer import Names, Rule

REBNCONV = {
    "biased": (".conv_s1.weight", ".conv_s1.bias"),
    "norm": tuple(f".bn_s1.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
}
PLAIN = {"biased": (".weight", ".bias")}

BACKBONE = (
    Rule(r"(stage\d|stage\dd)_in", r"\1.rebnconvin", REBNCONV),
    Rule(r"(stage\d|stage\dd)_conv(\dd?)", r"\1.rebnconv\2", REBNCONV),
)
HEAD = (Rule(r"logits_side(\d)", r"side\1", PLAIN), Rule("logits_fused", "outconv", PLAIN))


def backbone(network: str) -> Names:
    """All but the maps."""
    return Names(network=network, rules=BACKBONE, dropped=_maps_or_counters, cure=_CURE)


def whole(network: str) -> Names:
    """The network with its seven maps, of any number of classes."""
    return Names(network=network, rules=(*BACKBONE, *HEAD), dropped=_counters, cure=_CURE)


def converted(network: str) -> Names:
    """The network; maps of one class as background and foreground, see `two_classes`."""
    changed = tuple(rule._replace(change=two_classes) for rule in HEAD)
    return replace(whole(network), rules=(*BACKBONE, *changed))


_CURE = "set the path of a state dict of model/u2net.py, such as u2net.pth or u2netp.pth of xuebinqin/U-2-Net"


def two_classes(values: list[np.ndarray]) -> list[np.ndarray]:
    """[kernel, bias] of a map of one class with a sigmoid -> those of two classes with a softmax; others stay.

    The logits are 0 and z, and the second of softmax([0, z]) is 1 / (1 + exp(-z)), the sigmoid of z. The fused map gets
    the other six as channels 0, z_1, 0, z_2, ... instead of z_1, z_2, ...
    """
    kernel, bias = values
    if kernel.shape[-1] != 1:
        return values
    if kernel.shape[:2] == (1, 1):  # of the fused map
        kernel = np.stack([np.zeros_like(kernel), kernel], axis=3).reshape(1, 1, -1, 1)
    return [np.concatenate([np.zeros_like(kernel), kernel], axis=3), np.append(np.zeros_like(bias), bias)]


def _counters(name: str, _: frozenset[str]) -> str | None:
    return "counters" if name.endswith(".num_batches_tracked") else None


def _maps_or_counters(name: str, used: frozenset[str]) -> str | None:
    return "maps" if name.startswith(("side", "outconv.")) else _counters(name, used)
