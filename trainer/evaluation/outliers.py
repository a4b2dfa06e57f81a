"""Which of many values are unusually high."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

_FENCE = 1.5  # interquartile ranges


@dataclass(frozen=True, eq=False)
class Outliers:
    """Of values of at least 0, float64[N] with N > 0."""

    values: np.ndarray

    @functools.cached_property
    def limit(self) -> float:
        """The third quartile plus 1.5 interquartile ranges (Tukey 1977, "Exploratory Data Analysis", section 2D): a few
        extreme values do not change it.
        """
        first, third = np.quantile(self.values, (0.25, 0.75))
        return float(third + _FENCE * (third - first))

    @functools.cached_property
    def ranked(self) -> list[int]:
        """The places of the values above 0, the highest first, equal ones in their order."""
        return [int(place) for place in np.argsort(-self.values, kind="stable") if self.values[place] > 0]

    @property
    def standing_out(self) -> list[int]:
        """Those of `ranked` whose values are above the limit."""
        return [place for place in self.ranked if self.values[place] > self.limit]
