"""Counts pixel values, for mean and std, and pixels of each class, and sums the counts exactly in Beam."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
from PIL import Image

from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import CHANNELS, LEVELS


def moments_of(image: np.ndarray) -> Moments:
    """The Moments of an image, uint8[H, W, 3]."""
    counts = Image.fromarray(image).histogram()
    return Moments(np.array(counts, np.int64).reshape(CHANNELS, LEVELS))


def class_pixels_of(mask: np.ndarray) -> np.ndarray:
    """int64[256]: the number of pixels of each train id in `mask` (uint8[H, W]); the last is IGNORE."""
    return np.array(Image.fromarray(mask).histogram(), np.int64)


class CombineMomentsFn(beam.CombineFn):
    """Sums Moments. The sum is exact, so that every grouping and order gives the same bits."""

    def create_accumulator(self) -> Moments:
        return Moments.zero()

    def add_input(self, total: Moments, moments: Moments) -> Moments:
        return total + moments

    def merge_accumulators(self, totals: Iterable[Moments]) -> Moments:
        return sum(totals, Moments.zero())

    def extract_output(self, total: Moments) -> Moments:
        return total


class CombineClassPixelsFn(beam.CombineFn):
    """Sums class pixel counts, int64[256]."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(LEVELS, np.int64)

    def add_input(self, total: np.ndarray, counts: np.ndarray) -> np.ndarray:
        added: np.ndarray = total + counts
        return added

    def merge_accumulators(self, totals: Iterable[np.ndarray]) -> np.ndarray:
        merged: np.ndarray = np.sum([self.create_accumulator(), *totals], axis=0)
        return merged

    def extract_output(self, total: np.ndarray) -> np.ndarray:
        return total
