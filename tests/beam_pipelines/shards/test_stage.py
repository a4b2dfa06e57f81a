"""One pair, from its files to a sample or a refusal: what the options of pictures do to image and mask together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.contract.picture_rules import upright
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.mask_readings import COLORS, IDS, MaskReading
from beam_pipelines.pixels.stored_masks import KINDS
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.stage import file_reader, prepare
from beam_pipelines.shards.survey import survey
from tests.support.builds import recipe_of
from tests.support.picture_table import noise, saved, with_orientation

HEIGHT, WIDTH = 24, 32
CAMVID = BUILTIN_TABLES["camvid11"]()
PIXELS, IDS_DRAWN = noise(), noise(HEIGHT, WIDTH, seed=1) % 11
TURNED = range(2, 9)


def pair_of(folder: Path, image: bytes, mask: bytes) -> Pair:
    (folder / "image").write_bytes(image)
    (folder / "mask.png").write_bytes(mask)
    return Pair("train/a", "train", "a.png", str(folder / "image"), str(folder / "mask.png"), 0)


def prepared(folder: Path, image: bytes, mask: bytes, *options: str, way: Any = IDS) -> Sample | Rejected:
    recipe = recipe_of("--labels=camvid11", "--image_size=native", *options)
    with closing(file_reader(recipe)) as reader:
        return prepare(pair_of(folder, image, mask), recipe, reader, MaskReading((way,), tuple(KINDS)))


def turned(picture: np.ndarray | Image.Image, value: int) -> bytes:
    return saved(picture, "PNG", exif=with_orientation(value))


def palette(ids: np.ndarray) -> Image.Image:
    picture = Image.fromarray(ids, "P")
    picture.putpalette(noise(256, 3).tobytes())
    return picture


STORED: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "gray": (IDS, lambda ids: ids),
    "gray of 16 bits": (IDS, lambda ids: ids.astype(np.uint16)),
    "palette": (IDS, palette),
    "RGB": (COLORS, lambda ids: CAMVID.palette[CAMVID.train_id_of[ids]]),
}


@pytest.mark.parametrize(("way", "stored"), STORED.values(), ids=STORED)
def test_image_and_mask_are_turned_each_by_its_own_orientation(tmp_path: Path, way: str, stored: Any) -> None:
    for of_image, of_mask in [*zip(TURNED, TURNED, strict=True), (2, 3), (3, 1), (1, 4), (5, 8), (7, 6)]:
        files = turned(PIXELS, of_image), turned(stored(IDS_DRAWN), of_mask)
        sample = prepared(tmp_path, *files, "--orient=apply", way=way)
        assert isinstance(sample, Sample)
        np.testing.assert_array_equal(sample.image, upright(PIXELS, of_image))
        np.testing.assert_array_equal(sample.mask, upright(CAMVID.train_id_of[IDS_DRAWN], of_mask))


def test_a_mask_that_was_drawn_upright_keeps_its_pixels_whatever_it_says(tmp_path: Path) -> None:
    drawn = IDS_DRAWN.reshape(WIDTH, HEIGHT)
    for mask in (saved(drawn), turned(drawn, 6), turned(palette(drawn), 3)):
        sample = prepared(tmp_path, turned(PIXELS, 6), mask, "--orient=image")
        assert isinstance(sample, Sample)
        np.testing.assert_array_equal(sample.image, np.rot90(PIXELS, -1))
        np.testing.assert_array_equal(sample.mask, CAMVID.train_id_of[drawn])


@pytest.mark.parametrize(
    ("orient", "image", "mask", "told"),
    [
        ("reject", 6, 1, "--orient=apply turns image and mask"),
        ("reject", 1, 6, "--orient=apply turns image and mask"),
        ("apply", 6, 1, "one of them lies on its side; if the mask has an EXIF orientation"),
        ("apply", 1, 6, "give --orient=image; if it has none and was drawn on its side, turn it"),
        ("image", 6, 6, "give --orient=apply; if it has none, turn it"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, orient: str, image: int, mask: int, told: str) -> None:
    rejected = prepared(tmp_path, turned(PIXELS, image), turned(IDS_DRAWN, mask), f"--orient={orient}")
    assert isinstance(rejected, Rejected)
    assert rejected.reason == ("rotated" if orient == "reject" else "size_mismatch")
    assert told in rejected.detail


def test_sizes_that_differ_otherwise_do_not_blame_an_orientation(tmp_path: Path) -> None:
    rejected = prepared(tmp_path, saved(PIXELS[:5]), saved(IDS_DRAWN), "--orient=apply")
    assert isinstance(rejected, Rejected)
    assert rejected.detail == "the image is 5x32 and the mask 24x32 (height x width)"


def test_the_survey_looks_at_turned_masks(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, turned(PIXELS, 6), turned(IDS_DRAWN, 6))
    kinds = {
        orient: survey({"train": [pair]}, recipe_of("--labels=camvid11", f"--orient={orient}")).reading.kinds
        for orient in ("reject", "apply", "image")
    }
    assert kinds == {"reject": (), "apply": ("grey",), "image": ("grey",)}


def test_alpha_and_depth_are_options_of_images_alone(tmp_path: Path) -> None:
    layer = np.full((HEIGHT, WIDTH), 100, np.uint8)
    image, mask = saved(np.dstack([PIXELS, layer])), saved(np.dstack([IDS_DRAWN, layer]))
    sample = prepared(tmp_path, image, saved(IDS_DRAWN), "--alpha=drop")
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.image, PIXELS)
    rejected = prepared(tmp_path, image, mask, "--alpha=drop")
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.detail) == ("transparent", "768 pixels are not opaque")
