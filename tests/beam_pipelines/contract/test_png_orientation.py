"""Marks of an orientation in a PNG: found in every chunk that can hold them, with either decoder, and nowhere else."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from beam_pipelines.contract.pictures import PictureError, decode_image, open_header, orientation_of
from tests.support.picture_files import chunk, saved
from tests.support.picture_table import XMP, noise, with_orientation
from tests.support.png_files import NONE, rgb_png

LIMIT = 1_000_000
PIXELS = noise(30, 40, 3)
TEXT = chunk(b"tEXt", b"a\0b")


def packed(name: bytes, key: bytes, text: bytes) -> bytes:
    """A chunk of text."""
    between = {b"tEXt": b"\0", b"zTXt": b"\0\0", b"iTXt": b"\0\0\0\0\0"}[name]
    return chunk(name, key + between + (zlib.compress(text) if name == b"zTXt" else text))


def marks(orientation: int) -> dict[str, bytes]:
    """Every chunk that can hold an orientation."""
    exif = with_orientation(orientation).tobytes()
    profile = b"\nexif\n      %d\n%s\n" % (len(exif), exif.hex().encode())
    texts = {
        f"{name.decode()} {what}": packed(name, key, text)
        for name in (b"tEXt", b"zTXt", b"iTXt")
        for what, key, text in (
            ("profile", b"Raw profile type exif", profile),
            ("XMP", b"XML:com.adobe.xmp", XMP % orientation),
        )
    }
    return {"eXIf": chunk(b"eXIf", exif[6:])} | texts


def by_pillow(data: bytes) -> int:
    """The orientation that Pillow finds when it looks at the whole file."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return int(image.getexif().get(0x0112, 1))


def with_chunks(behind: bool, *chunks: bytes) -> bytes:
    return rgb_png(PIXELS, after=chunks) if behind else rgb_png(PIXELS, before=chunks)


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("name", marks(6))
def test_an_orientation_is_found_wherever_a_file_can_hold_it(decoder, name, behind) -> None:
    data = with_chunks(behind, TEXT, marks(6)[name])
    found = orientation_of(open_header(data, LIMIT), data)
    assert found == by_pillow(data)
    if found == 6:
        with pytest.raises(PictureError, match="orientation"):
            decode_image(data, LIMIT)
    upright = with_chunks(behind, marks(1)[name])
    np.testing.assert_array_equal(decode_image(upright, LIMIT), PIXELS)


def test_most_of_these_marks_turn_a_picture() -> None:
    turned = [name for name, mark in marks(6).items() if by_pillow(rgb_png(PIXELS, before=[mark])) == 6]
    assert {"eXIf", "tEXt profile", "zTXt profile", "iTXt XMP"} <= {*turned}


@pytest.mark.parametrize("name", marks(6))
def test_what_looks_like_an_orientation_in_pixels_is_none(decoder, name) -> None:
    pixels = PIXELS.copy()
    text = np.frombuffer(marks(6)[name], np.uint8)
    pixels.reshape(-1)[200 : 200 + len(text)] = text
    data = rgb_png(pixels, filters=(NONE,), level=0)
    assert marks(6)[name][4:20] in data
    np.testing.assert_array_equal(decode_image(data, LIMIT), pixels)


def test_a_mark_in_another_text_is_none(decoder) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "XML:com.adobe.xmp " + (XMP % 6).decode())
    np.testing.assert_array_equal(decode_image(saved(PIXELS, pnginfo=info), LIMIT), PIXELS)
