"""The rule of `pictures` for TensorFlow's graphs, which can't run Pillow: encoded pictures -> RGB.

A graph takes JPEG, PNG and BMP files. What TensorFlow would read otherwise than the pipeline is refused with the
pipeline's reason, so that the pixels are the same: exactly, or of a JPEG to within a few levels, since TensorFlow's
libjpeg rounds differently. This module is TensorFlow: nothing else of the contract imports it.

A loop finds where the segments or chunks of a file begin, and all of them are looked at together behind it: a branch
in the loop would cost more to trace and to load than its few operations cost to run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.pictures import MAX_IMAGE_PIXELS

FORMATS = "JPEG, PNG or BMP"
_SOUND = ""
_PADDING = 64  # zeros after a file, so that a truncated header can be parsed
_EXIF_ORIENTATION = 0x0112
# Bytes of a whole number, by the type of an EXIF entry: 0 of text and of types that mean nothing, _ELSEWHERE of numbers
# that are not whole or too long for an entry.
_ELSEWHERE = 8
_EXIF_BYTES = (0, 1, 0, 2, 4, 8, 1, 1, 2, 4, 8, 8, 8, 4, 0, 0, 8, 8, 8, 0)
_EXIF_ENTRY = 12  # bytes
_XMP_TURNED = r'\C*tiff:Orientation(="|>)[2-8]\C*'
_PNG_CHUNKS = (b"acTL", b"IDAT", b"IEND", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tRNS")  # that are looked at
_PNG_RGBA = 4  # channels
_PNG_ALPHA = (4, 6)  # color types
_PNG_XMP, _PNG_PROFILE = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
_JPEG_TAKEN = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive
_JPEG_ARITHMETIC, _JPEG_LOSSLESS = (0xC9, 0xCA), (0xC3,)
_JPEG_TABLES = (0xC4, 0xC8, 0xCC)  # among the markers of frames
_JPEG_EXIF, _JPEG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_FRAME = 10  # bytes of a JPEG's frame that are looked at
_CHUNK = 12  # bytes of a PNG's chunk without data
_UNKNOWN, _JPEG, _PNG, _BMP, _PNG_DEEP = range(5)  # how a file is decoded
_SIGNATURES = {_JPEG: b"\xff\xd8\xff", _PNG: b"\x89PNG\r\n\x1a\n", _BMP: b"BM"}


@tf.autograph.experimental.do_not_convert
def decode_picture(file: Any, context: Sequence[Any] = (), max_pixels: int = MAX_IMAGE_PIXELS) -> Any:
    """A file, string[] -> uint8[H, W, 3], RGB.

    The graph asserts that the pipeline would take the picture, and TensorFlow decode it alike; `context` precedes
    the reason in the message.
    """
    pixels, fault = _decoder(max_pixels)(file)
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(fault, _SOUND), [*context, fault])]):
        return tf.ensure_shape(tf.identity(pixels), [None, None, 3])


@functools.cache
def _decoder(max_pixels: int) -> Callable[[Any], tuple[Any, Any]]:
    """string[] -> (uint8[H, W, 3], what is wrong), a function that all graphs of a process call: it is traced once."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decoded_picture(file: Any) -> tuple[Any, Any]:
        return _decoded(_File.of(file), max_pixels)

    return decoded_picture  # type: ignore[no-any-return]


class _File(NamedTuple):
    """A file, and its bytes with zeros behind them, as text string[] and as numbers uint8[N]; int64[], its size."""

    file: Any
    text: Any
    data: Any
    size: Any

    @classmethod
    def of(cls, file: Any) -> _File:
        text = tf.strings.join([file, b"\0" * _PADDING])
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


class _Header(NamedTuple):
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


def _decoded(file: _File, max_pixels: int) -> tuple[Any, Any]:
    """No pixel is decoded of a file with a fault."""
    header = _header(file, max_pixels)
    turned = _exif_is_turned(file, header.exif) | _xmp_is_turned(file, header.xmp)
    fault = tf.where(tf.equal(header.fault, _SOUND) & turned, _TURNED, header.fault)
    fault = tf.where(tf.equal(fault, _SOUND), header.lesser_fault, fault)
    decoders = {
        _UNKNOWN: lambda: (tf.zeros([0, 0, 3], tf.uint8), fault),
        _JPEG: lambda: (_jpeg_pixels(file.file), fault),
        _PNG: lambda: _png_pixels(file.file, header.opaque),
        _BMP: lambda: (_bmp_pixels(file.file), fault),
        _PNG_DEEP: lambda: _deep_png_pixels(file.file, header.opaque),
    }
    return tf.switch_case(tf.where(tf.equal(fault, _SOUND), header.kind, _UNKNOWN), decoders)  # type: ignore[no-any-return]


def _header(file: _File, max_pixels: int) -> _Header:
    def unknown() -> _Header:
        text = f"not_an_image: it is no {FORMATS} file; its length in bytes is {{}}"
        return _Header(tf.strings.format(text, file.size), _SOUND, none, none, _UNKNOWN, True)

    none = tf.zeros([0, 2], tf.int64)
    checks = {
        _UNKNOWN: unknown,
        _JPEG: lambda: _jpeg_header(file, max_pixels),
        _PNG: lambda: _png_header(file, max_pixels),
        _BMP: lambda: _Header(_bmp_fault(file, max_pixels), _SOUND, none, none, _BMP, True),
    }
    kind = sum(kind * tf.cast(file.has(0, mark), tf.int32) for kind, mark in _SIGNATURES.items())
    return tf.switch_case(kind, checks)  # type: ignore[no-any-return]


def _first(*faults: tuple[Any, Any]) -> Any:
    """(whether, what) -> the first that is so, string[]."""
    wrong, texts = zip(*faults, (True, _SOUND), strict=True)
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


# --- orientations

_TURNED = "rotated: the EXIF orientation is not 1: turn the picture upright"
# Where the bytes of three numbers of 32 bits are, from the lowest one on, in each byte order; but the first is two
# numbers of 16 bits.
_LITTLE = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
_BIG = ((1, 0, 3, 2), (7, 6, 5, 4), (11, 10, 9, 8))


def _exif_is_turned(file: _File, spans: Any) -> Any:
    """Whether one of the TIFF headers has an orientation of 2 to 8, or one that is not in its entry: bool[]."""
    starts, ends = tf.unstack(spans, 2, axis=1)
    last = file.size + _PADDING
    little = file.has(starts, b"II")
    _, offsets, _ = _exif_numbers(file, starts, little)
    firsts = tf.minimum(starts + tf.minimum(offsets, ends - starts), last - _EXIF_ENTRY)
    counts, _, _ = _exif_numbers(file, firsts, little)
    counts = tf.minimum(counts % 2**16, (tf.minimum(ends, last) - firsts - 2) // _EXIF_ENTRY)
    # Place and byte order in one number: the values of a ragged range do not tell to which row they belong.
    begins = (firsts + 2) * 2 + tf.cast(little, tf.int64)
    entries = tf.ragged.range(begins, begins + 2 * _EXIF_ENTRY * tf.maximum(counts, 0), 2 * _EXIF_ENTRY).flat_values
    return tf.reduce_any(_is_turned(file, entries // 2, tf.equal(entries % 2, 1)))


def _is_turned(file: _File, entries: Any, little: Any) -> Any:
    kind_and_tag, count, value = _exif_numbers(file, entries, little)
    kind = tf.minimum(kind_and_tag // 2**16, len(_EXIF_BYTES) - 1)
    length = tf.gather(tf.constant(_EXIF_BYTES, tf.int64), kind)
    unit = tf.gather(tf.constant([256 ** max(0, 4 - length) for length in _EXIF_BYTES], tf.int64), kind)
    value = tf.where(little, value % (2**32 // unit), value // unit)
    turned = (length * count > 4) | ((length > 0) & (value >= 2) & (value <= 8))
    return tf.equal(kind_and_tag % 2**16, _EXIF_ORIENTATION) & turned


def _exif_numbers(file: _File, places: Any, little: Any) -> list[Any]:
    """The three numbers in the 12 bytes at each place int64[N], each int64[N]."""
    steps = tf.where(tf.reshape(little, [-1, 1, 1]), tf.constant(_LITTLE, tf.int64), tf.constant(_BIG, tf.int64))
    return tf.unstack(file.numbers(tf.reshape(places, [-1, 1, 1]) + steps), 3, axis=1)  # type: ignore[no-any-return]


def _xmp_is_turned(file: _File, spans: Any) -> Any:
    starts, ends = tf.unstack(spans, 2, axis=1)
    found = tf.strings.substr(file.file, starts, ends - starts)
    return tf.reduce_any(tf.strings.regex_full_match(found, _XMP_TURNED))


# --- JPEG


def _jpeg_header(file: _File, max_pixels: int) -> _Header:
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
    return _Header(
        fault,
        _jpeg_end_fault(file, tf.minimum(scan, file.size)),
        tf.gather_nd(tf.stack([places + 10, ends], 1), tf.where(is_exif)),
        tf.gather_nd(tf.stack([places + 4, ends + 2], 1), tf.where(is_xmp)),
        _JPEG,
        True,
    )


def _jpeg_fault(file: _File, frame: Any, adobe: Any, max_pixels: int) -> Any:
    """`frame` is where the last one begins, 0 where there is none."""
    numbers = tf.unstack(tf.cast(file.data[frame : frame + _FRAME], tf.int64), _FRAME)
    _, kind, _, _, bits, height, height_rest, width, width_rest, channels = numbers
    return _first(
        (tf.equal(frame, 0), tf.strings.format("truncated: no frame in a JPEG file of bytes: {}", file.size)),
        (bits > 8, tf.strings.format("deep_color: bits per channel: {}", bits)),
        (_any(kind, _JPEG_LOSSLESS), "unsupported_mode: a lossless JPEG, which TensorFlow does not read"),
        (_any(kind, _JPEG_ARITHMETIC), "unsupported_mode: an arithmetic JPEG, which TensorFlow does not read"),
        (~_any(kind, _JPEG_TAKEN), "unsupported_mode: a JPEG process that is not read"),
        (~_any(channels, (1, 3, 4)), "unsupported_mode: a JPEG that is neither gray, RGB nor CMYK"),
        (tf.equal(channels, 4) & ~adobe, "unsupported_mode: a CMYK JPEG without Adobe's marker"),
        _size_fault(width * 256 + width_rest, height * 256 + height_rest, max_pixels),
    )


def _jpeg_end_fault(file: _File, scan: Any) -> Any:
    data = file.data[scan : file.size]
    whole = tf.reduce_any(tf.equal(data[:-1], 0xFF) & tf.equal(data[1:], 0xD9))
    text = tf.strings.format("truncated: the end marker is missing in a JPEG file of bytes: {}", file.size)
    return tf.where(whole, _SOUND, text)


def _jpeg_pixels(file: Any) -> Any:
    """TensorFlow's default method is faster, and off by a few levels more."""
    return tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")


# --- PNG


def _png_header(file: _File, max_pixels: int) -> _Header:
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
    lesser_fault = _first(
        (packed, "unsupported_mode: EXIF or XMP that is packed, where a graph can't look: leave it out"),
        (
            ~tf.reduce_any(named[b"IEND"]),
            tf.strings.format("truncated: the chunk IEND is missing in a PNG file of bytes: {}", file.size),
        ),
    )
    bits, color_type = tf.unstack(file.data[24:26], 2)
    return _Header(
        _png_fault(file, tf.maximum(tf.reduce_max(tf.where(is_control, begins, 0)), 0), max_pixels),
        lesser_fault,
        tf.gather_nd(spans, tf.where(is_exif)),
        tf.gather_nd(spans, tf.where(is_xmp)),
        tf.where(tf.equal(bits, 16), _PNG_DEEP, _PNG),
        ~(_any(color_type, _PNG_ALPHA) | tf.reduce_any(named[b"tRNS"])),
    )


def _png_fault(file: _File, control: Any, max_pixels: int) -> Any:
    """`control` is where the data of an animation's last control begins, 0 where there is none."""
    width, height, frames = tf.unstack(file.number(tf.stack([16, 20, control]), 4), 3)
    return _first(
        (~file.has(12, b"IHDR"), tf.strings.format("truncated: no header in a PNG file of bytes: {}", file.size)),
        _size_fault(width, height, max_pixels),
        ((control > 0) & (frames > 1), tf.strings.format("animated: frames: {}", frames)),
    )


def _png_pixels(file: Any, opaque: Any) -> tuple[Any, Any]:
    """-> uint8[H, W, 3], and what is wrong with them."""
    pixels = tf.io.decode_png(file, channels=_PNG_RGBA)
    return pixels[..., :3], _first(_transparent(pixels, opaque))


def _deep_png_pixels(file: Any, opaque: Any) -> tuple[Any, Any]:
    """16 bits per channel -> uint8[H, W, 3], and what is wrong with them."""
    stored = tf.cast(tf.io.decode_png(file, channels=_PNG_RGBA, dtype=tf.uint16), tf.int32)
    pixels, deep = tf.cast(stored // 257, tf.uint8), tf.reduce_any(tf.not_equal(stored % 257, 0))
    text = "deep_color: 16 bits per channel that 8 can't hold: convert the picture to 8 bits"
    return pixels[..., :3], _first((deep, text), _transparent(pixels, opaque))


def _transparent(pixels: Any, opaque: Any) -> tuple[Any, Any]:
    """Of an alpha that TensorFlow adds itself, fewer than 8 bits make 2**bits - 1."""
    return ~opaque & tf.reduce_any(pixels[..., 3] < 255), "transparent: some pixels are not opaque"


# --- BMP


def _bmp_fault(file: _File, max_pixels: int) -> Any:
    words = file.numbers(tf.constant(np.arange(10, 34).reshape(6, 4)))
    offset, header, width, stored, planes_and_bits, compression = tf.unstack(words, 6)
    bits = planes_and_bits // 2**16
    height = tf.where(stored < 2**31, stored, 2**32 - stored)  # of a negative height the rows go from top to bottom
    needed = offset + (width * bits + 31) // 32 * 4 * height
    kind = "unsupported_mode: TensorFlow reads a BMP of 24 or 32 bits without compression; bits and compression are "
    taken = (header >= 40) & _any(bits, (24, 32)) & tf.equal(compression, 0)
    return _first(
        (~taken, tf.strings.format(kind + "{}, {}", [bits, compression])),
        _size_fault(width, height, max_pixels),
        (needed > file.size, tf.strings.format("truncated: bytes needed and there: {}, {}", [needed, file.size])),
    )


def _bmp_pixels(file: Any) -> Any:
    """The fourth byte of a pixel means nothing where there is no compression."""
    return tf.io.decode_bmp(file)[..., :3]
