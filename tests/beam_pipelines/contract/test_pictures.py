"""Where decoders differ, pixels are held against a second decoder, or the kind is refused by its name."""

from __future__ import annotations

import struct
import sys
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from imagecodecs import TIFF
from PIL import Image

from beam_pipelines.contract.pictures import PictureError, decode_image, png_pixels
from beam_pipelines.rejects import REASONS
from tests.support.picture_table import CASES, HEIGHT, RGB, WIDTH, chunk, noise, png, repeated, saved, smooth, xmp_text

pytest.importorskip("imagecodecs", minversion="2026.1", reason="imagecodecs before 2026 can't write these TIFF files")

LIMIT = 1_000_000
COLORS, GRAY = noise(), noise()[..., 0]
LEVELS = 1  # of rounding


def refused(data: bytes) -> tuple[str, str]:
    with pytest.raises(PictureError) as error:
        decode_image(data, LIMIT)
    return error.value.reason, error.value.detail


def test_every_reason_is_one_of_the_pipeline() -> None:
    assert {case.pipeline for case in CASES.values()} - {"read"} <= REASONS.keys()


@pytest.mark.parametrize("pixels", [COLORS, GRAY, GRAY.astype(np.uint16)], ids=["RGB", "gray", "16 bits"])
def test_a_damaged_png_leaves_the_references_to_none_alone(pixels: np.ndarray) -> None:
    """Python before 3.12 ends the process when none are left, after some ten thousand damaged pictures."""
    data = bytearray(saved(Image.fromarray(pixels), "PNG"))
    data[-20] ^= 1  # in the compressed pixels or their checksum
    before = sys.getrefcount(None)
    for _ in range(200):
        with pytest.raises(PictureError):
            png_pixels(bytes(data))
    assert sys.getrefcount(None) > before - 100


def test_a_png_whose_header_is_not_the_first_chunk_is_refused() -> None:
    data = saved(Image.fromarray(COLORS), "PNG")
    assert refused(data[:8] + chunk(b"tEXt", b"a\0" + bytes(range(40))) + data[8:])[0] == "corrupt"


@pytest.mark.parametrize("transparency", [None, True])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_of_every_color_type_has_the_pixels_of_imagecodecs_alone(mode: str, transparency: bool | None) -> None:
    marked = {"RGB": (1, 2, 3), "1": 1, "L": 7, "P": 7, "I;16": 7}.get(mode) if transparency else None
    image = Image.fromarray(GRAY.astype(np.uint16)) if mode == "I;16" else Image.fromarray(COLORS).convert(mode)
    data = saved(image, "PNG", **({} if marked is None else {"transparency": marked}))
    np.testing.assert_array_equal(png_pixels(data), imagecodecs.png_decode(data), strict=True)


# --- TIFF: libtiff by itself, or what was written, is the second decoder


def tiff(pixels: np.ndarray, photometric: str, **options: Any) -> bytes:
    kinds = {"compression": TIFF.COMPRESSION, "planarconfig": TIFF.PLANARCONFIG, "extrasample": TIFF.EXTRASAMPLE}
    named: dict[str, Any] = {key: kinds[key][value] if key in kinds else value for key, value in options.items()}
    return imagecodecs.tiff_encode(pixels, photometric=TIFF.PHOTOMETRIC[photometric], **named)


def planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def with_band(pixels: np.ndarray, count: int = 1) -> np.ndarray:
    return np.concatenate([pixels, noise(HEIGHT, WIDTH, count, seed=5)], -1)


PACKED = ("NONE", "LZW", "ADOBE_DEFLATE", "PACKBITS")
DEEP = GRAY.astype(np.uint16) * 257
TIFFS = {
    **{f"rgb {order}": (tiff(COLORS, "RGB", byteorder=order), COLORS) for order in "<>"},
    **{f"min is white {kind}": (tiff(GRAY, "MINISWHITE", compression=kind), repeated(255 - GRAY)) for kind in PACKED},
    **{
        f"min is white 16 {kind}": (tiff(DEEP, "MINISWHITE", compression=kind), repeated(255 - GRAY)) for kind in PACKED
    },
    **{
        f"planes {kind}": (tiff(planes(COLORS), "RGB", planarconfig="SEPARATE", compression=kind), COLORS)
        for kind in PACKED
    },
    "predictor": (tiff(COLORS, "RGB", compression="LZW", predictor=2), COLORS),
    "predictor 16": (tiff(DEEP, "MINISBLACK", compression="LZW", predictor=2), repeated(GRAY)),
    "tiles": (tiff(COLORS, "RGB", tile=(16, 16), compression="LZW"), COLORS),
    "big": (tiff(COLORS, "RGB", bigtiff=True), COLORS),
    "an unspecified band": (tiff(with_band(COLORS), "RGB", extrasample="UNSPECIFIED"), COLORS),
}


@pytest.mark.parametrize(("data", "pixels"), TIFFS.values(), ids=TIFFS)
def test_a_tiff_has_the_pixels_that_were_written(data, pixels) -> None:
    np.testing.assert_array_equal(decode_image(data, LIMIT), pixels)


@pytest.mark.parametrize("photometric", ["RGB", "YCBCR", "MINISBLACK"])
def test_a_jpeg_in_a_tiff_has_the_pixels_of_libtiff(photometric) -> None:
    pixels = smooth()[..., 0].copy() if photometric == "MINISBLACK" else smooth()
    data = tiff(pixels, photometric, compression="JPEG")
    second = imagecodecs.tiff_decode(data)
    second = repeated(second) if second.ndim == 2 else second
    assert np.abs(decode_image(data, LIMIT).astype(int) - second).max() <= LEVELS


def test_cmyk_in_a_tiff_has_the_pixels_of_the_formula() -> None:
    inks = noise(HEIGHT, WIDTH, 4).astype(float)
    data = tiff(inks.astype(np.uint8), "SEPARATED")
    wanted = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    assert np.abs(decode_image(data, LIMIT) - wanted).max() <= LEVELS


@pytest.mark.parametrize("kind", ["group3", "group4", "tiff_ccitt", "packbits"])
@pytest.mark.parametrize("white", [0, 1])
def test_black_and_white_of_a_fax_stays_black_and_white(kind, white) -> None:
    """`white` is the photometric interpretation: 0, min is white, and 1, min is black."""
    drawn = GRAY > 127
    data = bytearray(saved(Image.fromarray(drawn), "TIFF", compression=kind))
    at = data.index(struct.pack("<HHI", 262, 3, 1))
    data[at + 8] = white
    np.testing.assert_array_equal(decode_image(bytes(data), LIMIT), repeated(np.where(drawn == white, 255, 0)))


def renamed(data: bytes, tag: int, other: int) -> bytes:
    """The file with a tag that has another number, so that nobody finds it; tags stay in order."""
    at = data.index(struct.pack("<HH", tag, 3))
    return data[:at] + struct.pack("<H", other) + data[at + 2 :]


EXTRA_SAMPLES = 338
STRANGE = {
    "2 bands": tiff(with_band(COLORS[..., :1]), "MINISBLACK", extrasample="UNSPECIFIED"),
    "4 bands": renamed(tiff(with_band(COLORS), "RGB", extrasample="UNASSALPHA"), EXTRA_SAMPLES, EXTRA_SAMPLES - 1),
    "5 bands": renamed(tiff(with_band(COLORS, 2), "RGB", extrasample="UNASSALPHA"), EXTRA_SAMPLES, EXTRA_SAMPLES - 1),
    "4 planes": tiff(planes(with_band(COLORS)), "RGB", planarconfig="SEPARATE", extrasample="UNSPECIFIED"),
    "signed": imagecodecs.tiff_encode(GRAY.view(np.int8)),
    "signed 16": imagecodecs.tiff_encode(GRAY.astype(np.int16) * 257),
    "YCbCr": saved(Image.fromarray(COLORS).convert("YCbCr"), "TIFF"),
}


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
def test_a_tiff_of_bands_that_mean_something_else_is_refused_by_its_name(data) -> None:
    reason, detail = refused(data)
    assert reason == "unsupported_mode"
    assert detail.startswith("a TIFF file of ")
    assert detail.endswith(": convert the picture to RGB of 8 bits")


@pytest.mark.parametrize("depth", [np.uint32, np.float64])
def test_a_tiff_of_more_than_16_bits_is_deep(depth) -> None:
    assert refused(imagecodecs.tiff_encode(GRAY.astype(depth) * 257))[0] == "deep_color"


# --- JPEG


def test_a_valid_jpeg_of_12_bits_is_not_called_damaged() -> None:
    expected = "12 bits per channel in a JPEG: convert the picture to 8 bits"
    assert refused(CASES["jpeg of 12 bits"].data) == ("deep_color", expected)


def test_a_cmyk_jpeg_has_the_colors_of_a_second_decoder() -> None:
    for name in ("jpeg cmyk", "jpeg ycck"):
        data = CASES[name].data
        inks = 255 - imagecodecs.jpeg_decode(data, outcolorspace="CMYK").astype(float)  # Adobe stores them inverted
        wanted = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
        assert np.abs(decode_image(data, LIMIT) - wanted).max() <= LEVELS, name


# --- PNG: chunks that Pillow unpacks


def text_png(*chunks: bytes) -> bytes:
    return png(COLORS, 8, RGB, *chunks)


LONG = bytes(5_000_000)
LONG_CHUNKS = {
    "XMP of 2 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 2_000_000),
    "packed XMP of 5 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "packed text of 5 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "text of 70 MB": chunk(b"tEXt", b"Comment\0" + bytes(70_000_000)),
    "packed text of 70 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70_000_000), 1)),
    "a color profile of 5 MB": chunk(b"iCCP", b"profile\0\0" + zlib.compress(LONG)),
    "a broken color profile": chunk(b"iCCP", b"profile\0\0" + b"no zlib"),
}


@pytest.mark.parametrize("extra", LONG_CHUNKS.values(), ids=LONG_CHUNKS)
@pytest.mark.parametrize("gray", [False, True])
def test_a_png_with_long_text_is_read(extra, gray) -> None:
    data = png(GRAY, 8, 0, extra) if gray else text_png(extra)
    np.testing.assert_array_equal(decode_image(data, LIMIT), repeated(GRAY) if gray else COLORS)


def test_an_orientation_in_long_text_is_seen() -> None:
    plain = text_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * 2_000_000 + b'tiff:Orientation="6"'))
    assert refused(plain)[0] == "rotated"
    packed = zlib.compress(b" " * 2_000_000 + b'tiff:Orientation="6"')
    assert refused(text_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)))[0] == "rotated"
    assert refused(saved(COLORS, "PNG", pnginfo=xmp_text(6, packed=True)))[0] == "rotated"


# --- TIFF: pages


REDUCED, PAGE, MASK = 1, 2, 4


def tiff_of_pages(kinds: list[int]) -> bytes:
    """Like a GeoTIFF; Pillow writes the pages, and their kinds are set afterwards."""
    frames = [Image.fromarray(noise(seed=index)) for index in range(len(kinds))]
    info = {254: 0}
    data = bytearray(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], tiffinfo=info))
    at = -1
    for kind in kinds:
        at = data.index(struct.pack("<HHI", 254, 4, 1), at + 1)
        data[at + 8] = kind
    return bytes(data)


@pytest.mark.parametrize("kinds", [[0, REDUCED], [0, REDUCED, REDUCED], [0, MASK], [0, MASK, REDUCED, REDUCED | MASK]])
def test_a_tiff_with_overviews_or_a_mask_is_one_picture(kinds) -> None:
    np.testing.assert_array_equal(decode_image(tiff_of_pages(kinds), LIMIT), noise(seed=0))


@pytest.mark.parametrize(("kinds", "count"), [([0, 0], 2), ([PAGE, PAGE, PAGE], 3), ([0, REDUCED, 0], 2)])
def test_a_tiff_of_several_pages_is_refused(kinds, count) -> None:
    assert refused(tiff_of_pages(kinds)) == ("animated", f"it has {count} frames")
