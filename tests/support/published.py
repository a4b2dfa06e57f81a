"""Files of published networks with seeded weights, as those who published them write them, and golden logits.

A golden file has what the original code says: names and shapes of its variables, and logits of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tests.support.seeded_weights import picture, seeded

FOLDER = Path(__file__).parents[1] / "golden" / "weights"


class Golden(NamedTuple):
    """What the original network computes; `arrays` has its logits at every `steps`-th row and column."""

    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    size: tuple[int, int]
    steps: tuple[int, int]
    arrays: Mapping[str, np.ndarray]

    def weights(self) -> dict[str, np.ndarray]:
        return seeded(self.shapes, self.seed)

    def picture(self) -> np.ndarray:
        return picture(*self.size, self.seed)

    def difference(self, logits: Any, key: str) -> float:
        """The largest between [N, H, W, ...] and the original's, of each of N relative to its largest logit."""
        rows, columns = self.steps
        expected, found = self.arrays[key], np.asarray(logits)[:, ::rows, ::columns]
        axes = tuple(range(1, expected.ndim))
        return float((np.abs(found - expected).max(axes) / np.abs(expected).max(axes)).max())


def golden(name: str) -> Golden:
    """The golden file of that name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    shapes = [tuple(map(int, shape.split(","))) for shape in str(arrays["shapes"]).split(" ")]
    names = str(arrays["names"]).split("\n")
    size, steps = (tuple(map(int, arrays[key])) for key in ("size", "steps"))
    return Golden(
        dict(zip(names, shapes, strict=True)), int(arrays["seed"]), (size[0], size[1]), (steps[0], steps[1]), arrays
    )


def write_checkpoint(prefix: Path, variables: Mapping[str, np.ndarray]) -> Path:
    """A checkpoint of TensorFlow 1, PREFIX.index and PREFIX.data-00000-of-00001."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )
    return prefix


def as_training_leaves_it(
    variables: Mapping[str, np.ndarray], slots: tuple[str, ...] = ("Momentum",)
) -> dict[str, Any]:
    """With what an optimizer keeps: slots of each trained variable, here of other numbers, and the step."""
    trained = {name: value for name, value in variables.items() if "moving_" not in name}
    kept = {f"{name}/{slot}": value + 1 for name, value in trained.items() for slot in slots}
    return {**variables, **kept, "global_step": np.array(90_000, np.int64)}
