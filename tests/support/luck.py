"""What chance allows, and real models to draw from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

# int32[2, 101, 2, 11]: hits and unions (trainer/comparison/scores.py) of two models on the images of CamVid's val
# split, with mean IoUs of 54.8 and 59.0 %.
_PARTS = Path(__file__).parents[1] / "golden" / "parts.npz"


def real_parts() -> np.ndarray:
    """float64[2, 101, 2, 11] of two models on 101 images."""
    with np.load(_PARTS) as file:
        return file["parts"].astype(np.float64)


def binomial_range(trials: int, chance: float, outside: float = 1e-4) -> tuple[float, float]:
    """Between which shares of `trials` with this `chance` fall, but for `outside` of all cases, by the exact sums."""
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(trials + 1)
    ]  # fmt: skip
    below = np.cumsum(np.exp(logs))
    return int(np.searchsorted(below, outside / 2)) / trials, int(np.searchsorted(below, 1 - outside / 2)) / trials
