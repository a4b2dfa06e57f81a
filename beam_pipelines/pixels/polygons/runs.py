"""Run-length encodings: lengths of runs, of pixels outside and inside a region by turns."""

from __future__ import annotations

import numpy as np

from beam_pipelines.pixels.polygons.limits import bad

_FIRST, _LAST = 48, 111  # the characters of COCO's text, 6 bits each
_MORE, _SIGN, _BITS = 0x20, 0x10, 5
_LONGEST = 7  # characters of a number: 35 bits


def check_number(runs: int, pixels: int, name: str) -> None:
    """Raises BadInputError if there are more runs than `pixels` need: one for each, after an empty one."""
    if runs > pixels + 1:
        raise bad(f"{name!r} has {runs:,} runs or more of {pixels:,} pixels; at most {pixels + 1:,} are possible")


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


def decompressed(text: bytes, pixels: int, name: str) -> np.ndarray:
    """The lengths in COCO's compressed text about `pixels`, int64[n]; `maskApi.c`, rleFrString, which reads past a text
    that ends amid a number. Raises BadInputError if it is no such text, or has more runs than there can be.
    """
    check_number(-(-len(text) // _LONGEST), pixels, name)  # before memory is taken
    codes = np.frombuffer(text, np.uint8) - np.uint8(_FIRST)  # what is less becomes large
    if (codes > _LAST - _FIRST).any() or (codes.size and codes[-1] & _MORE):
        raise bad(f"the RLE of {name!r} is not what pycocotools writes, or is cut off")
    ends = np.flatnonzero((codes & _MORE) == 0) + 1
    check_number(ends.size, pixels, name)
    lengths = np.diff(ends, prepend=0)
    if (lengths > _LONGEST).any():
        raise bad(f"the RLE of {name!r} has a number that is too large")
    values = np.zeros(ends.size, np.int64)
    for place in range(lengths.max(initial=0)):
        have = np.flatnonzero(lengths > place)
        values[have] += (codes[ends[have] - lengths[have] + place] & 0x1F).astype(np.int64) << (_BITS * place)
    values -= np.where(codes[ends - 1] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    # From the fourth on, a number is the difference from the one two places before.
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values
