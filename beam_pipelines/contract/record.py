"""One record: a `tf.train.Example` of an image and its mask. Writer and reader face each other here.

Field names are those of the TF Model Garden (official/vision/dataloaders/segmentation_input.py), which reads `png`
records. DeepLab2 has the same names, but another meaning of the mask: int32, class * divisor + instance
(data/dataset_utils.py there), so that it would take every train id as class 0. The pixel path must not import
TensorFlow, so the protobuf (tensorflow/core/example/example.proto) is written and read by hand: an Example is a map of
named features, written in the order of their names, as protobuf's deterministic serialization does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.pixel import CHANNELS, MAX_SIZE

if TYPE_CHECKING:
    import tensorflow as tf

RAW_DTYPES = {"raw_float32": "float32", "raw_float16": "float16", "raw_uint8": "uint8"}
IMAGE_FORMATS = (*RAW_DTYPES, "png")
ITEM_BYTES = {"raw_float32": 4, "raw_float16": 2, "raw_uint8": 1}

# Field of the Example -> attribute of Record; bytes and text become a bytes_list, numbers an int64_list.
FIELDS = {
    "image/channels": "channels",
    "image/encoded": "image",
    "image/filename": "filename",
    "image/format": "image_format",
    "image/height": "height",
    "image/segmentation/class/encoded": "mask",
    "image/segmentation/class/format": "mask_format",
    "image/width": "width",
}
NUMBERS = ("image/channels", "image/height", "image/width")
BLOBS = ("image/encoded", "image/segmentation/class/encoded")
MAX_FIELD_NUMBER = (1 << 29) - 1
MAX_PIXELS = 2**29  # of an image: the limit of TensorFlow's PNG decoder
DEFLATE_RATIO = 1032  # the most bytes that one byte of a PNG can become

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_COLORS = {1: 0, CHANNELS: 2}  # channels -> PNG's color type: gray or RGB


class RecordError(UserError, ValueError):
    """Bytes that are not an Example with the fields of `FIELDS`, or fields that do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """An image [height, width, 3] and its mask [height, width] of train ids, both encoded.

    A format is `png`, or `raw_DTYPE`: the tensor's bytes, row-major, little-endian.
    """

    filename: str
    height: int
    width: int
    image: bytes
    image_format: str
    mask: bytes
    mask_format: str
    channels: int = CHANNELS


def encode(record: Record) -> bytes:
    """-> the serialized Example."""
    entries: list[bytes] = []
    for field, attribute in FIELDS.items():
        entries += _wrap(1, _wrap(1, [field.encode()]) + _wrap(2, _feature(getattr(record, attribute))))
    return b"".join(_wrap(1, entries))


def decode(serialized: bytes) -> Record:
    """The inverse of `encode`, without TensorFlow; reads what TensorFlow wrote, in any order of the fields.

    Raises:
      RecordError: the bytes are no Example, or a field is missing or of another type.
    """
    try:
        features = dict(_features(memoryview(serialized)))
    except (IndexError, ValueError) as error:
        raise RecordError(f"not a serialized tf.train.Example: {error}") from error
    missing = FIELDS.keys() - features.keys()
    if missing:
        raise RecordError(f"the Example has no {', '.join(sorted(missing))}")
    values: dict[str, Any] = {attribute: _value(field, features[field]) for field, attribute in FIELDS.items()}
    return Record(**values)


def is_normalized(image_format: str) -> bool:
    """Whether records of this format hold (pixel / 255 - mean) / std; otherwise the reader normalizes."""
    return RAW_DTYPES.get(image_format, "").startswith("float")


def check(record: Record) -> None:
    """Whether the encoded pixels can have the size given with them: decoding them then takes no more memory
    than that size says. Only headers are looked at.

    Raises:
      RecordError: they can't, or the size is none.
    """
    height, width = record.height, record.width
    if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE and height * width <= MAX_PIXELS):
        raise RecordError(f"a size of {height}x{width}, but an image has 1 to {MAX_PIXELS:,} pixels")
    _check_pixels("image", record.image, record.image_format, (height, width), CHANNELS)
    _check_pixels("mask", record.mask, record.mask_format, (height, width), 1)


def least_bytes(image_format: str, mask_format: str, height: int | None, width: int | None) -> int:
    """The least number of bytes that the pixels of a record need."""
    size = (height or 1, width or 1)
    return _least_bytes(image_format, size, CHANNELS) + _least_bytes(mask_format, size, 1)


def _least_bytes(pixel_format: str, size: tuple[int, int], channels: int) -> int:
    height, width = size
    if pixel_format == "png":
        return height * (width * channels + 1) // DEFLATE_RATIO
    return height * width * channels * ITEM_BYTES[pixel_format]


def _check_pixels(name: str, encoded: bytes, pixel_format: str, size: tuple[int, int], channels: int) -> None:
    what = f"{len(encoded):,} bytes of {pixel_format}"
    if pixel_format != "png" and pixel_format not in RAW_DTYPES:
        raise RecordError(
            f"the {name} has the format {pixel_format[:40]!r}, which is none of {', '.join(IMAGE_FORMATS)}"
        )
    least = _least_bytes(pixel_format, size, channels)
    if pixel_format != "png":
        if len(encoded) != least:
            raise RecordError(f"the {name} has {what}, and {size[0]}x{size[1]} takes {least:,}")
        return
    if len(encoded) < 33 or not encoded.startswith(_PNG_START):
        raise RecordError(f"the {name} has {what}, which are not a PNG file")
    width, height, *kind = struct.unpack_from(">IIBB", encoded, len(_PNG_START))
    if (height, width) != size:
        raise RecordError(f"the {name} is a PNG of {height}x{width}, and the record says {size[0]}x{size[1]}")
    wanted = [8, _PNG_COLORS[channels]]
    if kind != wanted:
        raise RecordError(f"the {name} is a PNG of depth and color type {kind}, and they must be {wanted}")
    if len(encoded) < least:
        raise RecordError(f"the {name} has {what}, and {height}x{width} takes {least:,} or more")


def parse(
    serialized: tf.Tensor, *, image_format: str, mask_format: str, height: int | None, width: int | None
) -> dict[str, tf.Tensor]:
    """A serialized Example -> `image` [height, width, 3] as stored (float32, float16 or uint8), `mask` uint8[height,
    width] of train ids, `filename` string. All but `serialized` are in the manifest; None is a size that varies.
    """
    import tensorflow as tf

    spec: dict[str, Any] = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/segmentation/class/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
    }
    features = tf.io.parse_single_example(serialized, spec)
    shape = tf.stack([features["image/height"], features["image/width"]])
    image = _parse_pixels(features["image/encoded"], image_format, shape, CHANNELS)
    mask = _parse_pixels(features["image/segmentation/class/encoded"], mask_format, shape, 1)
    return {
        "image": tf.ensure_shape(image, [height, width, CHANNELS]),
        "mask": tf.ensure_shape(tf.squeeze(mask, -1), [height, width]),
        "filename": features["image/filename"],
    }


def _parse_pixels(encoded: tf.Tensor, pixel_format: str, shape: tf.Tensor, channels: int) -> tf.Tensor:
    import tensorflow as tf

    if pixel_format == "png":
        # Its header holds width and height: no more memory is taken than the record's size says.
        width_height = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        same = tf.debugging.assert_equal(tf.cast(width_height[::-1], tf.int64), shape, "a PNG of another size")
        with tf.control_dependencies([] if same is None else [same]):  # None if it ran at once
            return tf.io.decode_png(encoded, channels=channels)
    pixels = tf.io.decode_raw(encoded, tf.dtypes.as_dtype(RAW_DTYPES[pixel_format]))
    return tf.reshape(pixels, tf.concat([shape, [channels]], 0))


def _feature(value: bytes | str | int) -> list[bytes]:
    """A Feature: bytes_list is its field 1 and int64_list its field 3; int64 values are packed."""
    if isinstance(value, int):
        return _wrap(3, _wrap(1, [_varint(value)]))
    return _wrap(1, _wrap(1, [value.encode() if isinstance(value, str) else value]))


def _wrap(number: int, parts: list[bytes]) -> list[bytes]:
    """`parts` as the length-delimited field `number`; the parts are not joined, so pixels are copied only once."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _features(example: memoryview) -> Iterator[tuple[str, list[Any]]]:
    """The name of each feature and its values, memoryview or int; of a float_list none, no field has one."""
    for features in _messages(example, 1):
        for entry in _messages(features, 1):
            (name,), (feature,) = _messages(entry, 1), _messages(entry, 2)
            yield bytes(name).decode(), _values(feature)


def _values(feature: memoryview) -> list[Any]:
    lists = list(_fields(feature))
    if len(lists) > 1:
        raise ValueError("a feature with more than one list of values")
    texts = [text for values in _messages(feature, 1) for text in _messages(values, 1)]
    numbers = [number for values in _messages(feature, 3) for number in _numbers(values)]
    return texts or numbers


def _numbers(values: memoryview) -> Iterator[int]:
    """Of an Int64List, packed or not."""
    for number, packed in _fields(values):
        if number == 1 and isinstance(packed, int):
            yield packed
        elif number == 1:
            position = 0
            while position < len(packed):
                value, position = _read_varint(packed, position)
                yield value


def _messages(message: memoryview, number: int) -> list[memoryview]:
    """The length-delimited fields `number`."""
    found = [value for field, value in _fields(message) if field == number]
    if any(isinstance(value, int) for value in found):
        raise ValueError(f"field {number} is a number where bytes belong")
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The number of each field, and its value: of a length-delimited field its bytes, of a varint the integer."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        value: Any
        value, position = _read_varint(message, position)
        if tag & 7 == 2:
            start, position = position, position + value
            if position > len(message):
                raise ValueError(f"a field ends at byte {position} of {len(message)}")
            value = message[start:position]
        elif tag & 7 != 0:
            raise ValueError(f"unexpected wire type {tag & 7}")
        if not 0 < tag >> 3 <= MAX_FIELD_NUMBER:
            raise ValueError(f"there is no field {tag >> 3}")
        yield tag >> 3, value


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError(f"the varint before byte {position} does not end")


def _value(field: str, values: list[Any]) -> bytes | str | int:
    if len(values) != 1:
        raise RecordError(f"{field} has {len(values)} values; it must have 1")
    (value,) = values
    if (field in NUMBERS) != isinstance(value, int):
        raise RecordError(f"{field} is {'not ' if field in NUMBERS else ''}a number")
    if isinstance(value, int):
        return value
    if field in BLOBS:
        return bytes(value)
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{field} is not UTF-8: {error}") from error
