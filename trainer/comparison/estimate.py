"""How much better one side of a comparison is than the other, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """For mean IoU, then for each of C classes; NaN for a class that a side has no IoU of.

    Attributes:
      a, b: float64[1 + C], the scores of the sides, from 0 to 1.
      interval: float64[1 + C, 2], the 95 % confidence interval of b - a.
      p: float64[1 + C], the chance of a difference at least as large, in any direction, between sides that are equally
        good.
      method: how interval and p were found, in a sentence.
    """

    a: np.ndarray
    b: np.ndarray
    interval: np.ndarray
    p: np.ndarray
    method: str

    @property
    def difference(self) -> np.ndarray:
        """float64[1 + C]: b - a."""
        difference: np.ndarray = self.b - self.a
        return difference
