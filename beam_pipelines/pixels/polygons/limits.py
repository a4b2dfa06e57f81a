"""What a region may be, so that no file makes a worker crash or stall: checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_pipelines.pixels.decode import bad as bad_at_decode
from beam_pipelines.rejects import BadInputError

MAX_BYTES = 64_000_000  # of the JSON of all regions of an image
MAX_REGIONS = 10_000  # of an image
MAX_POINTS = 100_000  # of an outline; Pillow's time grows with points times rows
MAX_OUTLINE = 2_000_000  # pixels of an outline: pycocotools takes 120 bytes for each
LINE_WIDTH = 10  # pixels, as Labelme draws lines
_FAR, _LEAST_FAR = 4, 10_000  # times the longer side of the image, but at least so many pixels


def bad(detail: str) -> BadInputError:
    """The error for a region that can't be drawn."""
    return bad_at_decode("bad_polygons", detail)


def outline(points: Sequence[object], name: str, size: tuple[int, int]) -> np.ndarray:
    """[x, y, x, y, ...] or [(x, y), ...] -> float64[n, 2]. What lies outside the image is clipped by what draws it.

    Raises:
      BadInputError: an odd number of coordinates, too many of them, or some that are far outside the image.
    """
    values = np.array(points, np.float64).reshape(-1)
    if values.size % 2:
        raise bad(f"{name!r} has an outline of {values.size} coordinates, which are no pairs")
    if values.size > 2 * MAX_POINTS:
        raise bad(f"{name!r} has an outline of {values.size // 2:,} points; at most {MAX_POINTS:,} are possible")
    check_near(values, name, size)
    found = values.reshape(-1, 2)
    length = np.abs(np.diff(found, axis=0, append=found[:1])).max(axis=1, initial=0).sum()
    if length > MAX_OUTLINE:
        raise bad(f"{name!r} has an outline of {length:,.0f} pixels; at most {MAX_OUTLINE:,} are possible")
    return found


def check_near(values: np.ndarray | Sequence[float], name: str, size: tuple[int, int]) -> None:
    """Raises BadInputError if one of the coordinates is no number, or far outside the image."""
    far = max(_FAR * max(size), _LEAST_FAR)
    for value in np.asarray(values)[~(np.abs(values) <= far)]:
        raise bad(f"{name!r} has the coordinate {value:g}, and the image has {size[0]}x{size[1]} pixels")
