"""(x / 255 - mean) / std by a lookup table of its 3 x 256 results, computed in float64."""

from __future__ import annotations

import numpy as np

from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.pixel import CHANNELS, LEVELS


class Normalizer:
    """uint8 images -> normalized ones of `dtype` (float32 or float16), rounded once."""

    def __init__(self, normalization: Normalization, dtype: str) -> None:
        self._table = normalization.table().astype(dtype)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8[H, W, 3] -> dtype[H, W, 3]."""
        normalized = np.empty(image.shape, self._table.dtype)
        for channel in range(CHANNELS):
            np.take(self._table[channel], image[..., channel], out=normalized[..., channel], mode="clip")
        return normalized

    def values(self) -> np.ndarray:
        """dtype[3, 256]: every value that a normalized image can hold, by channel."""
        return self._table.reshape(CHANNELS, LEVELS)
