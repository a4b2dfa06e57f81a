"""A text that says itself whether it is whole: its last line is the CRC-32C of the lines before."""

from __future__ import annotations

import google_crc32c

_MARK = "#crc32c="


def sealed(text: str) -> bytes:
    """The text with the line that vouches for it, as UTF-8."""
    body = text.encode() if text.endswith("\n") or not text else f"{text}\n".encode()
    return body + last_line(google_crc32c.value(body))


def last_line(crc: int) -> bytes:
    """What stands behind lines whose CRC-32C is `crc`."""
    return f"{_MARK}{crc:08x}\n".encode()


def unsealed(data: bytes | None) -> str | None:
    """The text that was sealed; None where there is none, or where it is empty, cut or changed."""
    if not data:
        return None
    start = data.rfind(_MARK.encode())
    body, line = data[: max(start, 0)], data[max(start, 0) :]
    if line != last_line(google_crc32c.value(body)):
        return None
    return body.decode()  # it is what was encoded
