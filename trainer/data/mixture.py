"""How the examples of several data sets alternate in an epoch: exact numbers of each, evenly spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def apportioned(weights: Sequence[float], total: int) -> np.ndarray:
    """int64: `total` divided in proportion to `weights`, by the largest remainder; the first one wins a tie."""
    exact = np.asarray(weights, np.float64) * total / np.sum(weights)
    counts = np.floor(exact).astype(np.int64)
    most_left = np.argsort(counts - exact, kind="stable")
    counts[most_left[: total - counts.sum()]] += 1
    return np.asarray(counts)


def alternation(counts: Sequence[int]) -> np.ndarray:
    """int64[sum of counts]: the number of the data set at each position, so that any part has nearly their shares.

    The k-th of n examples belongs at (k + 1/2) / n of the whole.
    """
    places = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    numbers = np.repeat(np.arange(len(counts)), counts)
    return np.asarray(numbers[np.argsort(places, kind="stable")])
