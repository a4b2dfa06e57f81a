"""Copies tensors of a file into the layers of a model by tables of names, and accounts for each on both sides.

    Rule(r"stem(\\d)", r"root/conv\\1", {"conv": ("/weights",), "norm": ("/gamma", "/beta", "/mean", "/variance")})

says that the kernel of the layer `stem1` is root/conv1/weights, and that the variables of its batch normalization
`stem1_bn` are root/conv1/gamma and so on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from trainer.models.errors import ModelError
from trainer.models.layers import leaves

NORM = "_bn"  # how the names of layers of batch normalization end
Change = Callable[[list[np.ndarray]], list[np.ndarray]]


class Rule(NamedTuple):
    """Names of some layers.

    Attributes:
      pattern: of the whole name of a layer, and of its batch normalization's without `NORM`.
      name: what the names of its tensors begin with; may refer to groups of the pattern.
      endings: kind of layer (see `_kind`) -> how these names end, in the order of Keras' variables.
      change: what makes the variables of the values in the file, which have Keras' order of axes.
    """

    pattern: str
    name: str
    endings: Mapping[str, tuple[str, ...]]
    change: Change | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The tensors of a file.

    Attributes:
      path: of the file, for messages.
      shapes: of all tensors, by name.
      read: name -> the tensor.
      in_keras_order: (tensor, layer) -> the tensor with the order of axes of the layer's variables.
    """

    path: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    in_keras_order: Callable[[np.ndarray, layers.Layer], np.ndarray] = lambda tensor, _: tensor

    def has(self, prefix: str) -> bool:
        """Whether a name begins with `prefix`."""
        return any(name.startswith(prefix) for name in self.shapes)


@dataclass(frozen=True, kw_only=True)
class Names:
    """The tensors of a network, or of a part of it.

    Attributes:
      network: what the file should hold, for messages.
      rules: of the layers that get their variables from the file.
      dropped: (name of another tensor, names of those that are used) -> the kind of what is not needed, or None.
      cure: how to fix that a file does not fit.
    """

    network: str
    rules: tuple[Rule, ...]
    dropped: Callable[[str, frozenset[str]], str | None]
    cure: str


class Account(NamedTuple):
    """What became of the tensors of a file: how many were used, and how many of each kind were not needed."""

    used: int
    dropped: Mapping[str, int]


class _Pair(NamedTuple):
    layer: layers.Layer
    entries: tuple[str, ...]
    change: Change | None


def load(source: Source, names: Names, model: keras.Model, part: Iterable[layers.Layer] | None = None) -> Account:
    """Sets the variables of all layers of `model` that the rules name.

    Args:
      part: the layers that may not stay random; None for all.

    Raises:
      ModelError: the file lacks a tensor, has one that the network does not have, or one of another shape or with
        numbers that are not finite, and then the model may be changed in part; or no rule names a layer of `part`.
    """
    needed = {layer.name for layer in (leaves(model) if part is None else part)}
    if left := [name for name in unnamed(names.rules, model) if name in needed]:
        raise ModelError(
            f"{source.path}: {len(left)} layers of {model.name}, such as {left[0]}, are not in the table of names of "
            f"{names.network}, so they would stay random: add a rule for them"
        )
    pairs = list(_pairs(names.rules, model))
    account = _account(source, names, frozenset(entry for pair in pairs for entry in pair.entries))
    for pair in pairs:
        values = [source.in_keras_order(source.read(entry), pair.layer) for entry in pair.entries]
        values = values if pair.change is None else pair.change(values)
        for value, variable, entry in zip(values, pair.layer.weights, pair.entries, strict=True):
            if value.shape != tuple(variable.shape):
                reason = f"{entry} has the shape {value.shape} in Keras' order, not {tuple(variable.shape)}"
                raise _not_ours(source, names, reason)
            if not np.isfinite(value).all():
                raise _not_ours(source, names, f"{entry} has numbers that are not finite")
        pair.layer.set_weights(values)
    return account


def _account(source: Source, names: Names, needed: frozenset[str]) -> Account:
    """Raises ModelError unless every tensor that is needed is in the file, and nothing of another network."""
    if missing := needed - source.shapes.keys():
        raise _not_ours(source, names, f"it lacks {len(missing)} of its {len(needed)} tensors, such as {min(missing)}")
    kinds = {name: names.dropped(name, needed) for name in sorted(source.shapes.keys() - needed)}
    if foreign := [name for name, kind in kinds.items() if kind is None]:
        reason = f"it has tensors that this network does not have, such as {foreign[0]} ({len(foreign)} in all)"
        raise _not_ours(source, names, reason)
    return Account(len(needed), Counter(kind for kind in kinds.values() if kind))


def unnamed(rules: Iterable[Rule], model: keras.Model) -> list[str]:
    """The layers with variables that no rule names."""
    named = {pair.layer.name for pair in _pairs(rules, model)}
    return [layer.name for layer in leaves(model) if layer.weights and layer.name not in named]


def _pairs(rules: Iterable[Rule], model: keras.Model) -> Iterator[_Pair]:
    """Layers with the names of their tensors."""
    table = [(re.compile(rule.pattern), rule) for rule in rules]
    for layer in leaves(model):
        if not layer.weights:
            continue
        for pattern, rule in table:
            if found := pattern.fullmatch(layer.name.removesuffix(NORM)):
                start = found.expand(rule.name)
                yield _Pair(layer, tuple(f"{start}{end}" for end in rule.endings[_kind(layer)]), rule.change)
                break


def _kind(layer: layers.Layer) -> str:
    if isinstance(layer, layers.BatchNormalization):
        return "norm"
    if isinstance(layer, layers.DepthwiseConv2D):
        return "depthwise"
    return "biased" if layer.use_bias else "conv"


def _not_ours(source: Source, names: Names, reason: str) -> ModelError:
    return ModelError(f"{source.path} does not contain the weights of {names.network}: {reason}; {names.cure}")
