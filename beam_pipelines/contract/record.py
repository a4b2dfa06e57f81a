"""One record: a `tf.train.Example` of an image and its mask. Writer and reader face each other here.

Field names are those that DeepLab2 and the TF Model Garden read. The pixel path must not import TensorFlow, so the
protobuf (tensorflow/core/example/example.proto) is written and read by hand: an Example is a map of named features,
written in the order of their names, as protobuf's deterministic serialization does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

RAW_DTYPES = {"raw_float32": "float32", "raw_float16": "float16", "raw_uint8": "uint8"}
IMAGE_FORMATS = (*RAW_DTYPES, "png")
MASK_FORMATS = ("raw_uint8", "png")
CHANNELS = 3

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


class RecordError(ValueError):
    """Bytes that are not an Example with the fields of `FIELDS`."""


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
      RecordError: the bytes are no Example, or a field is missing.
    """
    try:
        features = dict(_features(memoryview(serialized)))
    except (IndexError, ValueError) as error:
        raise RecordError(f"not a serialized tf.train.Example: {error}") from error
    missing = FIELDS.keys() - features.keys()
    if missing:
        raise RecordError(f"the Example has no {', '.join(sorted(missing))}")
    values: dict[str, Any] = {attribute: _typed(attribute, features[field]) for field, attribute in FIELDS.items()}
    return Record(**values)


def parse(
    serialized: tf.Tensor, *, image_format: str, mask_format: str, height: int | None, width: int | None
) -> dict[str, tf.Tensor]:
    """A serialized Example -> `image` [height, width, 3] as stored (float32, float16 or uint8), `mask` uint8[height,
    width] of train ids, `filename` string. All but `serialized` stand in the manifest; None is a size that varies.
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


def _features(example: memoryview) -> Iterator[tuple[str, memoryview | int]]:
    for features in _fields(example, 1):
        for entry in _fields(features, 1):
            (name,), (feature,) = _fields(entry, 1), _fields(entry, 2)
            for values in (*_fields(feature, 1), *_fields(feature, 3)):
                (value,) = _fields(values, 1)
                yield bytes(name).decode(), value


def _fields(message: memoryview, number: int) -> list[Any]:
    """The values of the fields `number`: of a length-delimited field its bytes, of a varint the integer."""
    found: list[Any] = []
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
        if tag >> 3 == number:
            found.append(value)
    return found


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _typed(attribute: str, value: memoryview | int) -> bytes | str | int:
    if attribute in ("height", "width", "channels"):
        return value if isinstance(value, int) else _read_varint(value, 0)[0]
    if isinstance(value, int):
        raise RecordError(f"{attribute} is a number where bytes belong")
    return bytes(value) if attribute in ("image", "mask") else bytes(value).decode()
