"""Reading and decoding: every odd or damaged file, as it lies on a disk, with its own reason; ids stay as they are."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.files.reader import FileReader, member_path
from beam_pipelines.pixels.decode import IMAGE_CURES, decode_image
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.pixels.stored_masks import KINDS
from beam_pipelines.rejects import BadInputError
from tests.support.decoded_masks import decode_mask
from tests.support.picture_files import PNG_SIGNATURE, RGB, chunk, gray_png, png_of, saved

CAMVID = BUILTIN_TABLES["camvid11"]()
CITYSCAPES = BUILTIN_TABLES["cityscapes19"]()
LIMIT = 100_000_000  # pixels
STORED = MaskReading(("ids",), tuple(KINDS))
SHOWN = MaskReading(("colors",), tuple(KINDS))
HEIGHT, WIDTH = 24, 32
ORIENTATION = 0x0112
DECODERS = {
    "image": lambda data: decode_image(data, LIMIT),
    "mask": lambda data: decode_mask(data, CAMVID, LIMIT, STORED),
}
either = pytest.mark.parametrize("decode", [DECODERS["image"], DECODERS["mask"]], ids=["image", "mask"])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (HEIGHT, WIDTH, 3), np.uint8)


def blocks() -> np.ndarray:
    """A picture of 12 colors."""
    return np.kron(noise(3, 4, 3), np.ones((8, 8, 1), np.uint8))


def refused(data: bytes, decode=DECODERS["image"]) -> tuple[str, str]:
    """-> (reason, detail)."""
    with pytest.raises(BadInputError) as error:
        decode(data)
    assert error.value.stage == "decode"
    return error.value.reason, error.value.detail


def outcome(data: bytes, decode) -> str:
    """`read`, or the reason of the refusal."""
    try:
        decode(data)
    except BadInputError as bad:
        return bad.reason
    return "read"


ENCODED = {
    "png": saved(noise()),
    "gray png": saved(noise()[..., 0]),
    "palette png": saved(Image.fromarray(blocks()).quantize(12)),
    "png of 16 bits": imagecodecs.png_encode(noise().astype(np.uint16) * 257),
    "jpeg": saved(noise(), "JPEG"),
    "jpeg with exif": saved(noise(), "JPEG", exif=Image.Exif()),
    "progressive jpeg": saved(noise(), "JPEG", progressive=True),
    "bmp": saved(noise(), "BMP"),
    "tiff": saved(noise(), "TIFF"),
    "packed tiff": saved(noise(), "TIFF", compression="tiff_lzw"),
    "webp": saved(noise(), "WEBP"),
    "lossless webp": saved(noise(), "WEBP", lossless=True),
}


# --- files that can't be read


def read(path: object, max_bytes: int = 10_000) -> tuple[str, str, str]:
    reader = FileReader(max_bytes)
    with pytest.raises(BadInputError) as error:
        reader.read(str(path))
    reader.close()
    return error.value.args


def test_a_file_without_bytes_is_refused(tmp_path) -> None:
    (tmp_path / "a.png").touch()
    assert read(tmp_path / "a.png") == ("read", "empty_file", f"{tmp_path}/a.png has no bytes")


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("nowhere.png", "folder.png"):
        stage, reason, detail = read(tmp_path / name)
        assert (stage, reason) == ("read", "unreadable")
        assert detail.startswith(f"{tmp_path}/{name}: ")


def test_a_broken_link_is_unreadable(tmp_path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    assert read(tmp_path / "a.png")[:2] == ("read", "unreadable")


def test_a_file_of_more_bytes_than_its_pixels_could_have_is_refused(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(10_001))
    stage, reason, detail = read(tmp_path / "a.png")
    assert (stage, reason) == ("read", "too_many_pixels")
    assert detail.startswith(f"{tmp_path}/a.png has more than 10,000 bytes, the most for --max_image_pixels")
    (tmp_path / "a.png").write_bytes(bytes(10_000))
    assert FileReader(10_000).read(str(tmp_path / "a.png")) == bytes(10_000)


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("stored.png", b"stored" * 100)
        packed.writestr("deflated.png", b"deflated" * 100, zipfile.ZIP_DEFLATED)
        packed.writestr("empty.png", b"")
    return path


def test_members_of_an_archive_are_read_whole_in_any_order(archive) -> None:
    reader = FileReader(10_000)
    for name, data in [("deflated.png", b"deflated" * 100), ("stored.png", b"stored" * 100)] * 2:
        assert reader.read(member_path(str(archive), name)) == data
    reader.close()


def member_problem(archive: Path, name: str, max_bytes: int = 10_000) -> tuple[str, str]:
    stage, reason, detail = read(member_path(str(archive), name), max_bytes)
    assert stage == "read"
    assert detail.startswith(f"{archive}!/{name}")
    return reason, detail


@pytest.mark.parametrize("name", ["stored.png", "deflated.png"])
def test_a_member_with_a_wrong_checksum_is_refused_and_the_others_are_read(archive, name) -> None:
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        member = packed.getinfo(name)
    data[member.header_offset + 30 + len(name) + member.compress_size // 2] ^= 1
    archive.write_bytes(data)
    reason, detail = member_problem(archive, name)
    assert reason == "bad_zip_member"
    assert "Bad CRC-32" in detail or "invalid" in detail
    other = {"stored.png": "deflated.png", "deflated.png": "stored.png"}[name]
    with closing(FileReader(10_000)) as reader:
        assert reader.read(member_path(str(archive), other)) == other.removesuffix(".png").encode() * 100


def set_in_headers(archive: Path, offset: int, value: int) -> None:
    """Sets the two bytes that stand `offset` bytes behind the signature, in the local headers and in the directory."""
    data = bytearray(archive.read_bytes())
    for signature, behind in ((b"PK\3\4", offset), (b"PK\1\2", offset + 2)):
        position = data.find(signature)
        while position >= 0:
            struct.pack_into("<H", data, position + behind, value)
            position = data.find(signature, position + 4)
    archive.write_bytes(data)


def test_an_encrypted_member_is_refused(archive) -> None:
    set_in_headers(archive, 6, 1)  # general purpose flags
    reason, detail = member_problem(archive, "stored.png")
    assert reason == "bad_zip_member"
    assert "encrypted" in detail


def test_a_member_of_an_unknown_compression_is_refused(archive) -> None:
    set_in_headers(archive, 8, 97)
    assert member_problem(archive, "stored.png")[0] == "bad_zip_member"


def test_a_member_that_is_not_there_is_unreadable(archive) -> None:
    assert member_problem(archive, "nowhere.png")[0] == "unreadable"
    assert read(archive.parent / "no.zip!/a.png")[1] == "unreadable"


def test_an_empty_member_and_one_that_swells_are_refused(archive) -> None:
    assert member_problem(archive, "empty.png") == ("empty_file", f"{archive}!/empty.png has no bytes")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb.png", bytes(50_000_000))
    assert member_problem(archive, "bomb.png")[0] == "too_many_pixels"


# --- damaged pictures


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("data", ENCODED.values(), ids=ENCODED)
def test_a_picture_that_ends_too_early_is_never_more_than_a_refusal(data, decode) -> None:
    ends = {*range(1, 70), *range(70, len(data), len(data) // 40), *range(len(data) - 20, len(data))}
    outcomes = {end: outcome(data[:end], decode) for end in sorted(ends)}
    refused_anyway = {"unknown_colors", "mask_format"} if decode is DECODERS["mask"] else set()
    assert set(outcomes.values()) <= {"truncated", "corrupt", "not_an_image", "read"} | refused_anyway
    # The reader of headers may well find all that it needs; one of a signature's part is not known as a picture.
    assert all(end < 12 for end, found in outcomes.items() if found == "not_an_image")


@pytest.mark.parametrize("name", ["png", "gray png", "palette png", "png of 16 bits"])
def test_a_png_without_its_end_is_truncated(name) -> None:
    """All but the last chunk, IEND, which has no pixels: some programs leave it away."""
    data = ENCODED[name]
    for end in range(len(PNG_SIGNATURE), len(data) - 12, 7):
        reason, detail = refused(data[:end])
        assert reason == "truncated", (end, detail)


def test_a_truncated_png_says_how_many_bytes_there_are() -> None:
    reason, detail = refused(ENCODED["png"][:1000])
    assert reason == "truncated"
    assert detail.startswith("the file ends too early, after 1,000 bytes: copy or download it again (")


@pytest.mark.parametrize("name", ENCODED)
def test_every_refusal_of_a_damaged_file_says_in_plain_words_what_to_do(name) -> None:
    data = ENCODED[name]
    damages = [
        data[: len(data) // 2],
        data[:40],
        data[:100] + bytes(60) + data[160:],
        data[:30] + b"?" * 40 + data[70:],
    ]
    told = []
    for damage in damages:
        with contextlib.suppress(pytest.fail.Exception):  # some formats do not notice all of them
            told.append(refused(damage))
    assert told
    for reason, detail in told:
        if reason in ("truncated", "corrupt"):
            assert detail.startswith(("the file ends too early, ", "the file of ", "the checksum of the chunk ")), (
                detail
            )
            assert "copy or download it again" in detail


@pytest.mark.parametrize("name", ["jpeg", "jpeg with exif", "progressive jpeg"])
def test_a_jpeg_without_its_end_is_truncated(name) -> None:
    data = ENCODED[name]
    assert {refused(data[:end])[0] for end in range(400, len(data) - 30, 97)} == {"truncated"}
    assert "truncated" in refused(data[: len(data) // 2])[1].lower()


@pytest.mark.parametrize("name", ["png", "gray png", "palette png", "png of 16 bits"])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_pixels_of_a_png_is_found(name, share, bit) -> None:
    data = bytearray(ENCODED[name])
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    data[start + int(share * (length + 4))] ^= 1 << bit  # the checksum's 4 bytes count, too
    assert refused(bytes(data))[0] == "corrupt"


@given(st.sampled_from(sorted(ENCODED)), st.data())
def test_no_damage_whatever_leads_to_another_error(name, data) -> None:
    damaged = bytearray(ENCODED[name])
    reach = data.draw(st.sampled_from([64, 256, len(damaged)]))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(reach, len(damaged)) - 1))] = data.draw(st.integers(0, 255))
    for decode in DECODERS.values():
        outcome(bytes(damaged), decode)


@either
@pytest.mark.parametrize("data", [b"<html>log in</html>", b"x", b"\0" * 100, b"%PDF-1.7\n", b"\0\0\0\x18ftypmp42"])
def test_what_is_no_picture_is_refused_with_its_first_bytes(data, decode) -> None:
    assert refused(data, decode) == ("not_an_image", f"it begins with {data[:8]!r}")


def brands(major: bytes, *others: bytes) -> bytes:
    """The box that files of HEIF begin with, and what may follow it."""
    return struct.pack(">I", 16 + 4 * len(others)) + b"ftyp" + major + bytes(4) + b"".join(others) + b"\0\0\0\x08avif"


# What a file is that is known and not read -> its bytes.
KNOWN = {
    "GIF is not read; save it as PNG": saved(Image.new("P", (4, 4)), "GIF"),
    "HEIC is not read; convert it to PNG or JPEG": brands(b"heic", b"mif1", b"heic"),
    "HEIC is not read": brands(b"mif1", b"mif1", b"heic"),
    "HEIF is not read; convert it to PNG or JPEG": brands(b"mif1", b"mif1"),
    "AVIF is not read; convert it to PNG": brands(b"avif", b"mif1", b"miaf"),
    "AVIF is not read": brands(b"mif1", b"avif"),
}


@either
@pytest.mark.parametrize(("told", "data"), KNOWN.items())
def test_formats_that_are_not_read_are_told_by_their_names(told, data, decode) -> None:
    reason, detail = refused(data, decode)
    assert reason == "not_an_image"
    assert detail.startswith(f"it begins with {data[:8]!r}: {told}")


@given(st.binary(min_size=1, max_size=200))
def test_no_bytes_whatever_lead_to_another_error(data) -> None:
    for prefix in (b"", PNG_SIGNATURE, b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBPVP8 "):
        assert outcome(prefix + data, DECODERS["image"]) != "read"


@either
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_pictures_of_several_frames_are_refused(kind, decode) -> None:
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert refused(data, decode) == ("animated", "it has 3 frames")


# --- too many pixels


@either
def test_a_header_of_a_decompression_bomb_is_refused_before_a_pixel_is_decoded(decode) -> None:
    data = png_of(60_000, 60_000, 8, RGB, b"")
    assert len(data) < 100
    reason, detail = refused(data, decode)
    assert reason == "too_many_pixels"
    cure = "--max_image_pixels=3600000000 takes it, if it is no decompression bomb"
    assert detail == f"60000x60000 (WxH) is more than {LIMIT:,} pixels: {cure}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_limit_is_the_number_of_pixels_that_still_is_read(kind) -> None:
    data = saved(noise(), kind)
    assert decode_image(data, HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadInputError) as error:
        decode_image(data, HEIGHT * WIDTH - 1)
    stage, reason, detail = error.value.args
    assert (stage, reason) == ("decode", "too_many_pixels")
    assert detail.startswith("32x24 (WxH) is more than 767 pixels: --max_image_pixels=768 takes it")


def test_a_picture_that_packs_well_is_refused_by_its_pixels_and_not_by_its_bytes() -> None:
    data = saved(Image.new("1", (12_000, 12_000)))
    assert len(data) < 100_000
    for decode in (lambda: decode_image(data, LIMIT), lambda: decode_mask(data, CAMVID, LIMIT, STORED)):
        with pytest.raises(BadInputError, match="12000x12000"):
            decode()


# --- pixels of images


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_the_pixels_of_an_rgb_png_are_those_of_pillow(pixels) -> None:
    data = saved(pixels)
    assert np.array_equal(decode_image(data, LIMIT), pixels)
    assert np.array_equal(decode_image(data, LIMIT), np.asarray(Image.open(io.BytesIO(data))))


def test_decoded_images_are_rgb_of_8_bits_whatever_the_format() -> None:
    for name, data in ENCODED.items():
        pixels = decode_image(data, LIMIT)
        assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8), name


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
def test_formats_without_loss_give_the_pixels_back(kind) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(saved(noise(), kind, **options), LIMIT), noise())


def test_a_jpeg_is_decoded_as_pillow_does_it() -> None:
    data = ENCODED["jpeg"]
    assert np.array_equal(decode_image(data, LIMIT), np.asarray(Image.open(io.BytesIO(data))))


def test_a_jpeg_in_cmyk_is_converted_as_pillow_does_it() -> None:
    picture = Image.fromarray(blocks()).convert("CMYK")
    data = saved(picture, "JPEG", quality=95)
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(decode_image(data, LIMIT), np.asarray(expected))
    assert np.abs(decode_image(data, LIMIT).astype(int) - blocks()).mean() < 5


def test_the_first_picture_of_an_mpo_of_a_stereo_camera_is_taken() -> None:
    pictures = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (50, 200)]
    data = saved(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert (decode_image(data, LIMIT) == 50).all()


def with_alpha(colors: np.ndarray, alpha: int) -> np.ndarray:
    layer = np.full((*colors.shape[:2], 1), 255, np.uint8)
    layer[3, 5:8] = alpha
    return np.concatenate([colors, layer], -1)


GRAY_PIXELS = np.repeat(noise()[..., :1], 3, axis=2)
CONVERTED = {
    "gray": (saved(noise()[..., 0]), GRAY_PIXELS),
    "gray with opaque alpha": (saved(with_alpha(noise()[..., :1], 255)), GRAY_PIXELS),
    "color with opaque alpha": (saved(with_alpha(noise(), 255)), noise()),
    "palette": (saved(Image.fromarray(blocks()).quantize(12)), blocks()),
    "palette with an unused transparent color": (
        saved(Image.fromarray(blocks()).quantize(12), transparency=200),
        blocks(),
    ),
    "black and white": (saved(Image.fromarray(noise()[..., 0] > 99)), np.where(GRAY_PIXELS > 99, 255, 0)),
    "gray of 16 bits": (imagecodecs.png_encode(noise()[..., 0].astype(np.uint16) * 257), GRAY_PIXELS),
    "color of 16 bits": (imagecodecs.png_encode(noise().astype(np.uint16) * 257), noise()),
    "16 bits with opaque alpha": (imagecodecs.png_encode(with_alpha(noise(), 255).astype(np.uint16) * 257), noise()),
    "gray tiff of 16 bits": (saved(noise()[..., 0].astype(np.uint16) * 257, "TIFF"), GRAY_PIXELS),
    "palette bmp": (saved(Image.fromarray(blocks()).quantize(12), "BMP"), blocks()),
    "gray tiff": (saved(noise()[..., 0], "TIFF"), GRAY_PIXELS),
    "webp with opaque alpha": (saved(with_alpha(noise(), 255), "WEBP", lossless=True), noise()),
    **{
        f"gray of {bits} bits": (
            gray_png(noise()[..., 0] >> 8 - bits, bits),
            (GRAY_PIXELS >> 8 - bits) * (255 // (2**bits - 1)),
        )
        for bits in (1, 2, 4, 8)
    },
}


@pytest.mark.parametrize(("data", "expected"), CONVERTED.values(), ids=CONVERTED)
def test_what_becomes_rgb_without_loss_is_converted(data, expected) -> None:
    pixels = decode_image(data, LIMIT)
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(pixels, expected)


def palette_of_two() -> Image.Image:
    picture = Image.fromarray(np.eye(16, dtype=np.uint8), "P")
    picture.putpalette(noise(256, 3).tobytes())
    return picture


first_color = tuple(noise()[3, 5].tolist())
TRANSPARENT = {
    "gray": (saved(with_alpha(noise()[..., :1], 254)), 3),
    "color": (saved(with_alpha(noise(), 0)), 3),
    "color of 16 bits": (imagecodecs.png_encode(with_alpha(noise(), 128).astype(np.uint16) * 257), 3),
    "webp": (saved(with_alpha(noise(), 7), "WEBP", lossless=True, exact=True), 3),
    "tiff": (saved(with_alpha(noise(), 7), "TIFF"), 3),
    "color key": (saved(noise(), transparency=first_color), 1),
    "gray key": (saved(np.eye(16, dtype=np.uint8), transparency=1), 16),
    "color of a palette": (saved(palette_of_two(), transparency=1), 16),
}


@pytest.mark.parametrize(("data", "count"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_pixels_that_are_not_opaque_are_refused_and_counted(data, count) -> None:
    assert refused(data) == ("transparent", f"{count} pixels are not opaque; {IMAGE_CURES['alpha']}")


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)], ids=["gray", "color"])
@pytest.mark.parametrize("encode", [imagecodecs.png_encode, imagecodecs.tiff_encode], ids=["png", "tiff"])
def test_16_bits_that_8_can_not_hold_are_refused(shape, encode) -> None:
    deep = noise(*shape).astype(np.uint16) * 257
    deep.flat[7] = 4096
    reason, detail = refused(encode(deep))
    assert reason == "deep_color"
    assert "convert the picture to 8 bits" in detail


def test_deep_color_names_the_largest_value() -> None:
    deep = np.full((4, 4), 4095, np.uint16)
    expected = f"16 bits per channel with values up to 4095: convert the picture to 8 bits; {IMAGE_CURES['deep']}"
    assert refused(imagecodecs.png_encode(deep)) == ("deep_color", expected)


def test_numbers_that_are_no_colors_are_refused() -> None:
    for picture in (Image.new("F", (4, 4)), Image.fromarray(noise()).convert("LAB")):
        reason, detail = refused(saved(picture, "TIFF"))
        assert (reason, detail) == ("unsupported_mode", f"mode {picture.mode} has no usual conversion to RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_only_pictures_that_stand_upright_are_taken(kind, orientation) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(noise(), kind, exif=exif)
    if orientation == 1:
        assert decode_image(data, LIMIT).shape == (HEIGHT, WIDTH, 3)
    else:
        told = "the EXIF orientation is not 1: turn the picture upright (and check its mask)"
        expected = f"{told}; {IMAGE_CURES['orient']}"
        assert refused(data) == ("rotated", expected)


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "WEBP", "PNG"])
def test_the_first_picture_of_a_process_may_have_any_format(tmp_path, kind) -> None:
    """Pillow learns of some formats only when they are imported, which another test may have done by chance."""
    (tmp_path / "picture").write_bytes(saved(noise(), kind))
    program = (
        "import sys; from beam_pipelines.pixels.decode import decode_image; from pathlib import Path\n"
        "print(decode_image(Path(sys.argv[1]).read_bytes(), 10_000).shape)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "picture")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"({HEIGHT}, {WIDTH}, 3)\n", done.stderr


# --- masks


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@given(data=st.data())
def test_gray_ids_of_any_depth_stay_as_they_are(bits, data) -> None:
    shape = data.draw(st.integers(1, 9)), 8 * data.draw(st.integers(1, 3))
    ids = data.draw(npst.arrays(np.uint16, shape, elements=st.integers(0, 2**bits - 1)))
    mask = decode_mask(gray_png(ids, bits), CAMVID, LIMIT, STORED)
    assert mask.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.array_equal(mask, ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_an_id_that_is_marked_as_transparent_is_an_id_all_the_same(bits) -> None:
    ids = np.arange(64).reshape(4, 16) % 2**bits
    assert np.array_equal(decode_mask(gray_png(ids, bits, chunk(b"tRNS", b"\0\1")), CAMVID, LIMIT, STORED), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"transparency": 1}], ids=["plain", "transparent"])
@given(data=st.data())
def test_indices_of_a_palette_stay_as_they_are(bits, options, data) -> None:
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 17)))
    ids = data.draw(npst.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))
    picture = Image.fromarray(ids, "P")
    picture.putpalette(noise(256, 3).tobytes())
    encoded = saved(picture, bits=bits, **options)
    assert encoded[24:26] == bytes([bits, 3])
    assert np.array_equal(decode_mask(encoded, CAMVID, LIMIT, STORED), ids)


def test_a_palette_that_repeats_a_color_keeps_its_indices() -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids, "P")
    picture.putpalette(bytes(768))
    assert np.array_equal(decode_mask(saved(picture), CAMVID, LIMIT, STORED), ids)


def test_an_opaque_alpha_channel_of_a_gray_mask_is_dropped() -> None:
    ids = noise(HEIGHT, WIDTH, 1) % 12
    assert np.array_equal(decode_mask(saved(with_alpha(ids, 255)), CAMVID, LIMIT, STORED), ids[..., 0])
    assert refused(saved(with_alpha(ids, 9)), DECODERS["mask"])[0] == "transparent"


@pytest.mark.parametrize("table", [CAMVID, CITYSCAPES], ids=lambda table: table.name)
@pytest.mark.parametrize("alpha", [False, True])
@given(data=st.data())
def test_colors_of_the_table_become_the_train_ids_of_their_rows(table, alpha, data) -> None:
    rows = [row for row in table.labels if row.color]
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    chosen = data.draw(npst.arrays(np.int64, shape, elements=st.integers(0, len(rows) - 1)))
    colors = np.array([row.color for row in rows], np.uint8)[chosen]
    encoded = saved(np.concatenate([colors, np.full((*shape, 1), 255, np.uint8)], -1) if alpha else colors)
    train_ids = table.train_id_of[decode_mask(encoded, table, LIMIT, SHOWN)]
    # A few labels of Cityscapes that are ignored have the color of a class, pole and polegroup: the class has it.
    class_of = {row.color: row.train_id for row in sorted(rows, key=lambda row: -row.train_id)}
    assert np.array_equal(train_ids, [[class_of[tuple(color)] for color in line] for line in colors.tolist()])


def test_every_class_of_a_table_comes_back_from_its_palette() -> None:
    for table in (CAMVID, CITYSCAPES):
        train_ids = np.arange(table.num_classes, dtype=np.uint8)[None]
        ids = decode_mask(saved(table.palette[train_ids]), table, LIMIT, SHOWN)
        assert np.array_equal(table.train_id_of[ids], train_ids)


def test_unknown_colors_are_named() -> None:
    colors = np.zeros((4, 4, 3), np.uint8)
    colors[0, 0], colors[1:3, 1] = (1, 2, 3), (255, 254, 253)
    expected = "2 colors are not in table camvid11: (1, 2, 3), (255, 254, 253)"
    assert refused(saved(colors), DECODERS["mask"]) == ("unknown_colors", expected)


def test_20_unknown_colors_are_named_at_most() -> None:
    reason, detail = refused(saved(noise()), DECODERS["mask"])
    assert reason == "unknown_colors"
    assert detail.startswith("768 colors are not in table camvid11: ")
    assert detail.endswith("; if they come from anti-aliasing or JPEG, give the table `nearest_color`")
    assert detail.count("(") == 20


def test_colors_that_are_not_opaque_are_refused() -> None:
    colors = CAMVID.palette[np.zeros((HEIGHT, WIDTH), np.uint8)]
    reason, detail = refused(saved(with_alpha(colors, 0)), DECODERS["mask"])
    assert reason == "transparent"
    assert detail.startswith("3 pixels are not opaque: in an RGBA mask alpha may be a part of an instance's number")
    assert "--alpha" not in detail


def test_a_bitmask_of_bdd100k_is_told_where_the_semantic_masks_are() -> None:
    """Its channels are category, attributes, and the high and the low byte of the instance's number."""
    bitmask = np.stack(
        [noise()[..., 0] % 41, np.zeros_like(noise()[..., 0]), noise()[..., 0] // 250, noise()[..., 1]], -1
    )
    reason, detail = refused(saved(bitmask), DECODERS["mask"])
    assert reason == "transparent"
    assert "BDD100K" in detail
    assert detail.endswith("its semantic masks are in labels/sem_seg/masks")


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        (
            "JPEG",
            "JPEG has blended them: save the mask as PNG where it comes from, or convert it to PNG, and",
        ),
        (
            "MPO",
            "JPEG has blended them: save the mask as PNG where it comes from, or convert it to PNG, and",
        ),
        ("BMP", "convert it with Pillow: Image.open(MASK).save('MASK.png')"),
        ("TIFF", "convert it with Pillow: Image.open(MASK).save('MASK.png')"),
        ("WEBP", "convert it with Pillow, if it is lossless (others have blended ids): Image.open"),
    ],
)
def test_only_png_keeps_ids(kind, cure) -> None:
    options = {"save_all": True, "append_images": [Image.fromarray(noise())]} if kind == "MPO" else {}
    reason, detail = refused(saved(Image.fromarray(noise()), kind, **options), DECODERS["mask"])
    assert reason == "mask_format"
    assert detail.startswith(f"the mask is a {kind} file: only PNG is read, as it keeps ids exactly; {cure}")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colors_of_16_bits_are_no_mask(channels) -> None:
    reason, detail = refused(imagecodecs.png_encode(np.zeros((4, 4, channels), np.uint16)), DECODERS["mask"])
    assert reason == "mask_format"
    assert detail.endswith("with 16 bits: expected ids or colors")


def test_masks_of_camvid_and_cityscapes_have_the_ids_that_pillow_reads(camvid, cityscapes_sample) -> None:
    camvid_paths = sorted((camvid / "masks" / "val").glob("*.png"))[:2]
    for table, paths in ((CAMVID, camvid_paths), (CITYSCAPES, [next(cityscapes_sample.rglob("*_labelIds.png"))])):
        for path in paths:
            assert np.array_equal(decode_mask(path.read_bytes(), table, LIMIT, STORED), np.asarray(Image.open(path)))


def test_images_of_camvid_have_the_pixels_that_pillow_reads(camvid) -> None:
    path = min((camvid / "images" / "val").glob("*.png"))
    assert np.array_equal(decode_image(path.read_bytes(), LIMIT), np.asarray(Image.open(path).convert("RGB")))
