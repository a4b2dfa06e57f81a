"""The architectures: a third one is a file with a builder and a line in `MODELS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from trainer.models.deeplab import deeplabv3plus
from trainer.models.u2net import u2net, u2netp

MODELS: dict[str, Callable[..., keras.Model]] = {
    "deeplabv3plus": deeplabv3plus,
    "u2net": u2net,
    "u2netp": u2netp,
}


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    options: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A Keras functional model from normalized images float32[B, H, W, 3] to logits float32[B, H, W, num_classes].

    H and W may be anything, also None: images are padded inside and logits cropped back. U2-Net has seven outputs (deep
    supervision), the one to predict with first; a Keras model with one output returns it bare: see `as_list`.
    `options` are the builder's own keywords: see `option_defaults`.

    Raises ValueError for an unknown model or option, or a value that the builder refuses.
    """
    known = option_defaults(name)
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}: it has {', '.join(known)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: at least 1 is needed")
    return MODELS[name](num_classes, tuple(input_shape), **dict(options or {}))


def option_defaults(name: str) -> dict[str, Any]:
    """The options of model `name` with their defaults: the keyword-only arguments of its builder."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: one of {', '.join(MODELS)}")
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def as_list(outputs: Any) -> list[Any]:
    """What a call of a model returned, as a list of logits: Keras unpacks a list of one output."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
