"""The TFRecord framing: length, masked CRC-32C of the length, bytes, masked CRC-32C of the bytes.

Format: TensorFlow, `tensorflow/core/lib/io/record_writer.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Protocol

import google_crc32c

from beam_pipelines.contract.errors import UserError

HEADER_BYTES = 12
FOOTER_BYTES = 4
MAX_RECORD_BYTES = 2**31 - 1  # of a protobuf message, which each record is
_READ_BYTES = 2**26  # at once: a length that promises more than the file has costs no more memory than this
_MASK_DELTA = 0xA282EAD8


class CorruptRecordError(UserError, ValueError):
    """A damaged TFRecord file; the message names the file, the record and the byte."""


class Readable(Protocol):
    """A stream of records."""

    def read(self, size: int, /) -> bytes: ...


class Seekable(Readable, Protocol):
    """A stream that can be read at any position."""

    def seek(self, position: int, /) -> object: ...


def masked_crc(data: bytes) -> int:
    """CRC-32C as the framing stores it: rotated, plus a constant."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def header_of(record: bytes) -> bytes:
    """The 12 bytes before `record`."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length))


def footer_of(record: bytes) -> bytes:
    """The 4 bytes after `record`."""
    return struct.pack("<I", masked_crc(record))


def framed_bytes(record_bytes: int) -> int:
    """Bytes in a file of a record of `record_bytes`."""
    return HEADER_BYTES + record_bytes + FOOTER_BYTES


def read_records(file: Readable, name: str) -> Iterator[bytes]:
    """Yields each record of `file`, checked; `name` is its name in error messages.

    Raises:
      CorruptRecordError: a checksum does not fit, a record is longer than `MAX_RECORD_BYTES`, or the file ends inside
        a record.
    """
    position, index = 0, 0
    while header := file.read(HEADER_BYTES):
        where = f"{name}: record {index} at byte {position:,}"
        length = _length(header, where)
        yield _checked(file, length, where)
        position += framed_bytes(length)
        index += 1


def read_chosen(file: Seekable, numbers: Collection[int], name: str) -> Iterator[tuple[int, bytes]]:
    """Yields (number, record) of the records `numbers`, counted from 0. Of the others only headers are read, and
    nothing behind the last one.

    Raises:
      CorruptRecordError: as `read_records`; or there is no such record.
    """
    position, index = 0, 0
    for number in sorted(set(numbers)):
        while True:
            where = f"{name}: record {index} at byte {position:,}"
            file.seek(position)
            length = _length(file.read(HEADER_BYTES), where)
            if index == number:
                break
            position += framed_bytes(length)
            index += 1
        yield number, _checked(file, length, where)


def count_records(file: Seekable, size: int, name: str) -> int:
    """The records of a file of `size` bytes, by their headers alone.

    Raises:
      CorruptRecordError: as `read_records`, but for the checksums of the data.
    """
    position, index = 0, 0
    while position < size:
        where = f"{name}: record {index} at byte {position:,}"
        file.seek(position)
        length = _length(file.read(HEADER_BYTES), where)
        position += framed_bytes(length)
        index += 1
        if position > size:
            raise _cut_off(where, length)
    return index


def _checked(file: Readable, length: int, where: str) -> bytes:
    """The record of `length` bytes that comes next, and its footer."""
    record, footer = _read(file, length), file.read(FOOTER_BYTES)
    if len(record) < length or len(footer) < FOOTER_BYTES:
        raise _cut_off(where, length)
    if struct.unpack("<I", footer)[0] != masked_crc(record):
        raise CorruptRecordError(f"{where}: data checksum mismatch")
    return record


def _length(header: bytes, where: str) -> int:
    if len(header) < HEADER_BYTES:
        raise CorruptRecordError(f"{where}: the file ends after {len(header)} of {HEADER_BYTES} header bytes")
    length, length_crc = struct.unpack("<QI", header)
    if length_crc != masked_crc(header[:8]):
        raise CorruptRecordError(f"{where}: length checksum mismatch")
    if length > MAX_RECORD_BYTES:
        raise CorruptRecordError(
            f"{where}: a length of {length:,} bytes, but at most {MAX_RECORD_BYTES:,} are possible"
        )
    return int(length)


def _cut_off(where: str, length: int) -> CorruptRecordError:
    return CorruptRecordError(f"{where}: the file ends inside the record, which has {length:,} bytes")


def _read(file: Readable, length: int) -> bytes:
    """Up to `length` bytes, fewer at the end of the file."""
    if length <= _READ_BYTES:
        return file.read(length)
    parts = []
    while length and (part := file.read(min(length, _READ_BYTES))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
