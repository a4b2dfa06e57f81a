"""Run-length encodings: lengths of runs, of pixels outside and inside a region by turns."""

from __future__ import annotations

import numpy as np

from beam_pipelines.pixels.polygons.limits import bad

_FIRST, _LAST = 48, 111  # the characters of COCO's text, 6 bits each
_MORE, _SIGN, _BITS = 0x20, 0x10, 5
_LONGEST = 7  # characters of a number: 35 bits


def check_runs(counts: np.ndarray, pixels: int, name: str) -> None:
    """Raises BadInputError if the lengths, int64[n], don't add up to `pixels`."""
    if (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
        raise bad(f"the runs of {name!r} don't add up to the {pixels:,} pixels that they are about")


def spread(counts: np.ndarray) -> np.ndarray:
    """int64[n] of lengths -> bool of each pixel."""
    return np.repeat(np.arange(counts.size) % 2 == 1, counts)


def columns_of(counts: np.ndarray, height: int) -> tuple[int, np.ndarray]:
    """Lengths down the columns, int64[n] -> (left, bool[height, w]): the columns that the region is in."""
    inside = np.flatnonzero(counts * (np.arange(counts.size) % 2))
    if not inside.size:
        return 0, np.zeros((height, 0), bool)
    left, above = divmod(int(counts[: inside[0]].sum()), height)
    runs = np.concatenate([[above], counts[inside[0] : inside[-1] + 1]])
    below = -int(runs.sum()) % height
    return left, spread(np.append(runs, below)).reshape((height, -1), order="F")


def decompressed(text: bytes, name: str) -> np.ndarray:
    """The lengths in COCO's compressed text, int64[n]; `maskApi.c`, rleFrString, which reads past a text that ends amid
    a number. Raises BadInputError if it is no such text.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64)
    if ((codes < _FIRST) | (codes > _LAST)).any() or (codes.size and (codes[-1] - _FIRST) & _MORE):
        raise bad(f"the RLE of {name!r} is not what pycocotools writes, or is cut off")
    codes -= _FIRST
    ends = np.flatnonzero((codes & _MORE) == 0) + 1
    starts = np.concatenate([[0], ends])[:-1]
    if (ends - starts > _LONGEST).any():
        raise bad(f"the RLE of {name!r} has a number that is too large")
    place = np.arange(codes.size) - np.repeat(starts, ends - starts)
    values = np.add.reduceat((codes & 0x1F) << (_BITS * place), starts) if starts.size else codes
    last = codes[ends - 1]
    values -= np.where(last & _SIGN, np.int64(1) << (_BITS * (ends - starts)), 0)
    # From the fourth on, a number is the difference from the one two places before.
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values
