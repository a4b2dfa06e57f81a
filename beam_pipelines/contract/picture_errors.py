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
# Brands in the box `ftyp` that such a file begins with (ISO/IEC 14496-12): of the AV1 Image File Format, and of HEIF,
# ISO/IEC 23008-12.
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"msf1", b"mif2"}
_CURES = {
    "GIF": "save it as PNG",
    "AVIF": "convert it to PNG, as Pillow does from version 11.3 on",
    "HEIC": "convert it to PNG or JPEG, as Pillow does after `pillow_heif.register_heif_opener()` of pillow-heif",
}
_CURES["HEIF"] = _CURES["HEIC"]
# What Pillow's parsers stumble over in damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
AGAIN = "copy or download it again"
_UNSUPPORTED = re.compile(r"unsupported BMP (pixel depth|compression|bitfields)|not yet supported", re.IGNORECASE)


class PictureError(Exception):
    """A picture that is refused. `reason` is a key of the pipeline's `rejects.REASONS`; `rule` is the field of
    `picture_rules.Rules` that would take the picture, "" if there is none.
    """

    def __init__(self, reason: str, detail: str, rule: str = "") -> None:
        super().__init__(reason, detail, rule)
        self.reason, self.detail, self.rule = reason, detail, rule

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
        raise damaged(data, str(error), what) from error


def damaged(data: bytes, error: str, what: str = "") -> PictureError:
    """The refusal of a damaged file, with what to do; `error` is what its decoder says, and follows `what`."""
    reason = reason_of_damage(data, error)
    found = f" ({what}{error})"
    if reason == "truncated":
        return PictureError(reason, f"the file ends too early, after {len(data):,} bytes: {AGAIN}{found}")
    if reason == "corrupt":
        return PictureError(reason, f"the file of {len(data):,} bytes is damaged: {AGAIN}{found}")
    return PictureError(reason, f"{what}{error}: convert the picture to RGB of 8 bits as PNG")


def told_kind(data: bytes) -> str:
    """What a file is that is known and not read, and what to do, to follow a message; otherwise ""."""
    kind = _kind_of(data[:256])
    return f": {kind} is not read; {_CURES[kind]}" if kind else ""


def _kind_of(head: bytes) -> str:
    """A key of `_CURES`, or ""."""
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[4:8] != b"ftyp":
        return ""
    box = head[: int.from_bytes(head[:4], "big")]
    brands = {box[at : at + 4] for at in range(8, len(box), 4)}
    named = {"AVIF": _AVIF_BRANDS, "HEIC": _HEIC_BRANDS, "HEIF": _HEIF_BRANDS}
    return next((kind for kind, of_kind in named.items() if brands & of_kind), "")


def reason_of_damage(data: bytes, error: str = "") -> str:
    """Whether a damaged file lacks its end, which PNG and JPEG mark; of others `error` may tell."""
    if _UNSUPPORTED.search(error):
        return "unsupported_mode"
    if data.startswith(PNG_SIGNATURE):
        return "corrupt" if b"IEND" in data[-16:] else "truncated"
    if data.startswith(JPEG_SIGNATURE):
        return "corrupt" if b"\xff\xd9" in data[-16:] else "truncated"
    return "truncated" if "truncated" in error.lower() else "corrupt"
