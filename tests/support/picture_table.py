"""Pictures of every format and mode, small and of one size: what the pipeline makes of each, and what a graph does."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin

from tests.support.picture_files import PNG_SIGNATURE, chunk, saved

HEIGHT, WIDTH = 24, 32
ORIENTATION = 0x0112
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # color types of a PNG
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
JPEG_LEVELS = 4  # by which TensorFlow's and Pillow's pixels of a JPEG differ
XMP = b'<rdf:Description tiff:Orientation="%d"/>'


@dataclass(frozen=True)
class Case:
    """A file, what becomes of it, `read` or the reason of the refusal, and its pixels where they are known."""

    data: bytes
    pipeline: str = "read"
    graph: str = "read"
    pixels: np.ndarray | None = None


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (HEIGHT, WIDTH, 3), np.uint8)


def smooth() -> np.ndarray:
    return np.asarray(Image.fromarray(noise(3, 4, 3)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def repeated(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


def png(values: np.ndarray, bits: int, color_type: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """A PNG by hand, of values [H, W] or [H, W, C]."""
    values = values.reshape(*values.shape[:2], -1)
    passes = [values[y::down, x::right] for y, x, down, right in ADAM7] if interlaced else [values]
    rows = b"".join(b"\0" + _packed(row, bits) for part in passes for row in part if row.size)
    height, width = values.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced))
    body = [header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(body)


def _packed(row: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    return np.packbits(row.reshape(-1, 1) >> np.arange(bits - 1, -1, -1) & 1).tobytes()


def bmp(
    bits: int, rows: bytes, *, compression: int = 0, down: bool = False, header: int = 40, rest: bytes = b""
) -> bytes:
    """A BMP by hand; `rest` follows the header's 40 bytes: masks of bit fields, or a palette."""
    height = -HEIGHT if down else HEIGHT
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(rows), 0, 0, 0, 0) + rest
    info = info.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info)) + info + rows


def with_alpha(colors: np.ndarray, alpha: int) -> np.ndarray:
    layer = np.full((*colors.shape[:2], 1), 255, np.uint8)
    layer[3, 5:8] = alpha
    return np.concatenate([colors, layer], -1)


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def orientation_entry(order: str, kind: int, value: int) -> bytes:
    """EXIF by hand, with the orientation as a byte (1), a SHORT (3) or a LONG (4), in the byte order II or MM."""
    sign, number = {"II": "<", "MM": ">"}[order], {1: "Bxxx", 3: "Hxx", 4: "I"}[kind]
    entry = struct.pack(f"{sign}HHI{number}", ORIENTATION, kind, 1, value)
    return b"Exif\0\0" + struct.pack(f"{sign}2sHIH", order.encode(), 42, 8, 1) + entry + bytes(4)


def xmp_text(orientation: int, *, packed: bool = False) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode(), zip=packed)
    return text


_RGB, _GRAY = noise(), noise()[..., 0]
_INDICES = noise(HEIGHT, WIDTH, seed=1)
_COLORS = noise(256, 3, seed=2)
_PLTE = chunk(b"PLTE", _COLORS.tobytes())
_CMYK = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
_BGRX = np.concatenate([_RGB[..., ::-1], noise(HEIGHT, WIDTH, 1, seed=3)], -1)
_FRAMES = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
_JPEG = saved(smooth(), "JPEG", quality=95)
_EXIF_RAW = "\nexif\n      14\n" + (b"Exif\0\0" + with_orientation(1).tobytes()[6:]).hex() + "\n"


def _raw_profile() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", _EXIF_RAW)
    return text


def _palette_image() -> Image.Image:
    picture = Image.fromarray(_INDICES, "P")
    picture.putpalette(_COLORS.tobytes())
    return picture


CASES = {
    **{
        f"png gray {bits}": Case(
            png(_GRAY >> 8 - bits, bits, GRAY), pixels=repeated((_GRAY >> 8 - bits) * np.uint8(255 // (2**bits - 1)))
        )
        for bits in (1, 2, 4, 8)
    },
    **{
        f"png palette {bits}": Case(
            png(_INDICES >> 8 - bits, bits, PALETTE, _PLTE), pixels=_COLORS[_INDICES >> 8 - bits]
        )
        for bits in (1, 2, 4, 8)
    },
    "png gray 16": Case(png(_GRAY.astype(int) * 257, 16, GRAY), pixels=repeated(_GRAY)),
    "png gray 16 deep": Case(png(_GRAY.astype(int) * 256, 16, GRAY), "deep_color", "deep_color"),
    "png rgb": Case(png(_RGB, 8, RGB), pixels=_RGB),
    "png rgb interlaced": Case(png(_RGB, 8, RGB, interlaced=True), pixels=_RGB),
    "png gray 16 interlaced": Case(png(_GRAY.astype(int) * 257, 16, GRAY, interlaced=True), pixels=repeated(_GRAY)),
    "png rgb 16": Case(png(_RGB.astype(int) * 257, 16, RGB), pixels=_RGB),
    "png rgb 16 deep": Case(png(_RGB.astype(int) * 257 + 1 & 65535, 16, RGB), "deep_color", "deep_color"),
    "png rgba opaque": Case(png(with_alpha(_RGB, 255), 8, RGBA), pixels=_RGB),
    "png rgba": Case(png(with_alpha(_RGB, 254), 8, RGBA), "transparent", "transparent"),
    "png rgba 16 opaque": Case(png(with_alpha(_RGB, 255).astype(int) * 257, 16, RGBA), pixels=_RGB),
    "png rgba 16": Case(png(with_alpha(_RGB, 9).astype(int) * 257, 16, RGBA), "transparent", "transparent"),
    "png gray alpha opaque": Case(png(with_alpha(_RGB[..., :1], 255), 8, GRAY_ALPHA), pixels=repeated(_GRAY)),
    "png gray alpha": Case(png(with_alpha(_RGB[..., :1], 0), 8, GRAY_ALPHA), "transparent", "transparent"),
    "png palette tRNS": Case(png(_INDICES, 8, PALETTE, _PLTE, chunk(b"tRNS", b"\xff\0")), "transparent", "transparent"),
    "png palette tRNS unused": Case(
        png(_INDICES | 1, 8, PALETTE, _PLTE, chunk(b"tRNS", b"\0")), pixels=_COLORS[_INDICES | 1]
    ),
    "png gray tRNS": Case(
        png(_GRAY, 8, GRAY, chunk(b"tRNS", struct.pack(">H", _GRAY[0, 0]))), "transparent", "transparent"
    ),
    "png gray tRNS unused": Case(png(_GRAY | 1, 8, GRAY, chunk(b"tRNS", b"\0\0")), pixels=repeated(_GRAY | 1)),
    **{
        f"png {name} {bits} tRNS{' unused' * unused}": Case(
            png(_INDICES >> 8 - bits | 2, bits, color_type, *chunks), *("read" if unused else "transparent",) * 2
        )
        for bits in (2, 4)
        for name, color_type, unused, chunks in (
            ("gray", GRAY, False, [chunk(b"tRNS", b"\0\2")]),
            ("gray", GRAY, True, [chunk(b"tRNS", b"\0\1")]),
            ("palette", PALETTE, False, [_PLTE, chunk(b"tRNS", b"\xff\xff\x0f")]),
            ("palette", PALETTE, True, [_PLTE, chunk(b"tRNS", b"\xff\xff")]),
        )
    },
    "png rgb tRNS": Case(
        png(_RGB, 8, RGB, chunk(b"tRNS", struct.pack(">3H", *_RGB[0, 0]))), "transparent", "transparent"
    ),
    "png rgb tRNS unused": Case(png(_RGB | 1, 8, RGB, chunk(b"tRNS", bytes(6))), pixels=_RGB | 1),
    "png animated": Case(saved(_FRAMES[0], "PNG", save_all=True, append_images=_FRAMES[1:]), "animated", "animated"),
    "png without end": Case(png(_RGB, 8, RGB)[:-12], graph="truncated", pixels=_RGB),
    "png cut": Case(png(_RGB, 8, RGB)[:-99], "truncated", "truncated"),
    "png turned": Case(saved(_RGB, "PNG", exif=with_orientation(6)), "rotated", "rotated"),
    "png upright": Case(saved(_RGB, "PNG", exif=with_orientation(1)), pixels=_RGB),
    "png turned by xmp": Case(saved(_RGB, "PNG", pnginfo=xmp_text(8)), "rotated", "rotated"),
    "png upright by xmp": Case(saved(_RGB, "PNG", pnginfo=xmp_text(1)), pixels=_RGB),
    "png packed xmp": Case(
        saved(_RGB, "PNG", pnginfo=xmp_text(1, packed=True)), graph="unsupported_mode", pixels=_RGB
    ),
    "png raw profile": Case(saved(_RGB, "PNG", pnginfo=_raw_profile()), graph="unsupported_mode", pixels=_RGB),
    "jpeg": Case(_JPEG),
    "jpeg gray": Case(saved(smooth()[..., 0], "JPEG")),
    "jpeg progressive": Case(saved(smooth(), "JPEG", progressive=True)),
    "jpeg of rgb": Case(imagecodecs.jpeg_encode(smooth(), colorspace="RGB", outcolorspace="RGB", level=95)),
    "jpeg cmyk": Case(_CMYK),
    "jpeg ycck": Case(imagecodecs.jpeg_encode(noise(HEIGHT, WIDTH, 4), colorspace="CMYK", outcolorspace="YCCK")),
    "jpeg cmyk without Adobe": Case(_CMYK.replace(b"Adobe", b"adobe"), "unsupported_mode", "unsupported_mode"),
    "jpeg of 12 bits": Case(
        imagecodecs.jpeg_encode(_RGB.astype(np.uint16) * 16, bitspersample=12), "deep_color", "deep_color"
    ),
    "jpeg lossless": Case(imagecodecs.jpeg_encode(_RGB, lossless=True), graph="unsupported_mode", pixels=_RGB),
    "jpeg lossless 16": Case(
        imagecodecs.jpeg_encode(_RGB.astype(np.uint16) * 257, bitspersample=16, lossless=True),
        "deep_color",
        "deep_color",
    ),
    "jpeg cut": Case(_JPEG[: len(_JPEG) // 2], "truncated", "truncated"),
    "jpeg without end": Case(_JPEG[:-2], "truncated", "truncated"),
    "jpeg turned by xmp": Case(saved(smooth(), "JPEG", xmp=XMP % 3), "rotated", "rotated"),
    "jpeg with a thumbnail": Case(saved(smooth(), "JPEG", exif=with_orientation(1), comment=_JPEG)),
    "bmp 24": Case(saved(_RGB, "BMP"), pixels=_RGB),
    "bmp 24 down": Case(bmp(24, _RGB[..., ::-1].tobytes(), down=True), pixels=_RGB),
    "bmp 32": Case(bmp(32, _BGRX[::-1].tobytes()), pixels=_RGB),
    "bmp 32 down": Case(bmp(32, _BGRX.tobytes(), down=True), pixels=_RGB),
    "bmp 32 of bit fields": Case(
        bmp(32, _BGRX[::-1].tobytes(), compression=3, rest=struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)),
        graph="unsupported_mode",
        pixels=_RGB,
    ),
    "bmp 32 with alpha": Case(
        bmp(
            32,
            _BGRX[::-1].tobytes(),
            compression=3,
            header=56,
            rest=struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        ),
        "transparent",
        "unsupported_mode",
    ),
    "bmp 16": Case(
        bmp(16, bytes(range(256)) * (HEIGHT * WIDTH * 2 // 256)),
        graph="unsupported_mode",
    ),
    "bmp of unusual bit fields": Case(
        bmp(16, bytes(HEIGHT * WIDTH * 2), compression=3, rest=struct.pack("<3I", 0xF00, 0xF0, 0xF)),
        "unsupported_mode",
        "unsupported_mode",
    ),
    "bmp palette": Case(saved(_palette_image(), "BMP"), graph="unsupported_mode", pixels=_COLORS[_INDICES]),
    "bmp gray": Case(saved(_GRAY, "BMP"), graph="unsupported_mode", pixels=repeated(_GRAY)),
    "bmp 1": Case(
        saved(Image.fromarray(_GRAY > 127), "BMP"),
        graph="unsupported_mode",
        pixels=repeated(np.where(_GRAY > 127, 255, 0).astype(np.uint8)),
    ),
    "bmp 4": Case(
        bmp(4, _packed(_INDICES[::-1] & 15, 4),
            rest=np.pad(_COLORS[:16, ::-1], ((0, 0), (0, 1))).tobytes()),
        graph="unsupported_mode",
        pixels=_COLORS[_INDICES & 15],
    ),
    "bmp rle": Case(
        bmp(8, b"".join(b"\1%c" * WIDTH % tuple(row) + b"\0\0" for row in _INDICES[::-1]) + b"\0\1",
            compression=1, rest=np.pad(_COLORS[:, ::-1], ((0, 0), (0, 1))).tobytes()),
        graph="unsupported_mode",
        pixels=_COLORS[_INDICES],
    ),
    "bmp cut": Case(saved(_RGB, "BMP")[:-9], "truncated", "truncated"),
    "gif": Case(saved(_palette_image(), "GIF"), "not_an_image", "not_an_image"),
    "webp": Case(saved(_RGB, "WEBP", lossless=True), graph="not_an_image", pixels=_RGB),
    "tiff": Case(saved(_RGB, "TIFF"), graph="not_an_image", pixels=_RGB),
    "text": Case(b"what is this?", "not_an_image", "not_an_image"),
    "nothing": Case(b"", "not_an_image", "not_an_image"),
    **{
        f"{kind} of orientation {value}": Case(saved(smooth(), kind.upper(), exif=with_orientation(value)))
        for kind in ("jpeg", "png")
        for value in (0, 1, 9, 255)
    },
    **{
        f"jpeg of orientation {value}": Case(
            saved(smooth(), "JPEG", exif=with_orientation(value)), "rotated", "rotated"
        )
        for value in range(2, 9)
    },
    **{
        f"jpeg of orientation {value}, {order}, kind {kind}": Case(
            saved(smooth(), "JPEG", exif=orientation_entry(order, kind, value)), told, told
        )
        for order in ("II", "MM")
        for kind in (1, 3, 4)
        for value, told in ((1, "read"), (6, "rotated"))
    },
}  # fmt: skip
