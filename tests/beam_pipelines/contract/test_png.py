"""PNG files: two decoders with the same samples and the same refusals."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from random import Random

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import png
from beam_pipelines.contract.pictures import PictureError, decode_image
from tests.support.picture_files import RGB, chunk, saved
from tests.support.picture_table import GRAY, GRAY_ALPHA, PALETTE, RGBA, noise
from tests.support.picture_table import png as drawn
from tests.support.png_decoders import agree, is_wrong_at_the_end_alone, outcome
from tests.support.png_files import AVERAGE, FILTERS, NONE, PAETH, SUB, UP, file_of, filtered, header_of, rgb_png
from tests.torture import mutations

LIMIT = 1_000_000
PIXELS = np.asarray(Image.fromarray(noise(5, 7, 3)).resize((40, 30), Image.Resampling.BICUBIC))
PLTE = chunk(b"PLTE", noise(256, 3, seed=2).tobytes())


_compressor = zlib.compressobj()
STREAM = zlib.compress(filtered(PIXELS, (NONE, PAETH)))
STREAM_WITHOUT_END = _compressor.compress(filtered(PIXELS, (NONE, PAETH))) + _compressor.flush(zlib.Z_SYNC_FLUSH)
IDAT, IEND, HEADER = chunk(b"IDAT", STREAM), chunk(b"IEND", b""), header_of(PIXELS)


# --- the same samples


@pytest.mark.parametrize("interlaced", [False, True], ids=["", "interlaced"])
@pytest.mark.parametrize(
    ("color_type", "channels", "depths"),
    [
        (GRAY, 1, (1, 2, 4, 8, 16)),
        (RGB, 3, (8, 16)),
        (PALETTE, 1, (1, 2, 4, 8)),
        (GRAY_ALPHA, 2, (8, 16)),
        (RGBA, 4, (8, 16)),
    ],
    ids=["gray", "rgb", "palette", "gray alpha", "rgba"],
)
def test_every_color_type_and_depth_has_the_samples_that_were_written(
    decoder, color_type, channels, depths, interlaced
) -> None:
    colors = noise(256, 3, seed=2)
    for bits in depths:
        stored = noise(13, 24, channels).astype(np.uint16 if bits == 16 else np.uint8) >> max(0, 8 - bits)
        stored = stored * 257 + 1 if bits == 16 else stored
        found = outcome(drawn(stored, bits, color_type, *[PLTE] * (color_type == PALETTE), interlaced=interlaced))
        wanted = stored[..., 0] if channels == 1 else stored
        if color_type == PALETTE:
            wanted = colors[wanted]
        elif bits < 8:
            wanted = wanted * np.uint8(255 // (2**bits - 1))
        np.testing.assert_array_equal(found, wanted, strict=True)


def test_pixels_are_unpacked_where_nothing_is_unusual() -> None:
    """The tests of samples would not notice if they never were."""
    whole = rgb_png(PIXELS, parts=3, before=[BESIDE["text"]], after=[BESIDE["time"]])
    for data in (whole, rgb_png(PIXELS), drawn(PIXELS[..., 0], 8, GRAY), drawn(PIXELS, 16, RGB)):
        unpacked = png._with_unpacked_pixels(data)
        assert unpacked is not None
        assert [name for name, _, _ in png.chunks(unpacked)].count(b"IDAT") == 1
        np.testing.assert_array_equal(imagecodecs.png_decode(unpacked), imagecodecs.png_decode(data), strict=True)
    for data in (drawn(PIXELS, 8, RGB, interlaced=True), *map(REFUSED.__getitem__, ("too little", "parted pixels"))):
        assert png._with_unpacked_pixels(data) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 5), (30, 40)], ids=str)
@pytest.mark.parametrize("filters", [(NONE,), (SUB,), (UP,), (AVERAGE,), (PAETH,), FILTERS], ids=str)
def test_every_filter_has_the_pixels_that_were_written(decoder, filters, size) -> None:
    pixels = noise(*size, 3)
    np.testing.assert_array_equal(outcome(rgb_png(pixels, filters=filters)), pixels, strict=True)


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("parts", [1, 2, 40])
def test_pixels_in_many_chunks_are_those_of_one(decoder, level, parts) -> None:
    np.testing.assert_array_equal(outcome(rgb_png(PIXELS, level=level, parts=parts)), PIXELS, strict=True)


BESIDE = {
    "text": chunk(b"tEXt", b"a\0b"),
    "packed text": chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b")),
    "gamma": chunk(b"gAMA", struct.pack(">I", 45455)),
    "resolution": chunk(b"pHYs", struct.pack(">2IB", 2835, 2835, 1)),
    "time": chunk(b"tIME", struct.pack(">H5B", 2020, 1, 1, 0, 0, 0)),
    "sRGB": chunk(b"sRGB", b"\0"),
    "unknown": chunk(b"abCd", b"x"),
    "damaged gamma": chunk(b"gAMA", b"x"),
    "damaged profile": chunk(b"iCCP", b"a\0\0junk"),
    "damaged bits": chunk(b"sBIT", b"\0\0\0"),
    "damaged text": chunk(b"zTXt", b"a\0\0junk"),
    "damaged international text": chunk(b"iTXt", b"junk"),
    "damaged EXIF": chunk(b"eXIf", b"II*\0"),
    "suggested palette": chunk(b"PLTE", bytes(12)),
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_chunks_beside_the_pixels_change_none_of_them(decoder, beside) -> None:
    np.testing.assert_array_equal(outcome(rgb_png(PIXELS, before=[beside])), PIXELS, strict=True)
    np.testing.assert_array_equal(outcome(rgb_png(PIXELS) + b"behind the end"), PIXELS, strict=True)
    if b"PLTE" not in beside:
        np.testing.assert_array_equal(outcome(rgb_png(PIXELS, after=[beside])), PIXELS, strict=True)


def test_imgread_decodes_what_is_usual_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is asked at all: the tests above would not notice."""
    asked: list[bytes] = []

    def decode(data: bytes, **_: object) -> np.ndarray:
        asked.append(data)
        return PIXELS

    monkeypatch.setattr(png, "load_numpy_from_bytes", decode)
    usual = [
        rgb_png(PIXELS),
        rgb_png(PIXELS, parts=9),
        rgb_png(PIXELS, before=[BESIDE["text"]]),
        rgb_png(PIXELS, after=[BESIDE["time"]]),
        rgb_png(PIXELS) + b"behind",
    ]
    for data in usual:
        assert png.decode_png(data) is PIXELS
    assert asked == usual
    others = [rgb_png(PIXELS, before=[BESIDE["unknown"]]), rgb_png(PIXELS, before=[BESIDE["suggested palette"]])]
    others += [drawn(PIXELS, 8, RGB, interlaced=True), drawn(PIXELS, 16, RGB), drawn(PIXELS[..., 0], 8, GRAY)]
    others += [READ["no end"], READ["checksum of a text"], REFUSED["two headers"], REFUSED["parted pixels"]]
    for data in others:
        outcome(data)
    assert asked == usual


# --- the same refusals


def changed(data: bytes, place: int, change: int = 1) -> bytes:
    damaged = bytearray(data)
    damaged[place] ^= change
    return bytes(damaged)


REFUSED = {
    "too little": file_of(HEADER, chunk(b"IDAT", zlib.compress(filtered(PIXELS, (NONE,))[:-300])), IEND),
    "a cut stream": file_of(HEADER, chunk(b"IDAT", STREAM[:-40]), IEND),
    "another filter": file_of(HEADER, chunk(b"IDAT", zlib.compress(b"\7" + filtered(PIXELS, (NONE,))[1:])), IEND),
    "a dictionary": file_of(HEADER, chunk(b"IDAT", b"\x78\xbb\0\0\0\0" + STREAM[2:]), IEND),
    "a window of 64 KiB": file_of(HEADER, chunk(b"IDAT", b"\x88\x1c" + STREAM[2:]), IEND),
    "no stream": file_of(HEADER, chunk(b"IDAT", b"junk" * 9), IEND),
    "no pixels": file_of(HEADER, IEND),
    "an unknown critical chunk": file_of(HEADER, chunk(b"ABCD", b"x"), IDAT, IEND),
    "two headers": file_of(HEADER, HEADER, IDAT, IEND),
    "marked as interlaced": file_of(header_of(PIXELS, interlaced=1), IDAT, IEND),
    "compression 1": file_of(header_of(PIXELS, compression=1), IDAT, IEND),
    "filters 1": file_of(header_of(PIXELS, filters=1), IDAT, IEND),
    "3 bits": file_of(header_of(PIXELS, bits=3), IDAT, IEND),
    "checksum of the header": changed(rgb_png(PIXELS), 29),
    "checksum of the pixels": changed(rgb_png(PIXELS), -13),
    "pixels": changed(rgb_png(PIXELS), -30),
    "a length beyond the end": changed(rgb_png(PIXELS), 33, 0x7F),
    "cut in the pixels": rgb_png(PIXELS)[:-40],
    "cut before the pixels": rgb_png(PIXELS)[:36],
    "parted pixels": file_of(HEADER, chunk(b"IDAT", STREAM[:50]), BESIDE["text"], chunk(b"IDAT", STREAM[50:]), IEND),
    "a window of 512 bytes": file_of(HEADER, chunk(b"IDAT", b"\x18\x19" + STREAM[2:]), IEND),
}
READ = {
    "the end's checksum": changed(rgb_png(PIXELS), -1),
    "checksum of a text": rgb_png(PIXELS, before=[BESIDE["text"][:-1] + b"x"]),
    "an empty chunk first": file_of(HEADER, chunk(b"IDAT", b""), IDAT, chunk(b"IDAT", b""), IEND),
    "too much": file_of(HEADER, chunk(b"IDAT", zlib.compress(filtered(PIXELS, (NONE,)) + bytes(500))), IEND),
    "something behind the stream": file_of(HEADER, chunk(b"IDAT", STREAM + b"junkjunk"), IEND),
    "an end with content": file_of(HEADER, IDAT, chunk(b"IEND", b"x")),
    "no end": rgb_png(PIXELS)[:-12],
    "a damaged palette": rgb_png(PIXELS, before=[chunk(b"PLTE", bytes(13))]),
    "an animation of one frame": rgb_png(PIXELS, before=[chunk(b"acTL", struct.pack(">2I", 1, 0))]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_file_is_refused_for_the_same_reason(decoder, name) -> None:
    found = outcome(REFUSED[name])
    assert not isinstance(found, np.ndarray)
    assert found[0] == ("truncated" if name.startswith("cut ") else "corrupt")
    assert agree(REFUSED[name])


def test_a_second_header_does_not_hide_a_size_that_no_memory_holds() -> None:
    """Pillow, which checks the limit, takes the last one, and libpng the first."""
    large = header_of(np.broadcast_to(0, (2**20, 2**18)))
    with pytest.raises(PictureError, match="second header") as error:
        decode_image(file_of(large, HEADER, IDAT, IEND), LIMIT)
    assert error.value.reason == "corrupt"


@pytest.mark.parametrize("name", READ)
def test_damage_beside_the_pixels_is_read_past(decoder, name) -> None:
    np.testing.assert_array_equal(outcome(READ[name]), PIXELS, strict=True)


BEHIND = {
    "a wrong Adler-32": STREAM[:-4] + bytes(4),
    "no Adler-32": STREAM[:-4],
    "half of it": STREAM[:-2],
    "no end": STREAM_WITHOUT_END,
    "an impossible code": STREAM_WITHOUT_END + b"\7",
}


@pytest.mark.parametrize("stream", BEHIND.values(), ids=BEHIND)
def test_what_is_wrong_behind_the_last_pixel_is_the_one_difference(decoder, stream) -> None:
    """Only a program that computes one checksum of a chunk and not the other writes such a file."""
    data = file_of(HEADER, chunk(b"IDAT", stream), IEND)
    found = outcome(data)
    if decoder == "imgread":
        np.testing.assert_array_equal(found, PIXELS, strict=True)
    else:
        assert found[0] == "corrupt"
    assert is_wrong_at_the_end_alone(data, PIXELS)
    assert not is_wrong_at_the_end_alone(data, PIXELS[::-1])
    assert not is_wrong_at_the_end_alone(rgb_png(PIXELS), PIXELS)
    assert not is_wrong_at_the_end_alone(REFUSED["too little"], PIXELS)


def test_a_damaged_file_leaves_no_pixels_in_memory(decoder) -> None:
    """imagecodecs keeps the array of each."""
    data = file_of(header_of(large := np.broadcast_to(PIXELS[:1, :1], (999, 1000, 3))), chunk(b"IDAT", STREAM), IEND)
    tracemalloc.start()
    for _ in range(5):
        assert outcome(data)[0] == "corrupt"
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < large.size


def test_damaged_files_are_read_alike() -> None:
    """`make torture` tries a hundred thousand."""
    samples = [rgb_png(PIXELS), rgb_png(PIXELS, level=0), rgb_png(PIXELS, before=[BESIDE["text"], BESIDE["gamma"]])]
    samples += [rgb_png(noise(1, 1, 3)), rgb_png(noise(9, 1, 3)), saved(PIXELS, dpi=(72, 72))]
    random, read = Random(0), 0
    for _ in range(3000):
        data = mutations.mutate_png(random.choice(samples), random)
        read += isinstance(outcome(data), np.ndarray)
        assert agree(data), data
    assert 300 < read < 2700


def test_the_probe_of_damaged_files_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "load_numpy_from_bytes", lambda data, **_: PIXELS[::-1])
    assert not agree(rgb_png(PIXELS))
    assert agree(REFUSED["no pixels"])
