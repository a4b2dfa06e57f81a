"""Texts with a checksum: the last line is the CRC-32C of the lines before it."""

from __future__ import annotations

from typing import TypeVar

import google_crc32c

from beam_pipelines.contract import schema
from beam_pipelines.contract.schema import SchemaError

_MARK = "#crc32c="
_T = TypeVar("_T")


def sealed(text: str) -> bytes:
    """The text as UTF-8, with its checksum line."""
    body = text.encode() if text.endswith("\n") or not text else f"{text}\n".encode()
    return body + last_line(google_crc32c.value(body))


def last_line(crc: int) -> bytes:
    """The line after lines whose CRC-32C is `crc`."""
    return f"{_MARK}{crc:08x}\n".encode()


def unsealed(data: bytes | None) -> str | None:
    """The text without its checksum line; None if there is no data, or if it is cut off or changed."""
    if not data:
        return None
    start = data.rfind(_MARK.encode())
    body, line = data[: max(start, 0)], data[max(start, 0) :]
    if line != last_line(google_crc32c.value(body)):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def decoded(kind: type[_T], data: bytes | None, name: str) -> _T | None:
    """Sealed JSON of the type `kind`; None if there is no data, or if it is damaged or of another type."""
    text = unsealed(data)
    try:
        return None if text is None else schema.decode(kind, text, name)
    except SchemaError:
        return None
