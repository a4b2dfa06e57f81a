"""PNG files: their chunks, and their samples as stored. Every CRC-32 is checked.

Two decoders give the same samples. imagecodecs (libpng) is always there. imgread (the crate `png` of Rust) takes three
quarters of its time for what most street scenes are, RGB with 8 bits; it is installed where it has wheels. It sees only
files that both read alike; what it does not take, imagecodecs decodes or refuses. One difference is left: imgread stops
at the last pixel. Of a file whose CRC-32s are right and whose compressed data are wrong behind that pixel, where their
Adler-32 is, it gives the pixels, and libpng refuses it.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np

from beam_pipelines.contract.picture_errors import AGAIN, PNG_SIGNATURE, PictureError, damaged

try:
    from imgread import load_numpy_from_bytes
except ImportError:
    load_numpy_from_bytes = None

GRAY, RGB = 0, 2  # color types of a PNG's header; bit depth and color type are its bytes 24 and 25
SIZE = 16  # where a PNG's header has width, height, bit depth and color type
TEXT = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")  # chunks that Pillow unpacks only up to a limit
_HEADER = b"\0\0\0\rIHDR"
_PLAIN = bytes([8, RGB, 0, 0, 0])  # bit depth, color type, compression, filters, not interlaced
_DEFLATE = b"\x78"  # a zlib stream with a window of 32 KiB: distances can't reach too far back
_BESIDE = {*TEXT, b"bKGD", b"cHRM", b"eXIf", b"gAMA", b"pHYs", b"sBIT", b"sRGB", b"tIME"}  # chunks without samples
_MOST_UNPACKED = 2**26  # bytes of rows that are held beside the pixels
_BLOCK = 2**16 - 1  # bytes, the most of a stored block
_SAMPLES = {GRAY: 1, RGB: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, as stored, by color type
_CHANNELS = {GRAY: 1, RGB: 3, 3: 3, 4: 2, 6: 4}  # of each color type; palettes become RGB


def decoder() -> str:
    """The name of the library that decodes RGB with 8 bits."""
    return "imagecodecs" if load_numpy_from_bytes is None else "imgread"


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each chunk, its length and checksum included."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], position, end
        position = end


def check_chunks(data: bytes) -> None:
    """Refuses a PNG of which a checksum does not fit, or the end is missing: Pillow does not look at all of them."""
    for name, start, end in chunks(data):
        if end <= len(data) and not _fits(data, start, end):
            found = f"the checksum of the chunk {name.decode('latin-1')} at byte {start:,} does not fit"
            raise PictureError("corrupt", f"{found}: {AGAIN}")
        if name == b"IEND":
            return
    raise damaged(data, "the last chunk, IEND, is missing")


def decode_png(data: bytes) -> np.ndarray:
    """A PNG whose size was checked -> uint8 or uint16 [H, W] or [H, W, 2 to 4], as stored; 1, 2 and 4 bits are
    stretched to 0..255.

    Raises:
      ValueError or RuntimeError (imagecodecs.PngError): it is damaged.
    """
    if load_numpy_from_bytes is not None and _is_plain(data):
        try:
            pixels: np.ndarray = load_numpy_from_bytes(data, backend="image", limits="unlimited")
            return pixels
        except (RuntimeError, ValueError):
            pass  # imagecodecs tells what is wrong
    return _decode_any(data)


def _is_plain(data: bytes) -> bool:
    """Whether it is a whole file of RGB with 8 bits in which nothing is unusual: both decoders read it alike."""
    if not data.startswith(PNG_SIGNATURE + _HEADER) or data[24:29] != _PLAIN:
        return False
    before, pixels = b"", 0  # the name of the chunk before, and the number of runs of chunks with pixels
    for name, start, end in chunks(data):
        if name == b"IEND":
            return pixels == 1 and end <= len(data)
        if end > len(data):
            return False
        if name == b"IDAT":
            if before != name:
                pixels += 1
                if data[start + 8 : start + 9] != _DEFLATE:
                    return False
        elif before and (name not in _BESIDE or not _fits(data, start, end)):
            return False
        before = name
    return False


def _decode_any(data: bytes) -> np.ndarray:
    if (unpacked := _with_unpacked_pixels(data)) is not None:
        with contextlib.suppress(RuntimeError, ValueError):  # of the file itself libpng tells what is wrong
            return _decode_by_libpng(unpacked)
    return _decode_by_libpng(data)


def _with_unpacked_pixels(data: bytes) -> bytes | None:
    """The same picture with stored, not compressed, pixels: libdeflate unpacks them in a fraction of the time of
    libpng's zlib, and checks their Adler-32 as well. None where that is no gain, or something is unusual.
    """
    width, height, bits, color_type, compression, filters, interlaced = struct.unpack_from(">2I5B", data, SIZE)
    size = height * (1 + -(-width * bits * _SAMPLES.get(color_type, 0) // 8))
    if size > _MOST_UNPACKED or compression or filters or interlaced:
        return None
    stream, before, after = list[memoryview](), list[bytes](), list[bytes]()
    for name, start, end in chunks(data):
        if end > len(data) or (name == b"IDAT" and (after or not _fits(data, start, end))):
            return None
        if name == b"IDAT":
            stream.append(memoryview(data)[start + 8 : end - 4])
        else:
            (after if stream else before).append(data[start:end])
    if not stream or stream[0][:1] != _DEFLATE:
        return None
    packed = b"".join(stream)
    try:
        rows = imagecodecs.deflate_decode(packed, out=size)
    except (RuntimeError, ValueError):
        return None
    return None if len(rows) != size else b"".join([data[:8], *before, *_stored(rows, packed[-4:]), *after])


def _stored(rows: bytes, adler: bytes) -> Iterator[bytes | memoryview]:
    """The parts of a chunk with `rows` in a zlib stream that compresses nothing (RFC 1951, 3.2.4)."""
    blocks = range(0, len(rows), _BLOCK)
    yield (2 + len(rows) + 5 * len(blocks) + 4).to_bytes(4, "big")
    checksum = 0
    for part in _stream_of(memoryview(rows), blocks, adler):
        checksum = zlib.crc32(part, checksum)
        yield part
    yield checksum.to_bytes(4, "big")


def _stream_of(rows: memoryview, blocks: range, adler: bytes) -> Iterator[bytes | memoryview]:
    yield b"IDAT\x78\x01"
    for start in blocks:
        block = rows[start : start + _BLOCK]
        yield struct.pack("<BHH", start == blocks[-1], len(block), len(block) ^ 0xFFFF)
        yield block
    yield adler


def _decode_by_libpng(data: bytes) -> np.ndarray:
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, SIZE)
    dtype, channels = np.uint16 if bits == 16 else np.uint8, _CHANNELS.get(color_type, 4)
    try:
        return _decode_into(np.empty(_shape(height, width, channels), dtype), data)
    except ValueError:  # another shape: a color that is marked as transparent (tRNS) adds a channel
        return _decode_into(np.empty(_shape(height, width, channels + 1), dtype), data)


def _decode_into(pixels: np.ndarray, data: bytes) -> np.ndarray:
    """imagecodecs allocates no array here: where it does, it releases a reference to None with every damaged file
    (version 2026.3.6), and Python before 3.12 ends the process after tens of thousands of these. Of an array that it is
    given it keeps a reference then.
    """
    try:
        imagecodecs.png_decode(data, out=pixels)
    except (RuntimeError, ValueError):
        pixels.resize(0, refcheck=False)  # which nobody reads any more
        raise
    return pixels


def _shape(height: int, width: int, channels: int) -> tuple[int, ...]:
    return (height, width) if channels == 1 else (height, width, channels)


def _fits(data: bytes, start: int, end: int) -> bool:
    """Whether the checksum of a chunk fits."""
    view = memoryview(data)
    return zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
