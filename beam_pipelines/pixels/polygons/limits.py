"""What a region may be, so that no file makes a worker crash or stall: checked before anything is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from beam_pipelines.pixels.decode import bad as bad_at_decode
from beam_pipelines.rejects import BadInputError

MAX_BYTES = 64_000_000  # of the JSON of all regions of an image
MAX_REGIONS = 10_000  # of an image; pycocotools' time to unite polygons grows with the square of their number
MAX_POINTS = 100_000  # of an outline
MAX_OUTLINE = 2_000_000  # pixels of an outline: pycocotools takes 120 bytes for each
# What all regions of an image may take: the most of each took 1 to 8 s of a core.
OUTLINES, LENGTH = "outlines", "pixels of outlines"
STEPS = "points times rows and points"  # Pillow looks at each edge of a polygon in each row, and at each end of an edge
PIXELS = "pixels to draw"  # in the box of a region, or in its columns; those that take longer count several times
_MOST = {OUTLINES: MAX_REGIONS, LENGTH: 10_000_000, STEPS: 2_000_000_000, PIXELS: 3_000_000_000}
_LEAST_COVERS = 150  # so many times the pixels of a large image
LINE_WIDTH = 10  # pixels, as Labelme draws lines
_FAR, _LEAST_FAR = 4, 10_000  # times the longer side of the image, but at least so many pixels


def bad(detail: str) -> BadInputError:
    """The error for a region that can't be drawn."""
    return bad_at_decode("bad_polygons", detail)


class Work:
    """What the regions of an image, of `size` (height, width), take together."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._most = _MOST | {PIXELS: max(_MOST[PIXELS], _LEAST_COVERS * size[0] * size[1])}
        self._done: Counter[str] = Counter()

    def add(self, what: str, amount: int) -> None:
        """Raises BadInputError if that is too much in all."""
        self._done[what] += amount
        if self._done[what] > self._most[what]:
            raise bad(
                f"its regions have {self._done[what]:,} {what} or more; at most {self._most[what]:,} are possible"
            )


def outline(points: Sequence[object], name: str, work: Work) -> np.ndarray:
    """[x, y, x, y, ...] or [(x, y), ...] -> float64[n, 2]. What lies outside the image is clipped by what draws it.

    Raises:
      BadInputError: an odd number of coordinates, too many of them, or some that are far outside the image; or too much
        `work`.
    """
    values = np.array(points, np.float64).reshape(-1)
    if values.size % 2:
        raise bad(f"{name!r} has an outline of {values.size} coordinates, which are no pairs")
    if values.size > 2 * MAX_POINTS:
        raise bad(f"{name!r} has an outline of {values.size // 2:,} points; at most {MAX_POINTS:,} are possible")
    check_near(values, name, work.size)
    found = values.reshape(-1, 2)
    length = np.abs(np.diff(found, axis=0, append=found[:1])).max(axis=1, initial=0).sum()
    if length > MAX_OUTLINE:
        raise bad(f"{name!r} has an outline of {length:,.0f} pixels; at most {MAX_OUTLINE:,} are possible")
    work.add(LENGTH, int(length))
    return found


def box_of(points: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the image that the box around float64[n, 2] touches."""
    if not len(points):
        return 0, 0
    ends = np.clip([np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1], 0, size[::-1])
    columns, rows = (ends[1] - ends[0]).astype(int).tolist()
    return rows, columns


def check_near(values: np.ndarray | Sequence[float], name: str, size: tuple[int, int]) -> None:
    """Raises BadInputError if one of the coordinates is no number, or far outside the image."""
    far = max(_FAR * max(size), _LEAST_FAR)
    for value in np.asarray(values)[~(np.abs(values) <= far)]:
        raise bad(f"{name!r} has the coordinate {value:g}, and the image has {size[0]}x{size[1]} pixels")
