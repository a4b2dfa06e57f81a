"""Fingerprints: digests that only equal pixels share, and hashes that survive what encoders and cameras do."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from beam_pipelines.inputs.sample_scenes import draw_scene, list_scenes
from beam_pipelines.pixels.fingerprint import Fingerprint, fingerprint

SCENES = [draw_scene(key, 256, 512)[0] for key in list_scenes({"train": 4})]
sides = st.integers(1, 40)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: npst.arrays(np.uint8, shape))


def distance(one: str, other: str) -> int:
    """The number of different bits."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def hash_of(image: np.ndarray) -> str:
    return fingerprint(image).hashes[0]


def reencoded(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@given(images)
def test_equal_pixels_have_equal_fingerprints_of_the_forms_that_the_index_takes(image) -> None:
    found = fingerprint(image)
    assert found == fingerprint(image.copy()) == fingerprint(np.asfortranarray(image))
    assert len(found.pixels_digest) == 32
    assert [len(each) for each in found.hashes] == [16, 16]
    assert int(found.pixels_digest + "".join(found.hashes), 16) >= 0


@given(images, st.data())
def test_any_other_value_gives_another_digest(image, data) -> None:
    place = tuple(data.draw(st.integers(0, side - 1)) for side in image.shape)
    changed = image.copy()
    changed[place] ^= data.draw(st.integers(1, 255))
    assert fingerprint(changed).pixels_digest != fingerprint(image).pixels_digest


def test_the_digest_sees_size_and_order() -> None:
    image = SCENES[0]
    others = [image.reshape(512, 256, 3), image[::-1], image[:, ::-1], np.roll(image, 32, axis=0), image[..., ::-1]]
    assert len({fingerprint(each).pixels_digest for each in (image, *others)}) == 6


def test_fingerprints_stay_as_they_are() -> None:
    """Data sets hold them: another way to compute them would find no duplicate of an earlier one."""
    rows, columns = np.mgrid[:64, :96]
    cells = rows // 8 * 31 ^ columns // 10 * 47
    image = np.stack([cells, cells // 2 + rows, columns * 2], axis=-1).astype(np.uint8)
    assert fingerprint(image) == Fingerprint(
        "876ac7eef2add07b38fbed9f4811ce1d", ("fbfb6fb06c9d4f91", "202009f2c9460d76")
    )


@pytest.mark.parametrize("size", [(64, 72), (128, 216), (1024, 144)])
def test_the_hash_compares_the_mean_gray_of_neighboring_cells(size: tuple[int, int]) -> None:
    """Against NumPy in float64, where the cells differ by more than rounding."""
    noise = np.random.default_rng(3).integers(0, 256, (8, 9, 3), np.uint8)
    image = np.kron(noise, np.ones((size[0] // 8, size[1] // 9, 1), np.uint8))
    gray = image.reshape(8, size[0] // 8, 9, size[1] // 9, 3).mean((1, 3)) @ (0.299, 0.587, 0.114)
    sure = np.abs(np.diff(gray)) > 12  # the filter takes a little from the neighbors
    bits = np.array([*f"{int(hash_of(image), 16):064b}"]).reshape(8, 8) == "1"
    assert sure.mean() > 0.8
    assert ((np.diff(gray) > 0) == bits)[sure].all()


@pytest.mark.parametrize("image", SCENES)
def test_the_second_hash_is_that_of_the_mirror_image(image: np.ndarray) -> None:
    assert distance(fingerprint(image).hashes[1], hash_of(image[:, ::-1])) <= 1
    assert distance(*fingerprint(image).hashes) > 8


@pytest.mark.parametrize("image", SCENES)
@pytest.mark.parametrize(
    "change",
    [
        lambda image: reencoded(image, 75),
        lambda image: reencoded(image, 30),
        lambda image: np.asarray(Image.fromarray(image).resize((256, 128), Image.Resampling.BICUBIC)),
        lambda image: (image * 0.6).astype(np.uint8),
    ],
    ids=["JPEG 75", "JPEG 30", "half size", "darker"],
)
def test_hashes_hardly_change_with_encoder_size_and_light(image: np.ndarray, change) -> None:
    assert distance(hash_of(change(image)), hash_of(image)) <= 4
    assert fingerprint(change(image)).pixels_digest != fingerprint(image).pixels_digest


def test_hashes_of_other_scenes_differ() -> None:
    hashes = [hash_of(image) for image in SCENES]
    assert min(distance(one, other) for one in hashes for other in hashes if one != other) > 4


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_image_has_hashes_of_zeros(level: int) -> None:
    assert fingerprint(np.full((300, 500, 3), level, np.uint8)).hashes == ("0" * 16, "0" * 16)
