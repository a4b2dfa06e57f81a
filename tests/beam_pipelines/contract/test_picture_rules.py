"""Turned, transparent and deep pictures where a rule takes them, against Pillow, and fractions in exact numbers."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
from imagecodecs import TIFF
from PIL import Image, ImageOps

from beam_pipelines.contract.picture_rules import ALPHA, DEEP, ORIENT, Rules, eight_bits, upright, without_alpha
from beam_pipelines.contract.pictures import PictureError, decode_image
from tests.support.picture_table import (
    CASES,
    GRAY,
    GRAY_ALPHA,
    HEIGHT,
    ORIENTATION,
    PALETTE,
    RGB,
    RGBA,
    WIDTH,
    XMP,
    chunk,
    noise,
    orientation_entry,
    png,
    repeated,
    saved,
    smooth,
    with_orientation,
    xmp_text,
)

LIMIT = 1_000_000
COLORS, LAYER = noise(), noise(HEIGHT, WIDTH, seed=4)
TURNED = range(2, 9)
LOOSE = Rules(orient="apply", alpha="drop", deep="scale")


def refused(data: bytes, rules: Rules) -> PictureError:
    with pytest.raises(PictureError) as error:
        decode_image(data, LIMIT, rules)
    return error.value


# --- orientation: Pillow's exif_transpose


def shown(data: bytes) -> np.ndarray:
    """RGB, as Pillow shows the file."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def packed_tiff(value: int, compression: str) -> bytes:
    return saved(COLORS, "TIFF", exif=with_orientation(value), compression=compression)


def mpo(value: int) -> bytes:
    second = Image.fromarray(noise(seed=9))
    first = Image.fromarray(smooth())
    return saved(first, "MPO", save_all=True, append_images=[second], exif=with_orientation(value))


KINDS = {
    "jpeg": lambda value: saved(smooth(), "JPEG", exif=with_orientation(value)),
    "gray jpeg": lambda value: saved(smooth()[..., 0], "JPEG", exif=with_orientation(value)),
    "jpeg by xmp": lambda value: saved(smooth(), "JPEG", xmp=XMP % value),
    "mpo": mpo,
    "png": lambda value: saved(COLORS, "PNG", exif=with_orientation(value)),
    "gray png": lambda value: saved(COLORS[..., 0], "PNG", exif=with_orientation(value)),
    "palette png": lambda value: saved(Image.fromarray(COLORS).quantize(9), "PNG", exif=with_orientation(value)),
    "png by xmp": lambda value: saved(COLORS, "PNG", pnginfo=xmp_text(value)),
    "png by packed xmp": lambda value: saved(COLORS, "PNG", pnginfo=xmp_text(value, packed=True)),
    "webp": lambda value: saved(COLORS, "WEBP", lossless=True, exif=with_orientation(value)),
    **{
        f"tiff {kind}": lambda value, kind=kind: packed_tiff(value, kind)  # type: ignore[misc]
        for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orient", ["apply", "image"])
def test_a_turned_picture_is_as_pillow_shows_it(kind: str, orient: str) -> None:
    for value in (1, *TURNED):
        data = KINDS[kind](value)
        np.testing.assert_array_equal(decode_image(data, LIMIT, Rules(orient=orient)), shown(data), err_msg=str(value))


def test_an_orientation_of_one_byte_is_applied_once() -> None:
    """Pillow does not take it for an orientation, so it is no second opinion here."""
    data = saved(smooth(), "JPEG", exif=orientation_entry("MM", 1, 6))
    wanted = np.rot90(decode_image(saved(smooth(), "JPEG"), LIMIT), -1)
    np.testing.assert_array_equal(decode_image(data, LIMIT, Rules(orient="apply")), wanted)


def tiff_with_byte_orientation(value: int) -> bytes:
    data = bytearray(saved(COLORS, "TIFF", exif=with_orientation(value)))
    at = data.index(struct.pack("<HHI", ORIENTATION, 3, 1))
    data[at + 2] = 1  # BYTE
    return bytes(data)


def test_an_orientation_of_one_byte_in_a_tiff_is_applied_once() -> None:
    for value in TURNED:
        found = decode_image(tiff_with_byte_orientation(value), LIMIT, Rules(orient="apply"))
        np.testing.assert_array_equal(found, upright(COLORS, value))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_any_array_is_turned_as_pillow_turns_pictures(value: int, dtype: type) -> None:
    pixels = noise()
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = value
    found = upright(pixels.astype(dtype), value)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(upright(pixels[..., 0].astype(dtype), value), found[..., 0])


def test_deep_and_transparent_pictures_are_turned_like_others() -> None:
    """Turned samples are the samples of the turned picture: of 16 bits, with a color key, with fewer than 8 bits."""
    exif = chunk(b"eXIf", with_orientation(6).tobytes()[6:])
    for name in (
        "png gray 16 deep",
        "png rgb 16 deep",
        "png rgba 16",
        "png gray 2 tRNS",
        "png rgb tRNS",
        "png palette 4",
    ):
        data = CASES[name].data
        end = data.index(b"IDAT") - 4
        wanted = np.rot90(decode_image(data, LIMIT, LOOSE), -1)
        np.testing.assert_array_equal(decode_image(data[:end] + exif + data[end:], LIMIT, LOOSE), wanted, err_msg=name)


# --- alpha: fractions


def test_colors_over_a_background_are_the_formula_for_every_color_and_alpha() -> None:
    color, opacity = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for alpha, background in (("white", 255), ("black", 0)):
        found = without_alpha(repeated(color), opacity, alpha)
        exact = np.array(
            [
                [int(Fraction(c * a + background * (255 - a), 255) + Fraction(1, 2)) for c in range(256)]
                for a in range(256)
            ]
        )
        np.testing.assert_array_equal(found, repeated(exact))


_INDICES, _PLTE = noise(HEIGHT, WIDTH, seed=1), chunk(b"PLTE", noise(256, 3, seed=2).tobytes())
_ENTRIES = np.random.default_rng(5).integers(0, 256, 256, np.uint8)
_KEY = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 5 == 0
_KEYED = np.where(_KEY[..., None], np.array([1, 2, 3], np.uint8), COLORS | 4)
_GRAY_4 = (LAYER >> 4) | 1
_FOUR = np.dstack([COLORS, LAYER])

# Name -> a file, its colors as stored, and its alpha.
LAYERS = {
    "png rgba": (png(_FOUR, 8, RGBA), COLORS, LAYER),
    "png gray alpha": (png(_FOUR[..., 2:], 8, GRAY_ALPHA), repeated(COLORS[..., 2]), LAYER),
    "png palette": (
        png(_INDICES, 8, PALETTE, _PLTE, chunk(b"tRNS", _ENTRIES.tobytes())),
        noise(256, 3, seed=2)[_INDICES],
        _ENTRIES[_INDICES],
    ),
    "png rgb key": (
        png(_KEYED, 8, RGB, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))),
        _KEYED,
        np.where(_KEY, 0, 255).astype(np.uint8),
    ),
    "png gray key": (
        png(_KEYED[..., 0], 8, GRAY, chunk(b"tRNS", b"\0\1")),
        repeated(_KEYED[..., 0]),
        np.where(_KEYED[..., 0] == 1, 0, 255).astype(np.uint8),
    ),
    "png gray 4 key": (
        png(_GRAY_4, 4, GRAY, chunk(b"tRNS", b"\0\3")),
        repeated(_GRAY_4 * np.uint8(17)),
        np.where(_GRAY_4 == 3, 0, 255).astype(np.uint8),
    ),
    "png rgba 16": (png(_FOUR.astype(int) * 257, 16, RGBA), COLORS, LAYER),
    "png gray alpha 16": (png(_FOUR[..., 2:].astype(int) * 257, 16, GRAY_ALPHA), repeated(COLORS[..., 2]), LAYER),
    "webp": (saved(_FOUR, "WEBP", lossless=True, exact=True), COLORS, LAYER),
    "tiff": (saved(_FOUR, "TIFF"), COLORS, LAYER),
    "tiff gray alpha": (saved(_FOUR[..., 2:], "TIFF"), repeated(COLORS[..., 2]), LAYER),
}


@pytest.mark.parametrize(("data", "colors", "layer"), LAYERS.values(), ids=LAYERS)
def test_every_form_of_transparency_is_dropped_or_blended(data, colors, layer) -> None:
    np.testing.assert_array_equal(decode_image(data, LIMIT, Rules(alpha="drop")), colors)
    weight = layer[..., None].astype(np.float64)
    for alpha, background in (("white", 255), ("black", 0)):
        exact = (colors * weight + background * (255 - weight)) / 255
        found = decode_image(data, LIMIT, Rules(alpha=alpha))
        np.testing.assert_array_equal(found, np.floor(exact + 0.5).astype(np.uint8), err_msg=alpha)
    assert (refused(data, Rules()).reason, refused(data, Rules()).rule) == ("transparent", "alpha")


def test_a_deep_alpha_channel_that_is_dropped_does_not_matter() -> None:
    deep = np.dstack([COLORS.astype(int) * 257, LAYER.astype(int) * 256 + 1])
    data = png(deep, 16, RGBA)
    assert refused(data, Rules(alpha="white")).rule == "deep"
    np.testing.assert_array_equal(decode_image(data, LIMIT, Rules(alpha="drop")), COLORS)
    wanted = without_alpha(COLORS, eight_bits(deep[..., 3], "scale"), "white")
    np.testing.assert_array_equal(decode_image(data, LIMIT, Rules(alpha="white", deep="scale")), wanted)


@pytest.mark.parametrize("alpha", ALPHA)
def test_premultiplied_colors_are_read_where_they_are_opaque(alpha: str) -> None:
    def tiff(layer: np.ndarray) -> bytes:
        pixels = np.dstack([np.minimum(COLORS, layer[..., None]), layer])
        return imagecodecs.tiff_encode(
            pixels, photometric=TIFF.PHOTOMETRIC.RGB, extrasample=TIFF.EXTRASAMPLE.ASSOCALPHA
        )

    opaque = np.full((HEIGHT, WIDTH), 255, np.uint8)
    np.testing.assert_array_equal(decode_image(tiff(opaque), LIMIT, Rules(alpha=alpha)), COLORS)
    error = refused(tiff(LAYER), Rules(alpha=alpha))
    assert (error.reason, error.rule) == ("transparent", "")
    assert "premultiplied" in error.detail


# --- 16 bits


def test_16_bits_become_the_nearest_of_8() -> None:
    values = np.arange(65536)
    exact = [int(Fraction(v, 257) + Fraction(1, 2)) for v in values.tolist()]
    for dtype in (np.uint16, np.int32):
        np.testing.assert_array_equal(eight_bits(values.astype(dtype), "scale"), exact)
    np.testing.assert_array_equal(eight_bits(np.arange(256, dtype=np.uint16) * np.uint16(257), "scale"), np.arange(256))


_DEEP = np.random.default_rng(6).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
DEEP_FILES = {
    "png rgb": (png(_DEEP, 16, RGB), _DEEP),
    "png gray": (png(_DEEP[..., 0], 16, GRAY), _DEEP[..., :1]),
    "png gray with key": (png(_DEEP[..., 0], 16, GRAY, chunk(b"tRNS", b"\0\0")), _DEEP[..., :1]),
    "tiff gray": (saved(_DEEP[..., 0], "TIFF"), _DEEP[..., :1]),
    "tiff gray big-endian": (imagecodecs.tiff_encode(_DEEP[..., 0], byteorder=">"), _DEEP[..., :1]),
    "tiff min is white": (
        imagecodecs.tiff_encode(_DEEP[..., 0], photometric=TIFF.PHOTOMETRIC.MINISWHITE),
        65535 - _DEEP[..., :1],
    ),
}


@pytest.mark.parametrize(("data", "deep"), DEEP_FILES.values(), ids=DEEP_FILES)
def test_pictures_of_16_bits_are_scaled(data, deep) -> None:
    assert refused(data, Rules()).rule == "deep"
    wanted = np.floor(deep.astype(np.float64) / 257 + 0.5).astype(np.uint8)
    found = decode_image(data, LIMIT, Rules(deep="scale", alpha="drop"))
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


def test_12_bits_in_a_jpeg_and_colors_of_16_bits_in_a_tiff_stay_refused_and_name_no_option() -> None:
    for data in (CASES["jpeg of 12 bits"].data, CASES["jpeg lossless 16"].data, imagecodecs.tiff_encode(_DEEP)):
        error = refused(data, LOOSE)
        assert (error.reason, error.rule) == ("deep_color", "")


# --- all pictures


RULES = [Rules(orient=orient, alpha=alpha, deep=deep) for orient in ORIENT[:2] for alpha in ALPHA for deep in DEEP]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pipeline == "read"])
def test_a_picture_that_is_taken_has_the_same_pixels_by_every_rule(name: str) -> None:
    plain = decode_image(CASES[name].data, LIMIT)
    for rules in RULES:
        np.testing.assert_array_equal(decode_image(CASES[name].data, LIMIT, rules), plain)


def outcome(data: bytes, rules: Rules) -> tuple[str, str]:
    """-> (reason, rule) of the refusal; ("read", "") if there is none."""
    try:
        decode_image(data, LIMIT, rules)
    except PictureError as error:
        return error.reason, error.rule
    return "read", ""


def test_a_refusal_that_names_a_rule_is_taken_by_it_and_another_stays() -> None:
    found = [(outcome(case.data, Rules()), outcome(case.data, LOOSE)) for case in CASES.values()]
    assert {rule for (_, rule), _ in found} == {"", "orient", "alpha", "deep"}
    for (reason, rule), loose in found:
        assert loose == (("read", "") if rule else (reason, ""))
