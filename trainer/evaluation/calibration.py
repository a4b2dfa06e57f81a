"""Whether the confidence of a model is the share of pixels that it gets right.

The confidence of a pixel is the largest of its probabilities. The reliability curve and the expected calibration error
(ECE) have 15 bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks", sections 2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.evaluation.metrics import draw_images, limits_of, plain

BINS = 15
_UNIT = 3000  # sums of confidences are in 1/3000: the middle of each of 1,500 levels is a whole number


def bins_of_levels(levels: np.ndarray) -> np.ndarray:
    """Wrong and correct pixels by confidence, integer[..., 2, L] with L a multiple of BINS, as counts of the bins.

    The confidences of a level count as its middle, which changes the ECE by at most 1 / 2 L.

    Returns:
      int64[..., BINS, 3]: pixels, correct pixels, and the sum of confidences in 1/3000.

    Raises:
      ValueError: the middle of a level is not a whole number of 1/3000.
    """
    number = levels.shape[-1]
    if number % BINS or _UNIT % (2 * number):
        raise ValueError(f"{number} levels: expected a multiple of {BINS} of which {_UNIT} is an even multiple")
    middles = (2 * np.arange(number, dtype=np.int64) + 1) * (_UNIT // (2 * number))
    pixels = levels.sum(axis=-2, dtype=np.int64)
    counts = np.stack([pixels, levels[..., 1, :].astype(np.int64), pixels * middles], axis=-1)
    grouped: np.ndarray = counts.reshape(*counts.shape[:-2], BINS, number // BINS, 3).sum(axis=-2)
    return grouped


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model, from int64[BINS, 3]; see `bins_of_levels`."""

    bins: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """int64[BINS]."""
        return self.bins[:, 0]

    @property
    def confidence(self) -> np.ndarray:
        """float64[BINS]: the mean confidence of each bin; NaN without pixels."""
        return self._mean_of(self.bins[:, 2] / _UNIT)

    @property
    def accuracy(self) -> np.ndarray:
        """float64[BINS]: the share of the pixels of each bin that are correct; NaN without pixels."""
        return self._mean_of(self.bins[:, 1])

    @property
    def error(self) -> float:
        """The ECE: the mean over the pixels of the difference between confidence and accuracy of their bin; NaN without
        pixels.
        """
        return float(expected_error(self.bins))

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy: above 0 if the model is overconfident; NaN without pixels."""
        pixels, correct, confidence = self.bins.sum(axis=0)
        return float((confidence / _UNIT - correct) / pixels) if pixels else float("nan")

    @property
    def tendency(self) -> str:
        """The sign of `overconfidence` in a word."""
        return "overconfident" if self.overconfidence > 0 else "underconfident"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        rows = zip(self.pixels.tolist(), self.confidence, self.accuracy, strict=True)
        return {
            "error": plain(self.error),
            "overconfidence": plain(self.overconfidence),
            "bins": [
                {"pixels": pixels, "confidence": plain(mean), "accuracy": plain(share)} for pixels, mean, share in rows
            ],
        }

    def _mean_of(self, sums: np.ndarray) -> np.ndarray:
        means: np.ndarray = np.divide(sums, self.pixels, out=np.full(len(self.bins), np.nan), where=self.pixels > 0)
        return means


def expected_error(bins: np.ndarray) -> np.ndarray:
    """The ECE of counts [..., BINS, 3]; NaN without pixels."""
    gaps = np.abs(bins[..., 2] / _UNIT - bins[..., 1]).sum(axis=-1)
    pixels = bins[..., 0].sum(axis=-1)
    errors: np.ndarray = np.divide(gaps, pixels, out=np.full(np.shape(gaps), np.nan), where=pixels > 0)
    return errors


def error_interval(bins: np.ndarray, *, seed: int, samples: int = 1000) -> np.ndarray:
    """float64[2]: the 95 % limits of the ECE, by a bootstrap over images (see `bootstrap_interval`).

    The ECE is biased upwards for few pixels (Kumar et al. 2019, section 4), and so are the samples'.

    Args:
      bins: integer[N, BINS, 3], of each image.
    """
    draws = draw_images(len(bins), samples, np.random.default_rng(seed))
    drawn = draws @ bins.reshape(len(bins), -1).astype(np.float64)
    return limits_of(expected_error(drawn.reshape(samples, BINS, 3)))
