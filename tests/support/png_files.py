"""PNG files of RGB with 8 bits, by hand: every filter, and any chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from tests.support.picture_files import PNG_SIGNATURE, RGB, chunk

NONE, SUB, UP, AVERAGE, PAETH = FILTERS = tuple(range(5))


def filtered(pixels: np.ndarray, filters: Sequence[int]) -> bytes:
    """The rows of RGB with 8 bits as a PNG has them, with one of the filters in turn."""
    rows = pixels.reshape(len(pixels), -1).astype(int)
    height, width = rows.shape
    above = np.vstack([np.zeros((1, width), int), rows])[:-1]
    left, corner = (np.hstack([np.zeros((height, 3), int), each])[:, :width] for each in (rows, above))
    guess = left + above - corner
    far = [np.abs(guess - each) for each in (left, above, corner)]
    nearest = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
    predicted = [0 * rows, left, above, (left + above) // 2, nearest]
    chosen = [filters[row % len(filters)] for row in range(height)]
    return b"".join(
        bytes([kind]) + (rows[row] - predicted[kind][row]).astype(np.uint8).tobytes() for row, kind in enumerate(chosen)
    )


def header_of(pixels: np.ndarray, **changed: int) -> bytes:
    fields = {"bits": 8, "color": RGB, "compression": 0, "filters": 0, "interlaced": 0} | changed
    return chunk(b"IHDR", struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], *fields.values()))


def file_of(*chunks: bytes) -> bytes:
    return PNG_SIGNATURE + b"".join(chunks)


def rgb_png(
    pixels: np.ndarray,
    *,
    filters: Sequence[int] = FILTERS,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    level: int = 6,
    parts: int = 1,
) -> bytes:
    stream = zlib.compress(filtered(pixels, filters), level)
    size = -(-len(stream) // parts)
    idat = [chunk(b"IDAT", stream[start : start + size]) for start in range(0, len(stream), size)]
    return file_of(header_of(pixels), *before, *idat, *after, chunk(b"IEND", b""))
