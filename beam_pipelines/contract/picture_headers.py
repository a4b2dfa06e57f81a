"""What a graph of `picture_graph` finds in a file before it decodes the pixels: format, faults, place of orientations.

A loop finds where the segments or chunks of a file begin, and all of them are looked at together behind it: a branch
in the loop would cost more to trace and to load than its few operations cost to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

FORMATS = "JPEG, PNG or BMP"
SOUND = ""
PADDING = 64  # zeros after a file, so that a truncated header can be parsed
_PNG_CHUNKS = (b"acTL", b"IDAT", b"IEND", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tRNS")  # that are looked at
_PNG_ALPHA = (4, 6)  # color types
_PNG_XMP, _PNG_PROFILE = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
_JPEG_TAKEN = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive
_JPEG_ARITHMETIC, _JPEG_LOSSLESS = (0xC9, 0xCA), (0xC3,)
_JPEG_TABLES = (0xC4, 0xC8, 0xCC)  # among the markers of frames
_JPEG_EXIF, _JPEG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_FRAME = 10  # bytes of a JPEG's frame that are looked at
_CHUNK = 12  # bytes of a PNG's chunk without data
UNKNOWN, JPEG, PNG, BMP, PNG_DEEP = range(5)  # how a file is decoded
_SIGNATURES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", BMP: b"BM"}


class File(NamedTuple):
    """A file, and its bytes with zeros behind them, as text string[] and as numbers uint8[N]; int64[], its size."""

    file: Any
    text: Any
    data: Any
    size: Any

    @classmethod
    def of(cls, file: Any) -> File:
        text = tf.strings.join([file, b"\0" * PADDING])
        return cls(file, text, tf.io.decode_raw(text, tf.uint8), tf.cast(tf.strings.length(file), tf.int64))

    def slices(self, at: Any, length: int) -> Any:
        """Those from each place on: string, of the shape of `at`."""
        return tf.strings.substr(self.text, at, tf.zeros_like(at) + length)

    def has(self, at: Any, mark: bytes) -> Any:
        """Whether `mark` stands at each place, bool, of the shape of `at`."""
        return tf.equal(self.slices(at, len(mark)), mark)

    def numbers(self, places: Any) -> Any:
        """Unsigned, of the bytes at int64[..., 1, 2 or 4], the lowest first -> int64[...]."""
        kind = {1: tf.uint8, 2: tf.uint16, 4: tf.uint32}[places.shape[-1]]
        return tf.cast(tf.bitcast(tf.gather(self.data, places), kind), tf.int64)

    def number(self, at: Any, length: int) -> Any:
        """Unsigned, the highest byte first: int64, of the shape of `at`."""
        return self.numbers(tf.expand_dims(at, -1) + tf.range(length - 1, -1, -1, dtype=tf.int64))


class Header(NamedTuple):
    """What is found before the pixels are decoded: `kind`, how that is done; `opaque`, whether no pixel can be
    transparent; where EXIF and XMP begin and end, int64[N, 2]; what is wrong that counts more than an orientation, and
    what counts less.
    """

    fault: Any
    lesser_fault: Any
    exif: Any
    xmp: Any
    kind: Any
    opaque: Any


def header_of(file: File, max_pixels: int) -> Header:
    """The header of a file of any kind; it has a fault where the file is not a picture that is taken."""

    def unknown() -> Header:
        text = f"not_an_image: it is not a {FORMATS} file; it has {{}} bytes"
        return Header(tf.strings.format(text, file.size), SOUND, none, none, UNKNOWN, True)

    none = tf.zeros([0, 2], tf.int64)
    checks = {
        UNKNOWN: unknown,
        JPEG: lambda: _jpeg_header(file, max_pixels),
        PNG: lambda: _png_header(file, max_pixels),
        BMP: lambda: Header(_bmp_fault(file, max_pixels), SOUND, none, none, BMP, True),
    }
    kind = sum(kind * tf.cast(file.has(0, mark), tf.int32) for kind, mark in _SIGNATURES.items())
    return tf.switch_case(kind, checks)  # type: ignore[no-any-return]


def first(*faults: tuple[Any, Any]) -> Any:
    """(whether, what) -> the first that is so, string[]."""
    wrong, texts = zip(*faults, (True, SOUND), strict=True)
    return tf.gather(tf.stack(texts), tf.reduce_min(tf.where(tf.stack(wrong))))


def _places(start: int, more: Callable[[Any], Any], following: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The places from `start` on while there is `more` at them, int64[N], and the place behind them."""
    found = tf.TensorArray(tf.int64, 0, dynamic_size=True, element_shape=[])
    end, found = tf.while_loop(
        lambda at, _: more(at),
        lambda at, found: (following(at), found.write(found.size(), at)),
        (tf.constant(start, tf.int64), found),
    )
    return found.stack(), end


def _size_fault(width: Any, height: Any, max_pixels: int) -> tuple[Any, Any]:
    text = f"too_many_pixels: {{}}x{{}} (WxH) is more than {max_pixels:,} pixels"
    return width * height > max_pixels, tf.strings.format(text, [width, height])


def _any(values: Any, wanted: Sequence[int]) -> Any:
    """Whether each is one of the wanted."""
    return tf.reduce_any(tf.equal(tf.expand_dims(values, -1), list(wanted)), -1)


# --- JPEG


def _jpeg_header(file: File, max_pixels: int) -> Header:
    """Looks at every segment before the first scan."""

    def more(at: Any) -> Any:
        marker = file.number(tf.minimum(at, file.size), 2)
        return (at + _FRAME <= file.size) & (marker >= 0xFF00) & tf.not_equal(marker, 0xFFDA)

    def following(at: Any) -> Any:
        head = file.number(at, 4)
        marker, length = head // 2**16, head % 2**16
        alone = tf.equal(marker, 0xFF01) | ((marker >= 0xFFD0) & (marker <= 0xFFD8))
        return at + tf.where(tf.equal(marker, 0xFFFF), one, tf.where(alone, two, 2 + length))

    one, two = tf.constant(1, tf.int64), tf.constant(2, tf.int64)
    places, scan = _places(2, more, following)
    heads = file.number(places, 4)
    markers, ends = heads // 2**16 % 256, places + 2 + heads % 2**16
    is_frame = (markers >= 0xC0) & (markers <= 0xCF) & ~_any(markers, _JPEG_TABLES)
    adobe = tf.reduce_any(tf.equal(markers, 0xEE) & file.has(places + 4, b"Adobe"))
    is_app1 = tf.equal(markers, 0xE1)
    is_exif = is_app1 & (places + 18 < file.size) & file.has(places + 4, _JPEG_EXIF)
    is_xmp = is_app1 & (places + 4 + len(_JPEG_XMP) <= file.size) & file.has(places + 4, _JPEG_XMP)
    fault = _jpeg_fault(file, tf.maximum(tf.reduce_max(tf.where(is_frame, places, 0)), 0), adobe, max_pixels)
    return Header(
        fault,
        _jpeg_end_fault(file, tf.minimum(scan, file.size)),
        tf.gather_nd(tf.stack([places + 10, ends], 1), tf.where(is_exif)),
        tf.gather_nd(tf.stack([places + 4, ends + 2], 1), tf.where(is_xmp)),
        JPEG,
        True,
    )


def _jpeg_fault(file: File, frame: Any, adobe: Any, max_pixels: int) -> Any:
    """`frame` is where the last one begins, 0 where there is none."""
    numbers = tf.unstack(tf.cast(file.data[frame : frame + _FRAME], tf.int64), _FRAME)
    _, kind, _, _, bits, height, height_rest, width, width_rest, channels = numbers
    return first(
        (tf.equal(frame, 0), tf.strings.format("truncated: a JPEG file of {} bytes has no frame", file.size)),
        (bits > 8, tf.strings.format("deep_color: it has {} bits per channel", bits)),
        (_any(kind, _JPEG_LOSSLESS), "unsupported_mode: a lossless JPEG, which TensorFlow does not read"),
        (_any(kind, _JPEG_ARITHMETIC), "unsupported_mode: an arithmetic JPEG, which TensorFlow does not read"),
        (~_any(kind, _JPEG_TAKEN), "unsupported_mode: a JPEG process that is not read"),
        (~_any(channels, (1, 3, 4)), "unsupported_mode: a JPEG that is neither gray, RGB nor CMYK"),
        (tf.equal(channels, 4) & ~adobe, "unsupported_mode: a CMYK JPEG without Adobe's marker"),
        _size_fault(width * 256 + width_rest, height * 256 + height_rest, max_pixels),
    )


def _jpeg_end_fault(file: File, scan: Any) -> Any:
    data = file.data[scan : file.size]
    whole = tf.reduce_any(tf.equal(data[:-1], 0xFF) & tf.equal(data[1:], 0xD9))
    text = tf.strings.format("truncated: a JPEG file of {} bytes has no end marker", file.size)
    return tf.where(whole, SOUND, text)


# --- PNG


def _png_header(file: File, max_pixels: int) -> Header:
    """Looks at every chunk."""

    def end(at: Any) -> Any:
        """Of a chunk's data."""
        return tf.minimum(at + 8 + file.number(at, 4), file.size - 4)

    def starts_with(mark: bytes) -> Any:
        return (begins + len(mark) <= file.size) & file.has(begins, mark)

    places, _ = _places(
        8,
        lambda at: at + _CHUNK <= file.size,
        lambda at: tf.where(file.has(at + 4, b"IEND"), file.size, end(at) + 4),
    )
    names, begins, ends = file.slices(places + 4, 4), places + 8, end(places)
    named = {name: tf.equal(names, name) for name in _PNG_CHUNKS}
    spans = tf.stack([begins, ends], 1)
    is_exif = named[b"eXIf"] & (ends - begins >= 10)
    is_xmp = named[b"iTXt"] & starts_with(_PNG_XMP)
    is_profile = (named[b"tEXt"] | named[b"zTXt"]) & starts_with(_PNG_PROFILE)
    packed = tf.reduce_any(is_profile | (is_xmp & file.has(begins + len(_PNG_XMP), b"\1")))
    before_pixels = tf.equal(tf.cumsum(tf.cast(named[b"IDAT"], tf.int32)), 0)
    is_control = named[b"acTL"] & before_pixels & (ends - begins >= 8)
    lesser_fault = first(
        (packed, "unsupported_mode: EXIF or XMP that is packed, where a graph can't look: leave it out"),
        (
            ~tf.reduce_any(named[b"IEND"]),
            tf.strings.format("truncated: a PNG file of {} bytes has no chunk IEND", file.size),
        ),
    )
    bits, color_type = tf.unstack(file.data[24:26], 2)
    return Header(
        _png_fault(file, tf.maximum(tf.reduce_max(tf.where(is_control, begins, 0)), 0), max_pixels),
        lesser_fault,
        tf.gather_nd(spans, tf.where(is_exif)),
        tf.gather_nd(spans, tf.where(is_xmp)),
        tf.where(tf.equal(bits, 16), PNG_DEEP, PNG),
        ~(_any(color_type, _PNG_ALPHA) | tf.reduce_any(named[b"tRNS"])),
    )


def _png_fault(file: File, control: Any, max_pixels: int) -> Any:
    """`control` is where the data of an animation's last control begins, 0 where there is none."""
    width, height, frames = tf.unstack(file.number(tf.stack([16, 20, control]), 4), 3)
    return first(
        (~file.has(12, b"IHDR"), tf.strings.format("truncated: a PNG file of {} bytes has no header", file.size)),
        _size_fault(width, height, max_pixels),
        ((control > 0) & (frames > 1), tf.strings.format("animated: it has {} frames", frames)),
    )


# --- BMP


def _bmp_fault(file: File, max_pixels: int) -> Any:
    words = file.numbers(tf.constant(np.arange(10, 34).reshape(6, 4)))
    offset, header, width, stored, planes_and_bits, compression = tf.unstack(words, 6)
    bits = planes_and_bits // 2**16
    height = tf.where(stored < 2**31, stored, 2**32 - stored)  # of a negative height the rows go from top to bottom
    needed = offset + (width * bits + 31) // 32 * 4 * height
    kind = "unsupported_mode: TensorFlow reads a BMP of 24 or 32 bits without compression; it has {} bits and the "
    taken = (header >= 40) & _any(bits, (24, 32)) & tf.equal(compression, 0)
    return first(
        (~taken, tf.strings.format(kind + "compression {}", [bits, compression])),
        _size_fault(width, height, max_pixels),
        (needed > file.size, tf.strings.format("truncated: it needs {} bytes and has {}", [needed, file.size])),
    )
