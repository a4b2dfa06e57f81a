"""The rule of `pictures` for TensorFlow's graphs, which can't run Pillow: encoded pictures -> RGB.

A graph takes JPEG, PNG and BMP files. What TensorFlow would read otherwise than the pipeline is refused with the
pipeline's reason, so that the pixels are the same: exactly, or of a JPEG to within a few levels, since TensorFlow's
libjpeg rounds differently. This module is TensorFlow, as `picture_headers` is: nothing else of the contract imports
them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.picture_headers import (
    BMP,
    JPEG,
    PADDING,
    PNG,
    PNG_DEEP,
    SOUND,
    UNKNOWN,
    File,
    first,
    header_of,
)
from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS

_EXIF_ORIENTATION = 0x0112
# Bytes of a whole number, by the type of an EXIF entry: 0 of text and of types that mean nothing, _ELSEWHERE of numbers
# that are not whole or too long for an entry.
_ELSEWHERE = 8
_EXIF_BYTES = (0, 1, 0, 2, 4, 8, 1, 1, 2, 4, 8, 8, 8, 4, 0, 0, 8, 8, 8, 0)
_EXIF_ENTRY = 12  # bytes
_XMP_TURNED = r'\C*tiff:Orientation(="|>)[2-8]\C*'
_TURNED = "rotated: the EXIF orientation is not 1: turn the picture upright"
# Where the bytes of three numbers of 32 bits are, from the lowest one on, in each byte order; but the first is two
# numbers of 16 bits.
_LITTLE = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
_BIG = ((1, 0, 3, 2), (7, 6, 5, 4), (11, 10, 9, 8))
_PNG_RGBA = 4  # channels


@tf.autograph.experimental.do_not_convert
def decode_picture(file: Any, context: Sequence[Any] = (), max_pixels: int = MAX_IMAGE_PIXELS) -> Any:
    """A file, string[] -> uint8[H, W, 3], RGB.

    The graph asserts that the pipeline would take the picture, and TensorFlow decode it alike; `context` precedes
    the reason in the message.
    """
    pixels, fault = _decoder(max_pixels)(file)
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(fault, SOUND), [*context, fault])]):
        return tf.ensure_shape(tf.identity(pixels), [None, None, 3])


@functools.cache
def _decoder(max_pixels: int) -> Callable[[Any], tuple[Any, Any]]:
    """string[] -> (uint8[H, W, 3], what is wrong), a function that all graphs of a process call: it is traced once."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decoded_picture(file: Any) -> tuple[Any, Any]:
        return _decoded(File.of(file), max_pixels)

    return decoded_picture  # type: ignore[no-any-return]


def _decoded(file: File, max_pixels: int) -> tuple[Any, Any]:
    """No pixel is decoded of a file with a fault."""
    header = header_of(file, max_pixels)
    turned = _exif_is_turned(file, header.exif) | _xmp_is_turned(file, header.xmp)
    fault = tf.where(tf.equal(header.fault, SOUND) & turned, _TURNED, header.fault)
    fault = tf.where(tf.equal(fault, SOUND), header.lesser_fault, fault)
    decoders = {
        UNKNOWN: lambda: (tf.zeros([0, 0, 3], tf.uint8), fault),
        JPEG: lambda: (_jpeg_pixels(file.file), fault),
        PNG: lambda: _png_pixels(file.file, header.opaque),
        BMP: lambda: (_bmp_pixels(file.file), fault),
        PNG_DEEP: lambda: _deep_png_pixels(file.file, header.opaque),
    }
    return tf.switch_case(tf.where(tf.equal(fault, SOUND), header.kind, UNKNOWN), decoders)  # type: ignore[no-any-return]


def _exif_is_turned(file: File, spans: Any) -> Any:
    """Whether one of the TIFF headers has an orientation of 2 to 8, or one that is not in its entry: bool[]."""
    starts, ends = tf.unstack(spans, 2, axis=1)
    last = file.size + PADDING
    little = file.has(starts, b"II")
    _, offsets, _ = _exif_numbers(file, starts, little)
    firsts = tf.minimum(starts + tf.minimum(offsets, ends - starts), last - _EXIF_ENTRY)
    counts, _, _ = _exif_numbers(file, firsts, little)
    counts = tf.minimum(counts % 2**16, (tf.minimum(ends, last) - firsts - 2) // _EXIF_ENTRY)
    # Place and byte order in one number: the values of a ragged range do not tell to which row they belong.
    begins = (firsts + 2) * 2 + tf.cast(little, tf.int64)
    entries = tf.ragged.range(begins, begins + 2 * _EXIF_ENTRY * tf.maximum(counts, 0), 2 * _EXIF_ENTRY).flat_values
    return tf.reduce_any(_is_turned(file, entries // 2, tf.equal(entries % 2, 1)))


def _is_turned(file: File, entries: Any, little: Any) -> Any:
    kind_and_tag, count, value = _exif_numbers(file, entries, little)
    kind = tf.minimum(kind_and_tag // 2**16, len(_EXIF_BYTES) - 1)
    length = tf.gather(tf.constant(_EXIF_BYTES, tf.int64), kind)
    unit = tf.gather(tf.constant([256 ** max(0, 4 - length) for length in _EXIF_BYTES], tf.int64), kind)
    value = tf.where(little, value % (2**32 // unit), value // unit)
    turned = (length * count > 4) | ((length > 0) & (value >= 2) & (value <= 8))
    return tf.equal(kind_and_tag % 2**16, _EXIF_ORIENTATION) & turned


def _exif_numbers(file: File, places: Any, little: Any) -> list[Any]:
    """The three numbers in the 12 bytes at each place int64[N], each int64[N]."""
    steps = tf.where(tf.reshape(little, [-1, 1, 1]), tf.constant(_LITTLE, tf.int64), tf.constant(_BIG, tf.int64))
    return tf.unstack(file.numbers(tf.reshape(places, [-1, 1, 1]) + steps), 3, axis=1)  # type: ignore[no-any-return]


def _xmp_is_turned(file: File, spans: Any) -> Any:
    starts, ends = tf.unstack(spans, 2, axis=1)
    found = tf.strings.substr(file.file, starts, ends - starts)
    return tf.reduce_any(tf.strings.regex_full_match(found, _XMP_TURNED))


def _jpeg_pixels(file: Any) -> Any:
    """TensorFlow's default method is faster, and off by a few levels more."""
    return tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")


def _png_pixels(file: Any, opaque: Any) -> tuple[Any, Any]:
    """-> uint8[H, W, 3], and what is wrong with them."""
    pixels = tf.io.decode_png(file, channels=_PNG_RGBA)
    return pixels[..., :3], first(_transparent(pixels, opaque))


def _deep_png_pixels(file: Any, opaque: Any) -> tuple[Any, Any]:
    """16 bits per channel -> uint8[H, W, 3], and what is wrong with them."""
    stored = tf.cast(tf.io.decode_png(file, channels=_PNG_RGBA, dtype=tf.uint16), tf.int32)
    pixels, deep = tf.cast(stored // 257, tf.uint8), tf.reduce_any(tf.not_equal(stored % 257, 0))
    text = "deep_color: 16 bits per channel that 8 can't hold: convert the picture to 8 bits"
    return pixels[..., :3], first((deep, text), _transparent(pixels, opaque))


def _transparent(pixels: Any, opaque: Any) -> tuple[Any, Any]:
    """Of an alpha that TensorFlow adds itself, fewer than 8 bits make 2**bits - 1."""
    return ~opaque & tf.reduce_any(pixels[..., 3] < 255), "transparent: some pixels are not opaque"


def _bmp_pixels(file: Any) -> Any:
    """The fourth byte of a pixel means nothing where there is no compression."""
    return tf.io.decode_bmp(file)[..., :3]
