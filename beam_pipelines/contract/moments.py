"""Global RGB moments as exact integers: any order of merging gives the same bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.pixel import CHANNELS, LEVELS


@dataclass(frozen=True, eq=False)
class Moments:
    """The number of pixels of each value in each channel, `histogram` int64[3, 256]. `+` is exact.

    The sums below are Python integers, so nothing is rounded before the one division at the end; Python divides
    integers correctly rounded. `mean` and `std` are of pixel / 255, and `std` is the population's (divided by n).
    """

    histogram: np.ndarray

    def __post_init__(self) -> None:
        if self.histogram.shape != (CHANNELS, LEVELS) or self.histogram.dtype != np.int64:
            raise ValueError(f"a histogram is int64[3, 256], got {self.histogram.dtype}{list(self.histogram.shape)}")

    @classmethod
    def zero(cls) -> Moments:
        return cls(np.zeros((CHANNELS, LEVELS), np.int64))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.histogram + other.histogram)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moments) and np.array_equal(self.histogram, other.histogram)

    __hash__ = None  # type: ignore[assignment]  # holds an array

    @property
    def pixels(self) -> int:
        return int(self.histogram[0].sum())

    @property
    def sums(self) -> tuple[int, ...]:
        """Sum of the pixel values 0..255 of each channel."""
        return tuple(sum(value * count for value, count in enumerate(row)) for row in self.histogram.tolist())

    @property
    def sums_of_squares(self) -> tuple[int, ...]:
        return tuple(sum(value * value * count for value, count in enumerate(row)) for row in self.histogram.tolist())

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of pixel / 255 of each channel. Raises ValueError if no pixel was counted."""
        scale = 255 * self._counted()
        return tuple(total / scale for total in self.sums)

    @property
    def std(self) -> tuple[float, ...]:
        """Population standard deviation of pixel / 255 of each channel."""
        pixels = self._counted()
        scale = (255 * pixels) ** 2
        return tuple(
            math.sqrt((pixels * squares - total * total) / scale)
            for total, squares in zip(self.sums, self.sums_of_squares, strict=True)
        )

    @property
    def normalization(self) -> Normalization:
        """The normalization by these moments. Raises ValueError if no pixel was counted."""
        return Normalization(self.mean, self.std)

    def _counted(self) -> int:
        if not self.pixels:
            raise ValueError("moments of no pixels")
        return self.pixels
