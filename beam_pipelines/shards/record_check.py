"""Checks a record against the manifest, and counts its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import imagecodecs
import numpy as np

from beam_pipelines.contract import record
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import CHANNELS, LEVELS
from beam_pipelines.contract.png import decode_png
from beam_pipelines.contract.record import RAW_DTYPES, Record
from beam_pipelines.pixels.measure import class_pixels_of, moments_of
from beam_pipelines.pixels.normalize import Normalizer


@dataclass(frozen=True)
class Tally:
    """Totals of the records of a split; `+` is exact, except for the float sums.

    `sums` and `squares`, float64[3], are of the stored pixels; `moments` is of the uint8 pixels that these represent.
    """

    examples: int = 0
    moments: Moments = field(default_factory=Moments.zero)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    sums: np.ndarray = field(default_factory=lambda: np.zeros(CHANNELS))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(CHANNELS))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.examples + other.examples,
            self.moments + other.moments,
            self.class_pixels + other.class_pixels,
            self.sums + other.sums,
            self.squares + other.squares,
        )

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.moments.histogram, self.class_pixels, self.sums, self.squares

    def stored_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, population std) of the pixels as stored, each float64[3]."""
        mean = self.sums / self.moments.pixels
        return mean, np.sqrt(np.maximum(self.squares / self.moments.pixels - mean**2, 0))


class RecordChecker:
    """Checks records of one data set."""

    def __init__(self, manifest: Manifest) -> None:
        self._pixels = manifest.pixels
        self._classes = manifest.labels.num_classes
        self._normalization = manifest.moments.normalization
        self._values = (
            Normalizer(self._normalization, manifest.pixels.dtype).values() if self._pixels.normalized else None
        )

    def check(self, serialized: bytes) -> tuple[list[str], Tally]:
        """-> the problems of a record, and its Tally, which is empty if there are problems."""
        try:
            found = record.decode(serialized)
            problems = self._problems(found)
            if problems:
                return problems, Tally()
            record.check(found)
            image = _array(found.image, found.image_format, (found.height, found.width, CHANNELS))
            mask = _array(found.mask, found.mask_format, (found.height, found.width))
            levels = image if self._values is None else self._levels(image)
        except (record.RecordError, ValueError, MemoryError, imagecodecs.PngError) as error:
            return [str(error) or type(error).__name__], Tally()
        class_pixels = class_pixels_of(mask)
        strange = [int(value) for value in np.flatnonzero(class_pixels) if self._classes <= value != IGNORE]
        if strange:
            return [f"the mask holds {strange}, and train ids are 0 to {self._classes - 1} and {IGNORE}"], Tally()
        stored = image.reshape(-1, CHANNELS).astype(np.float64)
        sums, squares = stored.sum(0), np.einsum("ij,ij->j", stored, stored)
        return [], Tally(1, moments_of(levels), class_pixels, sums, squares)

    def _problems(self, found: Record) -> list[str]:
        pixels = self._pixels
        expected = {
            "image_format": pixels.image_format,
            "mask_format": pixels.mask_format,
            "height": pixels.height if pixels.height is not None else found.height,
            "width": pixels.width if pixels.width is not None else found.width,
            "channels": CHANNELS,
        }
        return [
            f"{name} is {getattr(found, name)!r}, and the manifest says {value!r}"
            for name, value in expected.items()
            if getattr(found, name) != value
        ]

    def _levels(self, image: np.ndarray) -> np.ndarray:
        """Normalized [H, W, 3] -> the uint8 pixels that it was made from. Raises ValueError if there are none."""
        assert self._values is not None
        with np.errstate(invalid="ignore"):  # a value that is no number, or none of a pixel, differs from all `exact`
            levels = self._normalization.to_pixels(image)
        exact = np.stack([self._values[channel][levels[..., channel]] for channel in range(CHANNELS)], -1)
        wrong = exact != image
        if wrong.any():
            row, column, channel = np.argwhere(wrong)[0]
            raise ValueError(
                f"{np.count_nonzero(wrong):,} values are not (x/255 - mean)/std of any x, the first "
                f"{image[row, column, channel]} at row {row}, column {column}, channel {channel}"
            )
        return levels


def _array(encoded: bytes, pixel_format: str, shape: tuple[int, ...]) -> np.ndarray:
    """Decodes pixels that passed `record.check`."""
    if pixel_format == "png":
        return decode_png(encoded)
    return np.frombuffer(encoded, RAW_DTYPES[pixel_format]).reshape(shape)
