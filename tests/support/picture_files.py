"""Picture files as Pillow writes them, and PNG by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB = 0, 2  # color types of a PNG


def saved(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """As a file of that format that Pillow writes."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def gray_png(values: np.ndarray, bits: int, *chunks: bytes) -> bytes:
    """A gray PNG of 1 to 16 bits by hand: Pillow does not write them all."""
    shifts = np.arange(bits - 1, -1, -1)
    packed = np.packbits(values[..., None] >> shifts & 1)
    assert values.shape[1] * bits % 8 == 0, "rows of whole bytes"
    rows = packed.reshape(values.shape[0], -1)
    return png_of(
        values.shape[1], values.shape[0], bits, GRAY, b"".join(b"\0" + row.tobytes() for row in rows), *chunks
    )


def png_of(width: int, height: int, bits: int, color_type: int, rows: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    return PNG_SIGNATURE + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
