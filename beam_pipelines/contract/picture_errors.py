"""What is wrong with a picture: the error that refuses it, and how damage is told; and how picture files begin."""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
BIG_TIFF_SIGNATURES = (b"II+\0", b"MM\0+")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", *BIG_TIFF_SIGNATURES)
# Of all formats that are read; Pillow also takes a TIFF file with the last two.
SIGNATURES = (PNG_SIGNATURE, JPEG_SIGNATURE, b"BM", b"RIFF", *TIFF_SIGNATURES, b"II\0*", b"MM*\0")
# What Pillow's parsers stumble over in damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
_UNSUPPORTED = re.compile(r"unsupported BMP (pixel depth|compression|bitfields)|not yet supported", re.IGNORECASE)


class PictureError(Exception):
    """A picture that is refused. `reason` is a key of the pipeline's `rejects.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@contextlib.contextmanager
def damage_refused(data: bytes, what: str = "") -> Iterator[None]:
    """What Pillow raises for damaged files, as PictureError; its warnings (of large pictures, odd tags) are mute."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _DAMAGE as error:
        raise PictureError(reason_of_damage(data, str(error)), f"{what}{error}") from error


def reason_of_damage(data: bytes, error: str = "") -> str:
    """Whether a damaged file lacks its end, which PNG and JPEG mark; of others `error` may tell."""
    if _UNSUPPORTED.search(error):
        return "unsupported_mode"
    if data.startswith(PNG_SIGNATURE):
        return "corrupt" if b"IEND" in data[-16:] else "truncated"
    if data.startswith(JPEG_SIGNATURE):
        return "corrupt" if b"\xff\xd9" in data[-16:] else "truncated"
    return "truncated" if "truncated" in error.lower() else "corrupt"
