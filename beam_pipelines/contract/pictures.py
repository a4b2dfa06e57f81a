"""Encoded pictures -> RGB: the one rule of which pictures are taken and what their pixels are.

The pipeline and prediction use it. `picture_graph` is the same rule for TensorFlow's graphs, which take fewer formats.
A picture that can't be read exactly is refused.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from beam_pipelines.contract import png, tiff
from beam_pipelines.contract.picture_errors import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    SIGNATURES,
    TIFF_SIGNATURES,
    damage_refused,
    damaged,
    told_kind,
)
from beam_pipelines.contract.picture_errors import PictureError as PictureError
from beam_pipelines.contract.picture_rules import REJECT, STRICT, UPRIGHT, Rules, eight_bits, upright, without_alpha
from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS as MAX_IMAGE_PIXELS

# Image.open looks among the formats that are imported: BMP, JPEG (which knows MPO) and PNG always are.
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
BYTES_PER_PIXEL = 8  # the most that a file may have of them, for each pixel of the limit
_EXIF_ORIENTATION = 0x0112
_TURNED = range(2, 9)  # 1 is upright, all others mean that nobody knows
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")  # Pillow's modes
_PREMULTIPLIED = ("La", "RGBa")
_PNG_EXIF = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # keys of texts that can hold an orientation
_JPEG_FRAMES = {0xC0 + kind for kind in range(16)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the other three are tables
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_JPEG_SCAN = 0xDA
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # 64 MiB; more than that is left out
Image.MAX_IMAGE_PIXELS = None  # the limit is max_pixels, checked on the header


def decode_image(data: bytes, max_pixels: int, rules: Rules = STRICT) -> np.ndarray:
    """-> uint8[H, W, 3], RGB.

    Gray and palette images become RGB without loss, an opaque alpha channel is dropped, 16 bits become 8 where 8
    hold the same values, CMYK is converted as Pillow does it. `rules` say what becomes of others.

    Raises:
      PictureError: it can't be read exactly, or has more than `max_pixels` pixels.
    """
    header = open_header(data, max_pixels)
    orientation = checked_orientation(header, data, rules.orient)
    pixels = _pixels(header, data, rules)
    if orientation == UPRIGHT:
        return pixels
    return upright(pixels, orientation_of(header, data))  # again: Pillow turns a TIFF file as it loads it


def _pixels(header: Image.Image, data: bytes, rules: Rules) -> np.ndarray:
    """As stored; a TIFF file of an orientation that Pillow knows is turned upright."""
    if header.format == "PNG" and data[24:26] == bytes([8, png.RGB]) and "transparency" not in header.info:
        return png_pixels(data)
    if header.format == "PNG" and data[25] == png.GRAY and data[24] < 8 and "transparency" in header.info:
        # Pillow looks for the transparent gray among stretched ones.
        return _to_rgb(Image.fromarray(png_pixels(data)), rules.alpha)
    if header.format == "PNG" and data[24] == 16:
        return _to_rgb(Image.fromarray(_deep_png_pixels(data, rules)), rules.alpha)
    inverted = isinstance(header, TiffImagePlugin.TiffImageFile) and tiff.check(header, data)
    if header.mode in tiff.GRAY_16:
        gray = eight_bits(np.asarray(load(header, data)), rules.deep)
        return _to_rgb(Image.fromarray(255 - gray if inverted else gray), rules.alpha)
    return _to_rgb(load(header, data), rules.alpha)


def _deep_png_pixels(data: bytes, rules: Rules) -> np.ndarray:
    pixels = png_pixels(data)
    if rules.alpha == "drop" and pixels.ndim == 3:  # before the depth of an alpha channel could matter
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return eight_bits(pixels, rules.deep)


def open_header(data: bytes, max_pixels: int) -> Image.Image:
    """The header, checked; no pixel is decoded yet. Raises PictureError."""
    if data.startswith(JPEG_SIGNATURE):
        _check_jpeg(data)
    with damage_refused(data, "the header can't be read: "):
        try:
            image = _opened(data)
        except UnidentifiedImageError as error:
            if data.startswith(TIFF_SIGNATURES):
                tiff.check_is_known(data)
            if data.startswith(SIGNATURES):
                raise damaged(data, "the header can't be read") from error
            raise PictureError("not_an_image", f"it begins with {data[:8]!r}{told_kind(data)}") from error
        frames = _frames(image, data)
    if image.format == "PNG" and data[12 : png.SIZE] != b"IHDR":  # Pillow takes it from anywhere
        raise PictureError("corrupt", "its first chunk is not the header, IHDR")
    if image.format == "PNG" and image.size != struct.unpack_from(">II", data, png.SIZE):  # Pillow takes the last one
        raise PictureError("corrupt", "it has a second header, IHDR, of another size")
    if image.width * image.height > max_pixels:
        pixels = image.width * image.height
        cure = f"--max_image_pixels={pixels} takes it, if it is no decompression bomb"
        detail = f"{image.width}x{image.height} (WxH) is more than {max_pixels:,} pixels: {cure}"
        raise PictureError("too_many_pixels", detail)
    if frames > 1:
        raise PictureError("animated", f"it has {frames} frames")
    return image


def load(image: Image.Image, data: bytes) -> Image.Image:
    """`image`, with its pixels decoded. Raises PictureError."""
    if image.format == "PNG":
        png.check_chunks(data)
    with damage_refused(data):
        image.load()
    return image


def png_pixels(data: bytes) -> np.ndarray:
    """A PNG -> uint8 or uint16 [H, W] or [H, W, 2 to 4], as stored; 1, 2 and 4 bits are stretched to 0..255.

    Raises:
      PictureError: it is damaged.
    """
    try:  # faster than Pillow, without the interpreter's lock, and every checksum is checked
        return png.decode_png(data)
    except (imagecodecs.PngError, RuntimeError, ValueError) as error:
        # libpng's message about some chunks is gone before imagecodecs reads it: what is there is no text.
        has_words = not isinstance(error, UnicodeDecodeError) and str(error).isprintable()
        told = str(error) if has_words else "a chunk is wrong or missing"
        raise damaged(data, told) from error


def opaque(image: Image.Image, alpha: str = REJECT) -> np.ndarray:
    """uint8[H, W, 3], the colors without their alpha channel, as `picture_rules.without_alpha` has them."""
    pixels = np.asarray(image.convert("RGBA"))
    premultiplied = image.mode in _PREMULTIPLIED or tiff.is_premultiplied(image)
    return without_alpha(pixels[..., :3], pixels[..., 3], alpha, premultiplied)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except ValueError:  # also of text, and of a color profile, that is larger than Pillow takes
        if not data.startswith(PNG_SIGNATURE):
            raise
        return Image.open(io.BytesIO(_without_text(data)), formats=IMAGE_FORMATS)


def _frames(image: Image.Image, data: bytes) -> int:
    if image.format == "MPO":  # of a stereo camera: the first picture counts
        return 1
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and isinstance(image, TiffImagePlugin.TiffImageFile):
        return tiff.count_pictures(data)
    return int(frames)


def orientation_of(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation of the pixels, 1 to 8; 1 also where nobody knows."""
    if image.format == "PNG" and not _may_be_turned(data):
        return UPRIGHT  # Pillow would decode the whole picture to be sure of it
    with damage_refused(data):
        orientation = image.getexif().get(_EXIF_ORIENTATION, UPRIGHT)
        if isinstance(orientation, bytes):  # of a single byte, where two are usual
            orientation = int.from_bytes(orientation, "big")
        return int(orientation) if orientation in _TURNED else UPRIGHT


def _may_be_turned(data: bytes) -> bool:
    """Whether a PNG has a chunk that can hold an EXIF orientation. Behind a chunk without an end there is none."""
    return any(
        name == b"eXIf" or (name in png.TEXT and data.startswith(_PNG_EXIF, start + 8))
        for name, start, _ in png.chunks(data)
    )


def checked_orientation(image: Image.Image, data: bytes, orient: str, other: str = "mask") -> int:
    """`orientation_of`. Raises PictureError if `orient` rejects it; `other` is the file that may be turned or not."""
    orientation = orientation_of(image, data)
    if orientation != UPRIGHT and orient == REJECT:
        detail = f"the EXIF orientation is not 1: turn the picture upright (and check its {other})"
        raise PictureError("rotated", detail, rule="orient")
    return orientation


def _without_text(data: bytes) -> bytes:
    kept = [data[start:end] for name, start, end in png.chunks(data) if name not in png.TEXT]
    return b"".join([PNG_SIGNATURE, *kept])


@dataclass(frozen=True)
class _JpegHeader:
    """What stands before the first scan: the frame's bits per channel and channels, and whether Adobe's marker does."""

    bits: int
    channels: int
    adobe: bool


def _jpeg_header(data: bytes) -> _JpegHeader | None:
    """None where there is no whole one."""
    position, frame, adobe = 2, None, False
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _JPEG_SCAN:
            return None if frame is None else _JpegHeader(*frame, adobe)
        if marker in _JPEG_FRAMES:
            frame = data[position + 4], data[position + 9]
        adobe = adobe or (marker == 0xEE and data[position + 4 : position + 9] == b"Adobe")
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if marker == 0xFF else 2 if marker in _JPEG_WITHOUT_LENGTH else 2 + length
    return None


def _check_jpeg(data: bytes) -> None:
    header = _jpeg_header(data)
    if header is None:
        return  # Pillow finds out what is wrong
    if header.bits > 8:
        raise PictureError("deep_color", f"{header.bits} bits per channel in a JPEG: convert the picture to 8 bits")
    if header.channels not in (1, 3, 4):
        raise PictureError("unsupported_mode", f"a JPEG of {header.channels} channels: convert the picture to RGB")
    if header.channels == 4 and not header.adobe:
        detail = (
            "a CMYK JPEG without Adobe's marker does not tell whether 0 is no ink or all: convert the picture to RGB"
        )
        raise PictureError("unsupported_mode", detail)


def _to_rgb(image: Image.Image, alpha: str) -> np.ndarray:
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = Image.fromarray(opaque(image, alpha))
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        raise PictureError("unsupported_mode", f"mode {image.mode} has no usual conversion to RGB")
    return np.asarray(image.convert("RGB"))
