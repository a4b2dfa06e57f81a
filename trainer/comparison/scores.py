"""Mean IoU and the IoU of each class, of any sum of images.

What has to be summed of an image is its part, float64[2, C]: the correct pixels of each class (true positives) and
those that are true or predicted (true positives + false positives + false negatives). Sums of integers below 2^53 are
exact.
"""

from __future__ import annotations

import numpy as np

MEAN = 0  # the place of mean IoU in scores; class c is at 1 + c


def parts_of(confusions: np.ndarray) -> np.ndarray:
    """integer[..., C, C], rows are the truth -> float64[..., 2, C]."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    unions = confusions.sum(-1) + confusions.sum(-2) - hits
    return np.stack([hits, unions], axis=-2).astype(np.float64)


def scores_of(sums: np.ndarray) -> np.ndarray:
    """Sums of parts, float64[..., 2, C] -> float64[..., 1 + C]: mean IoU and the IoU of each class, from 0 to 1.

    As in `trainer.evaluation.metrics.Scores`, a class that is neither true nor predicted is NaN and left out of the
    mean.
    """
    hits, unions = sums[..., 0, :], sums[..., 1, :]
    ious = np.divide(hits, unions, out=np.full(hits.shape, np.nan), where=unions > 0)
    known = ~np.isnan(ious)
    number = known.sum(-1)
    means = np.divide(np.where(known, ious, 0.0).sum(-1), number, out=np.full(number.shape, np.nan), where=number > 0)
    return np.concatenate([means[..., np.newaxis], ious], axis=-1)


def weighted(weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Sums of the parts float64[N, 2, C] of N images, each times its weight: float64[S, N] -> float64[S, 2, C]."""
    sums: np.ndarray = (weights @ parts.reshape(len(parts), -1)).reshape(len(weights), *parts.shape[1:])
    return sums
