"""The decoders of PNG files side by side: what each makes of a file, and the one difference that is allowed."""

from __future__ import annotations

import math
import struct
import zlib
from unittest import mock

import imagecodecs
import numpy as np

from beam_pipelines.contract import png
from beam_pipelines.contract.pictures import PictureError, png_pixels
from tests.support.picture_files import chunk
from tests.support.png_files import file_of, header_of

_LIMIT = 1_000_000  # pixels
_HEADER = 33  # bytes, with the signature
_LAST = 258  # bytes at most that zlib unpacks and does not give because of the next
Outcome = np.ndarray | tuple[str, str]


def outcome(data: bytes) -> Outcome:
    """The samples, or the reason and the detail of the refusal."""
    if len(data) < _HEADER or math.prod(struct.unpack_from(">2I", data, png.SIZE)) > _LIMIT:
        return "corrupt", "the callers of the decoders have checked the size"
    try:
        return png_pixels(data)
    except PictureError as error:
        return error.reason, error.detail


def agree(data: bytes) -> bool:
    """Whether all ways to decode do the same, or differ as the module says."""
    found = outcome(data)
    with mock.patch.object(png, "load_numpy_from_bytes", None):
        unpacked = outcome(data)
        with mock.patch.object(png, "_with_unpacked_pixels", return_value=None):
            alone = outcome(data)
    return _equal(unpacked, alone) and (_equal(found, alone) or _may_differ(data, found, alone))


def _equal(found: Outcome, other: Outcome) -> bool:
    if isinstance(found, tuple) or isinstance(other, tuple):  # the detail may be what is left of a message
        return isinstance(found, tuple) and isinstance(other, tuple) and found[0] == other[0]
    return found.dtype == other.dtype and np.array_equal(found, other)


def _may_differ(data: bytes, found: Outcome, alone: Outcome) -> bool:
    return isinstance(alone, tuple) and not isinstance(found, tuple) and is_wrong_at_the_end_alone(data, found)


def is_wrong_at_the_end_alone(data: bytes, pixels: np.ndarray) -> bool:
    """Whether the compressed data hold all of `pixels`, which are RGB, and what is wrong comes after these."""
    rows, has_ended = _unpacked(data)
    size = 1 + 3 * pixels.shape[1]
    if has_ended or len(rows) + _LAST < size * len(pixels):
        return False
    whole = pixels[: len(rows) // size]
    repaired = file_of(header_of(whole), chunk(b"IDAT", zlib.compress(rows[: size * len(whole)])), chunk(b"IEND", b""))
    return len(whole) == 0 or np.array_equal(imagecodecs.png_decode(repaired), whole)


def _unpacked(data: bytes) -> tuple[bytes, bool]:
    """What the compressed data hold up to where they are wrong, but for the last bytes; and whether they are right."""
    stream = b"".join(data[start + 8 : end - 4] for name, start, end in png.chunks(data) if name == b"IDAT")
    unpacked, rows = zlib.decompressobj(), bytearray()
    try:
        for byte in stream:
            rows += unpacked.decompress(bytes([byte]))
    except zlib.error:
        return bytes(rows), False
    return bytes(rows), unpacked.eof
