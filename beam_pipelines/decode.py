"""Encoded files -> arrays: images as RGB. What can't be read exactly is refused; `masks` reads the masks."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from beam_pipelines.rejects import BadInputError

# Image.open looks among the formats that are imported: BMP, JPEG (which knows MPO) and PNG always are.
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_SIGNATURES = (_PNG, _JPEG, b"BM", b"II*\0", b"MM\0*", b"RIFF")
_EXIF_ORIENTATION = 0x0112
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # where a PNG can hold an orientation
_TIFF_BITS_PER_SAMPLE = 258
Image.MAX_IMAGE_PIXELS = None  # the limit is max_pixels, checked on the header
# What Pillow's parsers stumble over in damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
_GREY_16 = ("I;16", "I;16B", "I;16L", "I")
_PNG_RGB = 2  # a colour type of a PNG's header; bit depth and colour type are its bytes 24 and 25


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """-> uint8[H, W, 3], RGB.

    Grey and palette images become RGB without loss, an opaque alpha channel is dropped, 16 bits become 8 where 8
    hold the same values, CMYK is converted as Pillow does it.

    Raises:
      BadInputError: of stage `decode`.
    """
    header = _open(data, max_pixels)
    if _orientation(header, data) != 1:
        raise _bad("rotated", "the EXIF orientation is not 1: turn the picture upright (and check its mask)")
    if header.format == "PNG" and data[24:26] == bytes([8, _PNG_RGB]) and "transparency" not in header.info:
        return _png_pixels(data)
    if header.format == "PNG" and data[24] == 16:
        return _to_rgb(Image.fromarray(_eight_bits(_png_pixels(data))))
    if header.mode in _GREY_16:
        return _to_rgb(Image.fromarray(_eight_bits(np.asarray(_load(header, data)))))
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        with _damage_refused(data):
            bits = max(header.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,)))
        if header.mode != "F" and bits > 8:  # Pillow would cut them off
            raise _bad("deep_colour", f"{bits} bits per channel in a TIFF file: convert the picture to 8 bits")
    return _to_rgb(_load(header, data))


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """The header, checked; no pixel is decoded yet."""
    with _damage_refused(data, "the header can't be read: "):
        try:
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        except UnidentifiedImageError as error:
            if data.startswith(_SIGNATURES):
                raise _bad(_damage(data), f"the header can't be read; the file has {len(data):,} bytes") from error
            raise _bad("not_an_image", f"it begins with {data[:8]!r}") from error
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if image.width * image.height > max_pixels:
        raise _bad("too_many_pixels", f"{image.width}x{image.height} (WxH) is more than {max_pixels:,} pixels")
    if frames > 1:
        raise _bad("animated", f"it has {frames} frames")
    return image


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG" and not any(mark in data for mark in _PNG_EXIF):
        return 1  # Pillow would decode the whole picture to be sure of it
    with _damage_refused(data):
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))


def _load(image: Image.Image, data: bytes) -> Image.Image:
    if image.format == "PNG":
        _check_chunks(data)
    with _damage_refused(data):
        image.load()
    return image


@contextlib.contextmanager
def _damage_refused(data: bytes, what: str = "") -> Iterator[None]:
    """What Pillow raises for damaged files, as BadInputError; its warnings (of large pictures, odd tags) are mute."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _DAMAGE as error:
        raise _bad(_damage(data, str(error)), f"{what}{error}") from error


def _check_chunks(data: bytes) -> None:
    """Refuses a PNG of which a checksum does not fit, or the end is missing: Pillow does not look at all of them."""
    view, position = memoryview(data), len(_PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        if end <= len(data) and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise _bad("corrupt", f"the checksum of the chunk {name!r} at byte {position:,} does not fit")
        if name == b"IEND":
            return
        position = end
    raise _bad(_damage(data), f"the last chunk, IEND, is missing; the file has {len(data):,} bytes")


def _png_pixels(data: bytes) -> np.ndarray:
    """imagecodecs decodes twice as fast as Pillow, without the interpreter's lock, and checks every checksum."""
    try:
        return imagecodecs.png_decode(data)
    except (imagecodecs.PngError, RuntimeError, ValueError) as error:
        raise _bad(_damage(data), f"{error}; the file has {len(data):,} bytes") from error


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """16 bits -> 8, for the values v * 257 that 8-bit pictures have when they are stored in 16 bits."""
    eight = (pixels >> 8).astype(np.uint8)
    if not np.array_equal(pixels, eight.astype(np.uint16) * 257):
        raise _bad(
            "deep_colour", f"16 bits per channel with values up to {pixels.max()}: convert the picture to 8 bits"
        )
    return eight


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = Image.fromarray(_opaque(image))
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        raise _bad("unsupported_mode", f"mode {image.mode} has no usual conversion to RGB")
    return np.asarray(image.convert("RGB"))


def _opaque(image: Image.Image) -> np.ndarray:
    """uint8[H, W, 3], the colours without their alpha channel, which must be opaque."""
    pixels = np.asarray(image.convert("RGBA"))
    if pixels[..., 3].min() < 255:
        raise _bad("transparent", f"{np.count_nonzero(pixels[..., 3] < 255):,} pixels are not opaque")
    return pixels[..., :3]


def _damage(data: bytes, error: str = "") -> str:
    """The reason: whether a damaged file lacks its end, which PNG and JPEG mark; of others `error` may tell."""
    if data.startswith(_PNG):
        return "corrupt" if b"IEND" in data[-16:] else "truncated"
    if data.startswith(_JPEG):
        return "corrupt" if b"\xff\xd9" in data[-16:] else "truncated"
    return "truncated" if "truncated" in error.lower() else "corrupt"


def _bad(reason: str, detail: str) -> BadInputError:
    return BadInputError("decode", reason, detail)
