"""The rule of `pictures` for TensorFlow's graphs, which can't run Pillow: encoded pictures -> RGB.

A graph takes JPEG, PNG and BMP files. What TensorFlow would read otherwise than the pipeline is refused with the
pipeline's reason, so that the pixels are the same: exactly, or of a JPEG to within a few levels, since TensorFlow's
libjpeg rounds differently. This module is TensorFlow: nothing else of the contract imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.pictures import MAX_IMAGE_PIXELS

FORMATS = "JPEG, PNG or BMP"
_SOUND = ""
_PADDING = 64  # zeros after a file, so that a truncated header can be parsed
_EXIF_ORIENTATION = 0x0112
_XMP_TURNED = r'\C*tiff:Orientation(="|>)[2-8]\C*'
_PNG_RGBA = 4  # channels
_PNG_ALPHA = 4  # the bit of a color type
_PNG_CHUNKS = (b"acTL", b"IDAT", b"IEND", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tRNS")  # that are looked at
_PNG_XMP, _PNG_PROFILE = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
_JPEG_TAKEN = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive
_JPEG_ARITHMETIC, _JPEG_LOSSLESS = (0xC9, 0xCA), (0xC3,)
_JPEG_TABLES = (0xC4, 0xC8, 0xCC)  # among the markers of frames
_CHUNK = 12  # bytes of a PNG's chunk without data


@tf.autograph.experimental.do_not_convert
def decode_picture(file: Any, context: Sequence[Any] = (), max_pixels: int = MAX_IMAGE_PIXELS) -> Any:
    """A file, string[] -> uint8[H, W, 3], RGB.

    The graph asserts that the pipeline would take the picture, and TensorFlow decode it alike; `context` precedes
    the reason in the message.
    """
    data = tf.concat([tf.io.decode_raw(file, tf.uint8), tf.zeros([_PADDING], tf.uint8)], 0)
    size = tf.strings.length(file)
    kinds = {"jpeg": _is(data, b"\xff\xd8\xff"), "png": _is(data, b"\x89PNG\r\n\x1a\n"), "bmp": _is(data, b"BM")}
    unknown = tf.strings.join(
        [f"not_an_image: it is no {FORMATS} file; its length in bytes is ", tf.strings.as_string(size)]
    )
    opaque = tf.constant(True)
    fault, opaque = tf.case(
        [
            (kinds["jpeg"], lambda: (_jpeg_fault(file, data, size, max_pixels), opaque)),
            (kinds["png"], lambda: _png_fault(file, data, size, max_pixels)),
            (kinds["bmp"], lambda: (_bmp_fault(data, size, max_pixels), opaque)),
        ],
        default=lambda: (unknown, opaque),
        exclusive=True,
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(fault, _SOUND), [*context, fault])]):
        file = tf.identity(file)
    pixels, fault = tf.case(
        [
            (kinds["jpeg"], lambda: (_jpeg_pixels(file), tf.constant(_SOUND))),
            (kinds["bmp"], lambda: (_bmp_pixels(file, data), tf.constant(_SOUND))),
        ],
        default=lambda: _png_pixels(file, data, opaque),
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(fault, _SOUND), [*context, fault])]):
        return tf.ensure_shape(tf.identity(pixels), [None, None, 3])


def _first(*faults: tuple[Any, Any]) -> Any:
    """(whether, what) -> the first that is so, string[]."""
    found = tf.constant(_SOUND)
    for wrong, text in reversed(faults):
        found = tf.where(wrong, text, found)
    return found


def _is(data: Any, mark: bytes, at: Any = 0) -> Any:
    """Whether the bytes uint8[N] have `mark` at a place that is in the file."""
    return tf.reduce_all(tf.equal(data[at : at + len(mark)], list(mark)))


def _number(data: Any, at: Any, length: int, little: Any = False) -> Any:
    """Unsigned, int64[]."""
    digits = tf.cast(data[at : at + length], tf.int64)
    weights = tf.constant([256**place for place in range(length)], tf.int64)
    return tf.reduce_sum(digits * tf.where(little, weights, weights[::-1]))


def _size_fault(width: Any, height: Any, max_pixels: int) -> tuple[Any, Any]:
    shown = tf.strings.join([tf.strings.as_string(width), "x", tf.strings.as_string(height)])
    text = tf.strings.join(["too_many_pixels: ", shown, f" (WxH) is more than {max_pixels:,} pixels"])
    return width * height > max_pixels, text


def _exif_is_turned(data: Any, start: Any, end: Any) -> Any:
    """Whether the TIFF header at `start` of the bytes has an orientation of 2 to 8, bool[]."""
    little = _is(data, b"II", start)
    first = tf.cast(tf.minimum(_number(data, start + 4, 4, little), tf.cast(end - start, tf.int64)), tf.int32) + start
    first = tf.minimum(first, tf.size(data) - 2)
    count = tf.cast(_number(data, first, 2, little), tf.int32)
    count = tf.maximum(0, tf.minimum(count, (tf.minimum(end, tf.size(data)) - first - 2) // 12))
    entries = tf.cast(tf.reshape(data[first + 2 : first + 2 + 12 * count], [-1, 12]), tf.int32)
    low, high = tf.where(little, 0, 1), tf.where(little, 1, 0)
    pair = tf.stack([low, high])
    tags = tf.reduce_sum(tf.gather(entries, pair, axis=1) * [1, 256], 1)
    values = tf.reduce_sum(tf.gather(entries, 8 + pair, axis=1) * [1, 256], 1)
    return tf.reduce_any(tf.equal(tags, _EXIF_ORIENTATION) & (values >= 2) & (values <= 8))


def _xmp_is_turned(file: Any, start: Any, length: Any) -> Any:
    return tf.strings.regex_full_match(tf.strings.substr(file, start, length), _XMP_TURNED)


_TURNED = "rotated: the EXIF orientation is not 1: turn the picture upright"


# --- JPEG


def _jpeg_fault(file: Any, data: Any, size: Any, max_pixels: int) -> Any:
    """Looks at every segment before the first scan."""

    def more(at: Any, *_: Any) -> Any:
        return (
            (at + 10 <= size)
            & tf.equal(data[tf.minimum(at, size)], 0xFF)
            & tf.not_equal(data[tf.minimum(at, size) + 1], 0xDA)
        )

    def step(at: Any, frame: Any, adobe: Any, turned: Any) -> Any:
        marker, length = data[at + 1], tf.cast(_number(data, at + 2, 2), tf.int32)
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & ~tf.reduce_any(tf.equal(marker, _JPEG_TABLES))
        frame = tf.where(is_frame, at, frame)
        adobe |= tf.equal(marker, 0xEE) & _is(data, b"Adobe", at + 4)
        is_app1 = tf.equal(marker, 0xE1)
        is_exif = is_app1 & (at + 18 < size) & _is_at(data, b"Exif\0\0", at + 4, size)
        is_xmp = is_app1 & _is_at(data, b"http://ns.adobe.com/xap/1.0/\0", at + 4, size)
        turned |= tf.cond(is_exif, lambda: _exif_is_turned(data, at + 10, at + 2 + length), lambda: False)
        turned |= tf.cond(
            is_xmp, lambda: _xmp_is_turned(file, at + 4, tf.minimum(length, size - at - 4)), lambda: False
        )
        alone = tf.equal(marker, 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        move = tf.where(tf.equal(marker, 0xFF), 1, tf.where(alone, 2, 2 + length))
        return at + move, frame, adobe, turned

    start = (tf.constant(2), tf.constant(0), tf.constant(False), tf.constant(False))
    scan, frame, adobe, turned = tf.while_loop(more, step, start)
    scan = tf.minimum(scan, size)
    kind, bits, channels = data[frame + 1], data[frame + 4], data[frame + 9]
    height, width = _number(data, frame + 5, 2), _number(data, frame + 7, 2)
    whole = tf.reduce_any(tf.equal(data[scan : size - 1], 0xFF) & tf.equal(data[scan + 1 : size], 0xD9))
    length = tf.strings.as_string(size)
    return _first(
        (tf.equal(frame, 0), tf.strings.join(["truncated: no frame in a JPEG file of bytes: ", length])),
        (bits > 8, tf.strings.join(["deep_color: bits per channel: ", tf.strings.as_string(bits)])),
        (_any(kind, _JPEG_LOSSLESS), "unsupported_mode: a lossless JPEG, which TensorFlow does not read"),
        (_any(kind, _JPEG_ARITHMETIC), "unsupported_mode: an arithmetic JPEG, which TensorFlow does not read"),
        (~_any(kind, _JPEG_TAKEN), "unsupported_mode: a JPEG process that is not read"),
        (~_any(channels, (1, 3, 4)), "unsupported_mode: a JPEG that is neither gray, RGB nor CMYK"),
        (tf.equal(channels, 4) & ~adobe, "unsupported_mode: a CMYK JPEG without Adobe's marker"),
        _size_fault(width, height, max_pixels),
        (turned, _TURNED),
        (~whole, tf.strings.join(["truncated: the end marker is missing in a JPEG file of bytes: ", length])),
    )


def _jpeg_pixels(file: Any) -> Any:
    """TensorFlow's default method is faster, and off by a few levels more."""
    return tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")


def _any(value: Any, values: Sequence[int]) -> Any:
    return tf.reduce_any(tf.equal(value, list(values)))


def _is_at(data: Any, mark: bytes, at: Any, size: Any) -> Any:
    """Like `_is`, at a place that may be behind the file's end."""
    return (at + len(mark) <= size) & _is(data, mark, tf.minimum(at, tf.size(data) - len(mark)))


# --- PNG


def _png_fault(file: Any, data: Any, size: Any, max_pixels: int) -> tuple[Any, Any]:
    """Looks at every chunk. -> what is wrong, and whether no pixel can be transparent."""

    def more(at: Any, ended: Any, *_: Any) -> Any:
        return (at + _CHUNK <= size) & ~ended

    def step(at: Any, ended: Any, frames: Any, pixels: Any, turned: Any, packed: Any, key: Any) -> Any:
        length = tf.cast(tf.minimum(_number(data, at, 4), tf.cast(size - at - _CHUNK, tf.int64)), tf.int32)
        begin, end, name = at + 8, at + 8 + length, data[at + 4 : at + 8]
        named = {key: tf.reduce_all(tf.equal(name, list(key))) for key in _PNG_CHUNKS}
        is_control = named[b"acTL"] & tf.equal(pixels, 0) & (length >= 8)
        frames = tf.where(is_control, _number(data, begin, 4), frames)
        pixels = pixels + tf.cast(named[b"IDAT"], tf.int32)
        is_exif = named[b"eXIf"] & (length >= 10)
        turned |= tf.cond(is_exif, lambda: _exif_is_turned(data, begin, end), lambda: False)
        is_xmp = named[b"iTXt"] & _is_at(data, _PNG_XMP, begin, size)
        packed |= is_xmp & tf.equal(data[tf.minimum(begin + len(_PNG_XMP), size)], 1)
        packed |= (named[b"tEXt"] | named[b"zTXt"]) & _is_at(data, _PNG_PROFILE, begin, size)
        turned |= tf.cond(is_xmp, lambda: _xmp_is_turned(file, begin, length), lambda: False)
        return end + 4, named[b"IEND"], frames, pixels, turned, packed, key | named[b"tRNS"]

    no = tf.constant(False)
    start = (tf.constant(8), no, tf.constant(0, tf.int64), tf.constant(0), no, no, no)
    _, ended, frames, _, turned, packed, key = tf.while_loop(more, step, start)
    length = tf.strings.as_string(size)
    fault = _first(
        (~_is(data, b"IHDR", 12), tf.strings.join(["truncated: no header in a PNG file of bytes: ", length])),
        _size_fault(_number(data, 16, 4), _number(data, 20, 4), max_pixels),
        (frames > 1, tf.strings.join(["animated: frames: ", tf.strings.as_string(frames)])),
        (turned, _TURNED),
        (packed, "unsupported_mode: EXIF or XMP that is packed, where a graph can't look: leave it out"),
        (~ended, tf.strings.join(["truncated: the chunk IEND is missing in a PNG file of bytes: ", length])),
    )
    has_alpha = tf.equal(tf.bitwise.bitwise_and(data[25], _PNG_ALPHA), _PNG_ALPHA)
    return fault, ~(has_alpha | key)


def _png_pixels(file: Any, data: Any, opaque: Any) -> tuple[Any, Any]:
    """-> uint8[H, W, 3], and what is wrong with them."""

    def deep() -> tuple[Any, Any]:
        stored = tf.cast(tf.io.decode_png(file, channels=_PNG_RGBA, dtype=tf.uint16), tf.int32)
        return tf.cast(stored // 257, tf.uint8), tf.reduce_any(tf.not_equal(stored % 257, 0))

    def usual() -> tuple[Any, Any]:
        return tf.io.decode_png(file, channels=_PNG_RGBA), tf.constant(False)

    pixels, is_deep = tf.cond(tf.equal(data[24], 16), deep, usual)
    # Of an alpha that TensorFlow adds itself, fewer than 8 bits make 2**bits - 1.
    clear = ~opaque & tf.reduce_any(pixels[..., 3] < 255)
    fault = _first(
        (is_deep, "deep_color: 16 bits per channel that 8 can't hold: convert the picture to 8 bits"),
        (clear, "transparent: some pixels are not opaque"),
    )
    return pixels[..., :3], fault


# --- BMP


def _bmp_fault(data: Any, size: Any, max_pixels: int) -> Any:
    header, bits, compression = _number(data, 14, 4, True), _number(data, 28, 2, True), _number(data, 30, 4, True)
    width, stored = _number(data, 18, 4, True), _number(data, 22, 4, True)
    height = tf.where(stored < 2**31, stored, 2**32 - stored)  # of a negative height the rows go from top to bottom
    row = (width * bits + 31) // 32 * 4
    needed = _number(data, 10, 4, True) + row * height
    kind = tf.strings.join(
        [
            "unsupported_mode: TensorFlow reads a BMP of 24 or 32 bits without compression; bits and compression are ",
            tf.strings.as_string(bits),
            ", ",
            tf.strings.as_string(compression),
        ]
    )
    text = tf.strings.join(
        ["truncated: bytes needed and there: ", tf.strings.as_string(needed), ", ", tf.strings.as_string(size)]
    )
    taken = (header >= 40) & tf.reduce_any(tf.equal(bits, [24, 32])) & tf.equal(compression, 0)
    return _first((~taken, kind), _size_fault(width, height, max_pixels), (needed > tf.cast(size, tf.int64), text))


def _bmp_pixels(file: Any, data: Any) -> Any:
    """The fourth byte of a pixel means nothing where there is no compression."""
    of_32_bits = tf.equal(_number(data, 28, 2, True), 32)
    return tf.cond(
        of_32_bits, lambda: tf.io.decode_bmp(file, channels=4)[..., :3], lambda: tf.io.decode_bmp(file, channels=3)
    )
