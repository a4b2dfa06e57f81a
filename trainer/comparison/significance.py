"""What several tests at once mean, and Student's t distribution."""

from __future__ import annotations

import functools

import numpy as np

_NODES = 200
_HALVINGS = 40


def holm(p: np.ndarray) -> np.ndarray:
    """p-values of several tests, adjusted: the chance that any of those below 5 % is false is at most 5 %.

    Holm (1979), "A simple sequentially rejective multiple test procedure". It holds for tests that depend on each
    other, as those of the classes of the same pixels do. float64[M] -> float64[M]; NaN is no test, and stays.
    """
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaNs are last
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def t_tails(t: float, degrees: float) -> float:
    """The chance that Student's t with `degrees` of freedom, at least 1, is further from 0 than `t`.

    With t = sqrt(degrees) tan(angle) its density is proportional to cos(angle)^(degrees - 1), which is integrated by
    Gauss and Legendre's rule; the error is below 1e-5.
    """
    angle = np.arctan(abs(t) / np.sqrt(degrees))
    return float(_integral(angle, degrees) / _integral(0.0, degrees))


def t_limit(degrees: float, confidence: float = 0.95) -> float:
    """How far from 0 Student's t is with this chance at most. `degrees` of freedom are at least 1."""
    low, high = 0.0, np.pi / 2  # angles
    tail = (1 - confidence) * _integral(0.0, degrees)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _integral(middle, degrees) > tail else (low, middle)
    return float(np.sqrt(degrees) * np.tan(low))


def _integral(start: float, degrees: float) -> float:
    """Of cos^(degrees - 1) from `start` to a right angle."""
    nodes, weights = _rule()
    half = (np.pi / 2 - start) / 2
    angles = start + half * (nodes + 1)
    return float(half * weights @ np.cos(angles) ** (degrees - 1))


@functools.cache
def _rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)
