"""Pictures of records: the pixels that were written, and masks in the colors of their classes."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from beam_pipelines.card.heat_maps import heat_map
from beam_pipelines.card.pictures import picture_of
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.labels.table import Label, LabelTable
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pages.pictures import LONGEST, colors_of, mask_picture, photo, spotlight
from beam_pipelines.contract.record import RAW_DTYPES, Record, RecordError
from beam_pipelines.pixels.cells import heat_maps_of
from beam_pipelines.pixels.measure import moments_of
from beam_pipelines.pixels.normalize import Normalizer

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def shown(address: str) -> np.ndarray:
    head, _, data = address.partition(",")
    assert head in {"data:image/png;base64", "data:image/jpeg;base64"}
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def record_of(image: np.ndarray, image_format: str) -> Record:
    height, width = image.shape[:2]
    return Record(
        filename="a.png",
        height=height,
        width=width,
        image=image.tobytes(),
        image_format=image_format,
        mask=bytes(height * width),
        mask_format="raw_uint8",
    )


@pytest.mark.parametrize("image_format", RAW_DTYPES)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)).flatmap(lambda size: npst.arrays(np.uint8, size)))
def test_a_picture_has_the_pixels_that_were_normalized(image_format: str, image: np.ndarray) -> None:
    normalization = moments_of(image).normalization
    stored = image
    if image_format != "raw_uint8":
        stored = Normalizer(normalization, RAW_DTYPES[image_format])(image)
    found = picture_of(record_of(stored, image_format), normalization)
    assert np.array_equal(found.image, image)
    assert found.image.dtype == np.uint8
    assert found.mask.shape == image.shape[:2]


def test_a_record_whose_bytes_do_not_fit_is_refused() -> None:
    normalization = Moments(np.ones((3, 256), np.int64)).normalization
    with pytest.raises(RecordError, match="4x6 takes"):
        picture_of(replace(record_of(np.zeros((4, 6, 3), np.uint8), "raw_uint8"), image=b"123"), normalization)


def test_a_mask_has_the_colors_of_its_classes_and_ignored_pixels_are_hatched() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 20:40], mask[:, 40:] = 2, IGNORE
    picture = shown(mask_picture(mask, COLORS))[..., :3]
    assert picture.shape == (40, 60, 3)
    assert (picture[:, :20] == COLORS[0]).all()
    assert (picture[:, 20:40] == COLORS[2]).all()
    hatched = {tuple(color) for color in picture[:, 40:].reshape(-1, 3).tolist()}
    assert len(hatched) == 2
    assert not hatched & {*COLORS}


def test_as_many_classes_as_a_mask_can_hold_keep_their_colors() -> None:
    colors = [(number, 255 - number, 7) for number in range(255)]
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = shown(mask_picture(mask, colors))[..., :3].reshape(-1, 3)
    assert picture[:255].tolist() == [[*color] for color in colors]
    assert picture[255].tolist() == [32, 32, 32]


@pytest.mark.parametrize(("width", "line"), [(640, 2), (320, 1), (256, 0), (80, 0)])
def test_a_spotlight_shows_one_class_with_a_line_around_it_and_dims_the_rest(width: int, line: int) -> None:
    mask = np.zeros((30, width), np.uint8)
    mask[10:20, 10:20] = 1
    picture = shown(spotlight(mask == 1, COLORS[1]))
    assert (picture[10:20, 10:20] == (*COLORS[1], 255)).all()
    assert (picture[10 - line : 10, 10:20] == 255).all()
    assert (picture[: 10 - line] == (0, 0, 0, 230)).all()
    assert (picture[20 + line :] == (0, 0, 0, 230)).all()


def test_large_pictures_become_smaller_and_small_ones_stay() -> None:
    assert shown(photo(np.zeros((1000, 2 * LONGEST, 3), np.uint8))).shape[:2] == (500, LONGEST)
    assert shown(photo(np.zeros((9, 13, 3), np.uint8))).shape[:2] == (9, 13)
    assert shown(photo(np.zeros((1, 5000, 3), np.uint8))).shape[:2] == (1, LONGEST)
    assert shown(mask_picture(np.zeros((2 * LONGEST, 3), np.uint8), COLORS)).shape[:2] == (LONGEST, 2)


def test_classes_without_a_color_get_one_each() -> None:
    def row(train_id: int, color: tuple[int, int, int] | None) -> Label:
        return Label(name=str(train_id), source_ids=(train_id,), train_id=train_id, color=color, category="")

    labels = LabelTable(name="mine", labels=tuple(row(number, None) for number in range(40)))
    assert len({*colors_of(labels)}) == 40
    assert colors_of(LabelTable(name="mine", labels=(row(0, (1, 2, 3)), row(1, None))))[0] == (1, 2, 3)


def test_a_heat_map_is_brightest_where_most_pixels_are_and_says_it_in_words() -> None:
    cells = np.zeros((16, 32), np.int64)
    cells[15, 0], cells[0, 31] = 3, 1
    found = heat_map("road", cells, np.full((16, 32), 4))
    assert found is not None
    assert found.most == 0.75
    picture = shown(found.address)[..., :3]
    assert picture.shape == (16, 32, 3)
    assert picture[15, 0].tolist() == [253, 231, 37]
    assert picture[8, 8].tolist() == [68, 1, 84]
    assert found.words == (
        "road: 25% of its pixels in the upper third, 0% in the middle, 75% in the lower third; "
        "75% left, 0% in the center, 25% right"
    )
    assert heat_map("none", np.zeros((16, 32), np.int64), cells) is None


@pytest.mark.parametrize(("size", "shape"), [((60, 80), (16, 32)), ((10, 20), (10, 20)), ((1, 1), (1, 1))])
def test_a_class_that_fills_pictures_of_any_size_is_as_frequent_everywhere(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    cells = heat_maps_of(np.zeros(size, np.uint8), np.array([0], np.uint8))[..., 0]
    assert (len({*cells.reshape(-1).tolist()}) > 1) == (size != (1, 1) or cells.min() == 0)  # the cells are uneven
    found = heat_map("road", cells, cells)
    assert found is not None
    picture = shown(found.address)[..., :3]
    assert picture.shape == (*shape, 3)
    assert (picture == [253, 231, 37]).all()
    assert found.most == 1


def test_pixels_that_are_ignored_count_as_pixels_of_a_place() -> None:
    mask = np.full((60, 80), IGNORE, np.uint8)
    mask[:30] = 0
    mask[:30, :40] = np.where(np.indices((30, 40)).sum(0) % 2, 0, IGNORE)
    cells = heat_maps_of(mask, np.array([0, IGNORE], np.uint8))
    found = heat_map("road", cells[..., 0], cells.sum(2))
    assert found is not None
    picture = shown(found.address)[..., :3]
    assert (picture[:8, 16:] == [253, 231, 37]).all()
    assert (picture[8:] == [68, 1, 84]).all()
    assert not (picture[:8, :16] == [253, 231, 37]).all(2).any()


@given(npst.arrays(np.int64, (16, 32), elements=st.integers(0, 2**40)).filter(np.any))
def test_thirds_are_shares_of_all(cells: np.ndarray) -> None:
    found = heat_map("x", cells, 2 * cells)
    assert found is not None
    assert sum(found.thirds) == pytest.approx(1)
    assert sum(found.across) == pytest.approx(1)
    total = cells.sum()
    assert found.thirds[0] == pytest.approx((3 * cells[:5].sum() + cells[5].sum()) / (3 * total))
