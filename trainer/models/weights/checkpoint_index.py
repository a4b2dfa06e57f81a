"""Reads the index of a checkpoint, PREFIX.index: a table of names, and where their numbers are.

TensorFlow ends the process where an entry has an impossible shape, or is no message of its kind: it gets only what was
read here before.

Formats: LevelDB's doc/table_format.md, and tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from beam_pipelines.contract.tfrecord import masked_crc

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48  # bytes: where two blocks are, zeros, and _MAGIC
_MOST_AXES = 254  # of a tensor
_MOST_VALUES = 2**63 - 1  # of a tensor; TensorFlow multiplies sides of a shape before it comes to one of 0
_MOST_LETTERS = 1024  # of a name, of which a few bytes in each entry would make gigabytes
_HEADER = b""  # the name of the first entry


class Entry(NamedTuple):
    """Where a tensor is.

    Attributes:
      dtype, shape: of the tensor.
      file: what the name of its file has after PREFIX.
      end: the byte of this file before which its numbers end.
    """

    dtype: tf.DType
    shape: tuple[int, ...]
    file: str
    end: int


def read_index(data: bytes) -> dict[str, Entry]:
    """The tensors by name, of the content of an index. Raises ValueError, which says what is wrong."""
    if len(data) < _FOOTER or not data.endswith(_MAGIC):
        raise ValueError("its index is no table of TensorFlow")
    entries = _entries(data)
    name, value = next(entries, (None, b""))
    if name != _HEADER:
        raise ValueError("its index has no header")
    header = _message(tensor_bundle_pb2.BundleHeaderProto, value)
    return {name.decode(): _entry(name.decode(), value, header.num_shards) for name, value in entries}


def check_end(prefix: str, entry: Entry) -> None:
    """Raises ValueError if the numbers of a tensor are not numbers, or reach beyond their file."""
    if not (entry.dtype.is_floating or entry.dtype.is_integer or entry.dtype.is_bool):
        raise ValueError(f"it consists of {entry.dtype.name} values, not of numbers")
    size = tf.io.gfile.stat(prefix + entry.file).length
    if entry.end > size:
        raise ValueError(f"it ends at byte {entry.end:,} of a file of {size:,} bytes")


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, value) of the header and of each tensor: the second block that the footer names has the places of the
    blocks with them.
    """
    (_, _, offset, size), _ = _numbers(data[-_FOOTER:], 0, 4)
    last, end = None, 0
    for _, place in _pairs(_block(data, offset, size)):
        (offset, size), _ = _numbers(place, 0, 2)
        if offset < end:
            raise ValueError("the blocks of its index overlap")
        end = offset + size
        for name, value in _pairs(_block(data, offset, size)):
            if last is not None and name <= last:
                raise ValueError("the names in its index are not in order")
            yield name, value
            last = name


def _entry(name: str, value: bytes, files: int) -> Entry:
    found = _message(tensor_bundle_pb2.BundleEntryProto, value)
    dtype, shape = _dtype(name, found.dtype), tuple(axis.size for axis in found.shape.dim)
    if found.slices or found.shape.unknown_rank or len(shape) > _MOST_AXES or min(shape, default=0) < 0:
        raise ValueError(f"{name} has no shape, or is in several parts")
    if math.prod(side or 1 for side in shape) > _MOST_VALUES:
        raise ValueError(f"{name} has the impossible shape {shape}")
    values, is_of_numbers = math.prod(shape), dtype.size > 0 and dtype != tf.string
    if found.offset < 0 or (found.size != values * dtype.size if is_of_numbers else found.size < values):
        raise ValueError(f"{name} has {found.size:,} bytes from byte {found.offset:,} on for the shape {shape}")
    file = f".data-{found.shard_id:05}-of-{files:05}"
    return Entry(dtype, shape, file, found.offset + found.size)


def _dtype(name: str, number: int) -> tf.DType:
    try:
        dtype = tf.dtypes.as_dtype(number)
    except TypeError as error:
        raise ValueError(f"{name} has the unknown type {number}") from error
    if dtype != dtype.base_dtype:
        raise ValueError(f"{name} has the type {dtype.name}, which no tensor has")
    return dtype


def _block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size + 1
    if end + 4 > len(data) or struct.unpack_from("<I", data, end)[0] != masked_crc(data[offset:end]):
        raise ValueError("a checksum of its index is wrong")
    if data[end - 1]:
        raise ValueError("its index is compressed, which TensorFlow does not do")
    return data[offset : end - 1]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) in a block. A key has the first bytes of the one before, but not where a search may begin."""
    if len(block) < 8:
        raise ValueError("a block of its index is too short")
    (count,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * count
    if count < 1 or end < 0:
        raise ValueError(f"a block of its index has {count:,} beginnings")
    beginnings = struct.unpack_from(f"<{count}I", block, end)
    whole, position, key = [0], 0, b""
    while position < end:
        before = position
        (shared, rest, length), position = _numbers(block, position, 3)
        if shared > len(key) or position + rest + length > end:
            raise ValueError("an entry of its index is longer than the block")
        if shared + rest > _MOST_LETTERS:
            raise ValueError(f"its index has a name of {shared + rest:,} bytes, more than {_MOST_LETTERS:,}")
        whole += [before] * (not shared)
        key = key[:shared] + block[position : position + rest]
        yield key, block[position + rest : position + rest + length]
        position += rest + length
    if beginnings[0] or not set(beginnings) <= set(whole) or list(beginnings) != sorted(beginnings):
        raise ValueError("a block of its index begins elsewhere")


def _numbers(data: bytes, position: int, count: int) -> tuple[list[int], int]:
    """-> numbers of 7 bits a byte, the least first, and the position after them."""
    found = []
    for _ in range(count):
        value = shift = 0
        while True:
            if position >= len(data) or shift > 63:
                raise ValueError("a number in its index has no end")
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(value)
    return found, position


def _message(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except Exception as error:  # protobuf's own, which is TensorFlow's dependency and not ours
        raise ValueError("an entry of its index can't be read") from error
