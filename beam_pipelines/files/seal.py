"""A text that says itself whether it is whole: its last line is the CRC-32C of the lines before."""

from __future__ import annotations

from typing import TypeVar

import google_crc32c

from beam_pipelines.contract import schema
from beam_pipelines.contract.schema import SchemaError

_MARK = "#crc32c="
_T = TypeVar("_T")


def sealed(text: str) -> bytes:
    """The text with the line that vouches for it, as UTF-8."""
    body = text.encode() if text.endswith("\n") or not text else f"{text}\n".encode()
    return body + last_line(google_crc32c.value(body))


def last_line(crc: int) -> bytes:
    """The line after lines whose CRC-32C is `crc`."""
    return f"{_MARK}{crc:08x}\n".encode()


def unsealed(data: bytes | None) -> str | None:
    """The text that was sealed; None where there is none, or where it is empty, cut or changed."""
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
    """The JSON of the type `kind` that was sealed; None where there is none, or it is damaged or of another type."""
    text = unsealed(data)
    try:
        return None if text is None else schema.decode(kind, text, name)
    except SchemaError:
        return None
