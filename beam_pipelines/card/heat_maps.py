"""Where each class lies in the pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.pages.pictures import png

# Viridis (Smith and van der Walt, 2015) at five equal steps: its colors differ in lightness, for color-blind people.
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


@dataclass(frozen=True)
class HeatMap:
    """A class as a picture, and in numbers: `most` is the largest share that it has of a cell, the others are shares of
    its pixels in the thirds of the pictures' height and width.
    """

    name: str
    address: str
    most: float
    thirds: tuple[float, ...]
    across: tuple[float, ...]

    @property
    def words(self) -> str:
        """For those who can't see it."""
        high, middle, low = (f"{100 * each:.0f}%" for each in self.thirds)
        left, center, right = (f"{100 * each:.0f}%" for each in self.across)
        return (
            f"{self.name}: {high} of its pixels in the upper third, {middle} in the middle, {low} in the lower third; "
            f"{left} left, {center} in the center, {right} right"
        )


def heat_map(name: str, cells: np.ndarray, pixels: np.ndarray) -> HeatMap | None:
    """`cells`: int64[16, 32], the pixels of a class in each cell of the picture. `pixels`: those of all classes and the
    ignored ones, for cells are uneven where the size is no multiple of theirs. None if the class has no pixels.
    """
    total = int(cells.sum())
    if not total:
        return None
    # Pictures with fewer rows or columns than cells leave some of these empty.
    held = np.ix_(pixels.any(1), pixels.any(0))
    shares = cells[held] / np.maximum(pixels[held], 1)
    levels = (shares / shares.max() * 255).astype(np.uint8)
    picture = png(levels, _palette())
    return HeatMap(name, picture, float(shares.max()), _thirds(cells.sum(1), total), _thirds(cells.sum(0), total))


def _thirds(counts: np.ndarray, total: int) -> tuple[float, ...]:
    """The shares of the thirds of a list; a cell that lies in two of them is divided."""
    fine = np.repeat(counts, 3).reshape(3, -1).sum(1)
    return tuple(int(part) / (3 * total) for part in fine)


def _palette() -> bytes:
    places, steps = np.linspace(0, len(_VIRIDIS) - 1, 256), np.arange(len(_VIRIDIS))
    channels = [np.interp(places, steps, channel) for channel in np.array(_VIRIDIS).T]
    return bytes(np.rint(np.stack(channels, 1)).astype(np.uint8))
