"""The index of a shard with one example."""

from __future__ import annotations

import numpy as np

from beam_pipelines.contract.index import ClassPlace, Example, Index
from beam_pipelines.contract.moments import Moments

EXAMPLE = Example(
    key="train/a",
    filename='images/train/"ä".png',
    source_size=(4, 8),
    size=(1, 2),
    levels=(6, 12),
    classes={0: ClassPlace(2, bytes(31) + b"\xff")},
    pixels_digest="0" * 32,
    hashes=("0" * 16, "f" * 16),
    repairs={"shift": 2},
)
SMALL = Index(
    split="train",
    moments=Moments(np.tile(np.bincount([1, 1], minlength=256), (3, 1)).astype(np.int64)),
    heat_maps={0: np.full((16, 32), 0, np.int64) + np.eye(16, 32, dtype=np.int64) * np.eye(16, 1, dtype=np.int64) * 2},
    examples=[EXAMPLE],
)
