"""The decay of the learning rate after warm-up: a table of functions, which import Keras when they are called."""

from __future__ import annotations

from typing import Any


def poly(progress: Any) -> Any:
    """(1 - progress) ** 0.9, the "poly" policy of ParseNet and DeepLab."""
    return (1.0 - progress) ** 0.9


def cosine(progress: Any) -> Any:
    """(1 + cos(pi * progress)) / 2, without restarts (Loshchilov and Hutter 2017)."""
    import keras

    return 0.5 * (1.0 + keras.ops.cos(3.141592653589793 * progress))


def constant(progress: Any) -> Any:
    """1: no decay."""
    import keras

    return keras.ops.ones_like(progress)


# Progress after warm-up, float32 from 0 to 1 -> factor of the peak learning rate.
SCHEDULES = {"poly": poly, "cosine": cosine, "constant": constant}
