"""Models of mixed precision in float32, which every runtime computes in."""

from __future__ import annotations

from typing import Any

import keras

_FLOAT32 = "float32"
_HALVES = ("bfloat16", "float16")


def in_float32(model: keras.Model) -> keras.Model:
    """The model with all layers in float32, of the same weights: those of mixed precision are float32 already.

    A model that has no other layers is returned as it is.
    """
    config = model.get_config()
    changed = _changed(config)
    if changed == config:
        return model
    copy = type(model).from_config(changed)
    copy.set_weights(model.get_weights())
    return copy


def _changed(value: Any) -> Any:
    """A serialized model, with float32 in place of each policy of mixed precision and of the inputs of its blocks."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy" and value["config"]["name"].startswith("mixed_"):
            return {**value, "config": {**value["config"], "name": _FLOAT32}}
        return {
            name: _FLOAT32 if name == "dtype" and part in _HALVES else _changed(part) for name, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_changed(part) for part in value)
    return value
