"""Weights of a network from a seed, by the names and shapes of its variables: the same on every machine.

The golden files of `tests/golden/weights` hold what the original networks compute with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

POSITIVE = ("gamma", "moving_variance", "running_var", "bn_s1.weight")  # how their names end


def seeded(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, np.ndarray]:
    """A float32 array for each name, drawn in the order of the sorted names.

    The legacy generator: NumPy promises that its numbers never change.
    """
    numbers = np.random.RandomState(seed)
    return {
        name: numbers.uniform(*_range(name, shape), tuple(shape)).astype(np.float32)
        for name, shape in sorted(shapes.items())
    }


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8[height, width, 3], darker than white: levels up to 199."""
    return np.random.RandomState(seed).randint(0, 200, (height, width, 3)).astype(np.uint8)


def _range(name: str, shape: Sequence[int]) -> tuple[float, float]:
    """Such that activations stay in the order of 1 through a deep network."""
    if name.endswith(POSITIVE):
        return 0.6, 1.4
    if len(shape) == 1:
        return -0.2, 0.2
    if name.endswith("depthwise_weights"):  # [H, W, channels, 1], without a ReLU after it
        limit = math.sqrt(3 / math.prod(shape[:2]))
    else:  # [out, in, H, W] in PyTorch, [H, W, in, out] in TensorFlow
        limit = math.sqrt(6 * (shape[0] if name.endswith(".weight") else shape[-1]) / math.prod(shape))
    return -limit, limit
