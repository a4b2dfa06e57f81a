"""How pixels are normalized, (pixel / 255 - mean) / std: one definition for records, trainer, serving and plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.pixel import LEVELS


@dataclass(frozen=True)
class Normalization:
    """`mean` and `std` of pixel / 255, one number for each channel.

    A channel whose `std` is 0 holds one value only: it is centered and not divided, so its `divisor` is 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def center(self) -> np.ndarray:
        """float64[C]: the mean of pixel / 255."""
        return np.array(self.mean, np.float64)

    @property
    def divisor(self) -> np.ndarray:
        """float64[C]: the std of pixel / 255, or 1 for a channel of which it is 0."""
        return np.array([value or 1.0 for value in self.std], np.float64)

    def table(self) -> np.ndarray:
        """float64[C, 256]: the normalized value of each value 0..255, by channel."""
        return np.asarray((np.arange(LEVELS) / 255.0 - self.center[:, None]) / self.divisor[:, None])

    def shift_and_factor(self) -> tuple[np.ndarray, np.ndarray]:
        """float32[C] each, for pixels 0..255: normalized = (pixel - shift) * factor."""
        return self.center.astype(np.float32) * 255, 1 / (255 * self.divisor.astype(np.float32))

    def to_pixels(self, image: np.ndarray) -> np.ndarray:
        """The inverse: normalized [..., C] -> uint8[..., C], rounded; NaN becomes 0."""
        levels = np.rint((np.asarray(image, np.float64) * self.divisor + self.center) * 255)
        return np.asarray(np.clip(np.nan_to_num(levels, nan=0.0), 0, 255), np.uint8)

    def change_to(self, other: Normalization) -> tuple[np.ndarray, np.ndarray]:
        """float64[C] each: image * scale + offset is normalized by `other` if `image` is normalized by this one."""
        return self.divisor / other.divisor, (self.center - other.center) / other.divisor

    def rescaling(self, least: float, most: float) -> tuple[list[float], list[float]]:
        """(scale, offset), C numbers each: image * scale + offset is in `least`..`most` for pixels in 0..255."""
        span = most - least
        return [span * float(value) for value in self.divisor], [span * value + least for value in self.mean]
