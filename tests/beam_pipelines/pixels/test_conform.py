"""Size and ids: one geometry, two interpolations; Pillow and NumPy in float64 are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, UNKNOWN
from beam_pipelines.options.parser import ASPECTS
from beam_pipelines.pixels import filters
from beam_pipelines.pixels.conform import (
    ASPECT_TOLERANCE,
    Geometry,
    check_ids,
    conform,
    conform_image,
    conform_mask,
    fit,
)
from beam_pipelines.rejects import BadInputError
from tests.support.builds import recipe_of

CAMVID = BUILTIN_TABLES["camvid11"]()
CITYSCAPES = BUILTIN_TABLES["cityscapes19"]()
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FORGIVING = [aspect for aspect in ASPECTS if aspect != "reject"]

side = st.integers(1, 40)
sizes = st.tuples(side, side)
ids = sizes.flatmap(lambda size: npst.arrays(np.uint8, size, elements=st.integers(0, 11)))
aspects = st.sampled_from(FORGIVING)
resizes = st.sampled_from(sorted(filters.FILTERS))


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def recipe(size: tuple[int, int] | None, *arguments: str):
    shape = "native" if size is None else f"{size[0]}x{size[1]}"
    return recipe_of("--labels=camvid11", f"--image_size={shape}", *arguments)


def refused(image: np.ndarray, mask: np.ndarray, *arguments: str, size: tuple[int, int] | None = None) -> tuple:
    with pytest.raises(BadInputError) as error:
        conform("a.png", image, mask, recipe(size, *arguments))
    return error.value.args


# --- laws


@given(ids, sizes, aspects, resizes)
def test_what_comes_out_has_the_size_asked_for_and_ids_that_went_in(mask, target, aspect, resize) -> None:
    geometry = fit(mask.shape, target, aspect)
    found, picture = conform_mask(mask, CAMVID, geometry), conform_image(noise(mask.shape), geometry, resize)
    assert (picture.shape, picture.dtype) == ((*target, 3), np.uint8)
    assert (found.shape, found.dtype) == (target, np.uint8)
    allowed = {int(CAMVID.train_id_of[value]) for value in np.unique(mask)} | {IGNORE}
    assert set(np.unique(found).tolist()) <= allowed


@given(ids, st.sampled_from(ASPECTS), resizes, st.booleans())
def test_equal_sizes_and_native_change_no_pixel(mask, aspect, resize, native) -> None:
    assume(mask.min() < 11)
    image = noise(mask.shape)
    asked = recipe(None if native else mask.shape, f"--aspect={aspect}", f"--resize={resize}")
    sample = conform("a b.png", image, mask, asked)
    assert sample.filename == "a b.png"
    assert np.array_equal(sample.image, image)
    assert np.array_equal(sample.mask, CAMVID.train_id_of[mask])


@given(sizes, sizes, aspects, resizes, st.tuples(*[st.integers(0, 255)] * 3))
def test_a_picture_of_one_color_keeps_it(source, target, aspect, resize, color) -> None:
    image = np.full((*source, 3), color, np.uint8)
    assert (conform_image(image, fit(source, target, aspect), resize) == color).all()


@given(sizes, sizes)
def test_a_crop_is_centered_and_as_large_as_the_aspect_allows(source, target) -> None:
    geometry = fit(source, target, "crop")
    (left, top, right, bottom), (height, width) = geometry.box, source
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    assert bottom - top == height or right - left == width
    assert geometry.inner == geometry.size == target
    if geometry.box != (0, 0, width, height):
        # No other number of whole pixels comes closer to the aspect of the target.
        exact = height * target[1] / target[0], width * target[0] / target[1]
        assert abs(right - left - max(1, exact[0])) <= 0.5 or abs(bottom - top - max(1, exact[1])) <= 0.5


@given(sizes, sizes)
def test_a_padded_picture_is_centered_keeps_its_aspect_and_touches_two_sides(source, target) -> None:
    geometry = fit(source, target, "pad")
    (above, below), (left, right) = geometry.padding
    assert min(above, below, left, right) >= 0
    assert abs(above - below) <= 1
    assert abs(left - right) <= 1
    assert (above + geometry.inner[0] + below, left + geometry.inner[1] + right) == target
    assert geometry.box == (0, 0, source[1], source[0])
    assert above + below == 0 or left + right == 0
    if geometry.inner != target:
        exact = target[1] * source[0] / source[1], target[0] * source[1] / source[0]
        assert abs(geometry.inner[0] - max(1, exact[0])) <= 0.5 or abs(geometry.inner[1] - max(1, exact[1])) <= 0.5


@given(sizes, sizes, resizes)
def test_a_mask_is_ignored_exactly_where_the_image_repeats_its_edge(source, target, resize) -> None:
    geometry = fit(source, target, "pad")
    mask = conform_mask(np.zeros(source, np.uint8), CAMVID, geometry)
    image = conform_image(noise(source), geometry, resize)
    (above, _), (left, _) = geometry.padding
    inside = np.zeros(target, bool)
    inside[above : above + geometry.inner[0], left : left + geometry.inner[1]] = True
    assert np.array_equal(mask == 0, inside)
    assert np.array_equal(mask == IGNORE, ~inside)
    inner = image[inside].reshape(*geometry.inner, 3)
    rows = np.clip(np.arange(target[0]) - above, 0, geometry.inner[0] - 1)
    columns = np.clip(np.arange(target[1]) - left, 0, geometry.inner[1] - 1)
    assert np.array_equal(image, inner[np.ix_(rows, columns)])
    unpadded = conform_image(noise(source), Geometry(geometry.box, geometry.inner, geometry.inner), resize)
    assert np.array_equal(inner, unpadded)


@given(st.data(), sizes, st.integers(1, 4), st.integers(1, 4), aspects)
def test_image_and_mask_move_together(data, blocks, down, across, aspect) -> None:
    """Blocks of one id in the mask and one color in the image, shrunk to a pixel each: both still tell the same."""
    mask = data.draw(npst.arrays(np.uint8, blocks, elements=st.integers(0, 10)))
    whole = np.kron(mask, np.ones((down, across), np.uint8))
    image = CAMVID.palette[whole]
    cut = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    target = {
        "stretch": blocks,
        "pad": (blocks[0] + cut[0], blocks[1] + cut[1]),
        "crop": (max(1, blocks[0] - 2 * cut[0]), max(1, blocks[1] - 2 * cut[1])),
    }[aspect]
    geometry = fit(whole.shape, target, aspect)
    top, left = geometry.box[1], geometry.box[0]
    heights, widths = geometry.box[3] - top, geometry.box[2] - left
    aligned = (
        (heights, widths) == (geometry.inner[0] * down, geometry.inner[1] * across)
        and top % down == 0
        and left % across == 0
    )
    assume(aligned)
    found = conform_mask(whole, CAMVID, geometry)
    picture = conform_image(image, geometry, "area")
    inside = found != IGNORE
    assert inside.sum() == geometry.inner[0] * geometry.inner[1]
    assert np.array_equal(picture[inside], CAMVID.palette[found[inside]])


@given(sizes, st.integers(0, 6), st.integers(0, 6))
def test_a_crop_without_a_resize_cuts_image_and_mask_alike(target, more_rows, more_columns) -> None:
    """The image tells of each of its pixels where it comes from; so does the mask, with 16 bits."""
    assume(not (more_rows and more_columns))
    source = target[0] + more_rows, target[1] + more_columns
    places = np.arange(source[0] * source[1]).reshape(source)
    image = np.stack([places >> 8, places & 255, 0 * places], -1).astype(np.uint8)
    sample = conform("a.png", image, (places % 11).astype(np.uint16), recipe(target, "--aspect=crop"))
    top, left = more_rows // 2, more_columns // 2
    cut = places[top : top + target[0], left : left + target[1]]
    assert np.array_equal(sample.image[..., 0].astype(int) * 256 + sample.image[..., 1], cut)
    assert np.array_equal(sample.mask, cut % 11)


@pytest.mark.parametrize(("wider", "target"), [(65, (32, 64)), (67, (8, 66)), (41, (20, 40))])
def test_a_crop_of_one_column_is_cut_from_the_image_too(wider, target) -> None:
    """The box begins at 0, 0 and is as large as the target, as if there were nothing to do."""
    image = noise((target[0], wider))
    sample = conform("a.png", image, np.zeros(image.shape[:2], np.uint8), recipe(target, "--aspect=crop"))
    assert np.array_equal(sample.image, image[:, : target[1]])


@pytest.mark.parametrize("aspect", FORGIVING)
@pytest.mark.parametrize(("source", "target"), [((10, 10), (1000, 1)), ((10, 10), (1, 1000)), ((1, 300), (300, 1))])
def test_extreme_shapes_keep_at_least_one_pixel(aspect, source, target) -> None:
    left, top, right, bottom = fit(source, target, aspect).box
    assert left < right
    assert top < bottom
    for resize in filters.FILTERS:
        asked = recipe(target, f"--aspect={aspect}", f"--resize={resize}")
        sample = conform("a.png", noise(source), np.zeros(source, np.uint8), asked)
        assert sample.image.shape[:2] == sample.mask.shape == target
        assert 0 in sample.mask


# --- oracles


@given(ids, sizes)
def test_masks_are_resized_as_pillow_does_it_with_nearest(mask, target) -> None:
    """Where the center of a target pixel lies exactly between two source pixels, Pillow, which adds up steps in
    float64, may take either: those rows and columns are compared to the rule, the later pixel, instead.
    """
    height, width = mask.shape
    found = conform_mask(mask, CAMVID, fit(mask.shape, target, "stretch"))
    pillow = Image.fromarray(mask).resize((target[1], target[0]), Image.Resampling.NEAREST)
    expected = CAMVID.train_id_of[np.asarray(pillow)]
    twice_rows, twice_columns = (2 * np.arange(target[0]) + 1) * height, (2 * np.arange(target[1]) + 1) * width
    clear = np.ix_(twice_rows % (2 * target[0]) != 0, twice_columns % (2 * target[1]) != 0)
    assert np.array_equal(found[clear], expected[clear])
    by_rule = mask[np.ix_(twice_rows // (2 * target[0]), twice_columns // (2 * target[1]))]
    assert np.array_equal(found, CAMVID.train_id_of[by_rule])


@pytest.mark.parametrize(
    ("source", "target"), [((1024, 2048), (256, 512)), ((720, 960), (256, 512)), ((97, 211), (64, 501))]
)
def test_masks_of_real_sizes_are_resized_as_pillow_does_it_with_nearest(source, target) -> None:
    mask = np.random.default_rng(0).integers(0, 12, source, np.uint8)
    found = conform_mask(mask, CAMVID, fit(source, target, "stretch"))
    pillow = Image.fromarray(mask).resize((target[1], target[0]), Image.Resampling.NEAREST)
    assert np.array_equal(found, CAMVID.train_id_of[np.asarray(pillow)])


@given(sizes, st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_area_by_whole_factors_is_the_mean_in_float64_rounded_half_up(target, down, across, seed) -> None:
    image = noise((target[0] * down, target[1] * across), seed)
    image[::2] //= 64  # means near every boundary
    found = conform_image(image, fit(image.shape[:2], target, "stretch"), "area")
    mean = image.reshape(target[0], down, target[1], across, 3).astype(np.float64).sum((1, 3)) / (down * across)
    assert np.array_equal(found, np.floor(mean + 0.5))


def test_area_by_whole_factors_of_a_crop_is_the_mean_of_what_is_kept() -> None:
    image = noise((30, 62))
    found = conform_image(image, fit((30, 62), (10, 10), "crop"), "area")
    mean = image[:, 16:46].reshape(10, 3, 10, 3, 3).astype(np.float64).mean((1, 3))
    assert np.array_equal(found, np.floor(mean + 0.5))


@given(sizes, sizes, st.integers(0, 9))
def test_area_is_within_a_level_of_the_mean_weighted_by_overlap(source, target, seed) -> None:
    assume(source[0] >= target[0] and source[1] >= target[1])

    def weights(pixels: int, wanted: int) -> np.ndarray:
        """float64[wanted, pixels]: the share of each source pixel in each target pixel."""
        edges = np.arange(wanted + 1)[:, None] * pixels / wanted
        overlap = np.minimum(edges[1:], np.arange(1, pixels + 1)) - np.maximum(edges[:-1], np.arange(pixels))
        overlap = np.maximum(overlap, 0)
        return overlap / overlap.sum(1, keepdims=True)

    image = noise(source, seed)
    found = conform_image(image, fit(source, target, "stretch"), "area")
    box = Image.fromarray(image).resize((target[1], target[0]), Image.Resampling.BOX)
    if source[0] % target[0] or source[1] % target[1]:
        assert np.array_equal(found, np.asarray(box))
    else:
        exact = np.einsum("yh,hwc,xw->yxc", weights(source[0], target[0]), image / 1.0, weights(source[1], target[1]))
        assert np.abs(found - exact).max() <= 0.5 + 1e-9


@given(sizes, sizes)
def test_area_interpolates_where_it_enlarges(source, target) -> None:
    assume(source[0] < target[0] or source[1] < target[1])
    geometry = fit(source, target, "stretch")
    assert np.array_equal(
        conform_image(noise(source), geometry, "area"), conform_image(noise(source), geometry, "bilinear")
    )


@pytest.mark.parametrize("resize", FILTERS)
@given(source=sizes, target=sizes)
def test_the_other_filters_are_those_of_pillow(resize, source, target) -> None:
    image = noise(source)
    expected = Image.fromarray(image).resize((target[1], target[0]), FILTERS[resize])
    assert np.array_equal(conform_image(image, fit(source, target, "stretch"), resize), np.asarray(expected))


# --- refusals


def test_an_aspect_that_does_not_fit_is_refused_unless_told_otherwise() -> None:
    stage, reason, detail = refused(noise((36, 48)), np.zeros((36, 48), np.uint8), size=(32, 64))
    assert (stage, reason) == ("conform", "aspect")
    assert detail == "36x48 (height x width) has another aspect ratio than 32x64: give --aspect"


@pytest.mark.parametrize("aspect", ASPECTS)
def test_aspects_that_differ_by_less_than_the_tolerance_are_stretched(aspect) -> None:
    width = int(2000 * (1 + ASPECT_TOLERANCE)) - 1
    assert fit((1000, width), (100, 200), aspect) == Geometry((0, 0, width, 1000), (100, 200), (100, 200))
    if aspect in ("crop", "pad"):
        assert fit((1000, width + 2), (100, 200), aspect) != Geometry((0, 0, width + 2, 1000), (100, 200), (100, 200))


def test_an_image_and_a_mask_of_two_sizes_are_refused() -> None:
    expected = ("conform", "size_mismatch", "the image is 10x20 and the mask 20x10 (height x width)")
    assert refused(noise((10, 20)), np.zeros((20, 10), np.uint8)) == expected


def test_unknown_ids_are_named_with_their_counts() -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[:30] = 12
    mask[0, :3] = 200
    expected = ("conform", "unknown_ids", "2 ids are not in table camvid11: 12 (1,497 px), 200 (3 px)")
    assert refused(noise(mask.shape), mask) == expected
    assert refused(noise(mask.shape), mask.astype(np.uint16)) == expected


@pytest.mark.parametrize("name", sorted(BUILTIN_TABLES))
def test_each_of_256_ids_is_known_or_not_as_the_table_says(name: str) -> None:
    table = BUILTIN_TABLES[name]()
    named = np.flatnonzero(table.train_id_of[:256] != UNKNOWN).astype(np.uint8)
    check_ids(named.reshape(1, -1), table)
    for value in {*range(256)} - {*named.tolist()}:
        with pytest.raises(BadInputError, match=rf"1 ids are not in table {name}.*: {value} \(1 px\)"):
            check_ids(np.array([[*named, value]], np.uint8), table)


def test_unknown_ids_of_16_bits_are_named_with_their_counts() -> None:
    mask = np.zeros((4, 5), np.uint16)
    mask[0], mask[1, 0] = 26_001, 65_535
    cure = "65535 is -1 in 16 bits: list it under `ignore`"
    expected = ("conform", "unknown_ids", f"2 ids are not in table camvid11: 26001 (5 px), 65535 (1 px); {cure}")
    assert refused(noise(mask.shape), mask) == expected


def test_20_unknown_ids_are_named_at_most() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    detail = refused(noise(mask.shape), mask)[2]
    assert detail.startswith("244 ids are not in table camvid11: 12 (1 px), 13 (1 px)")
    assert detail.count("px") == 20


@given(npst.arrays(st.sampled_from([np.uint8, np.uint16]), (5, 6)))
def test_ids_are_unknown_exactly_where_the_table_has_no_row_of_them(mask) -> None:
    known = {source_id for row in CITYSCAPES.labels for source_id in row.source_ids}
    strange = sorted(set(mask.ravel().tolist()) - known)
    if not strange:
        check_ids(mask, CITYSCAPES)
        return
    with pytest.raises(
        BadInputError, match=rf"^\('conform', 'unknown_ids', '{len(strange)} ids are not .*: {strange[0]} \("
    ):
        check_ids(mask, CITYSCAPES)


def test_unknown_ids_are_found_outside_of_what_a_crop_keeps() -> None:
    mask = np.zeros((10, 40), np.uint8)
    mask[0, 0] = 99
    assert refused(noise(mask.shape), mask, "--aspect=crop", size=(10, 10))[1] == "unknown_ids"


def test_a_mask_in_which_every_pixel_is_ignored_is_refused() -> None:
    expected = ("conform", "all_ignore", "every pixel of the mask is ignored")
    mask = np.full((8, 8), 11, np.uint8)
    assert refused(noise((8, 8)), mask) == expected
    mask[0, 0] = 4
    assert conform("a.png", noise((8, 8)), mask, recipe(None)).mask[0, 0] == 4
    # What counts is what is written: the crop cuts the one pixel off.
    wide = np.full((8, 16), 11, np.uint8)
    wide[0, 0] = 4
    assert refused(noise((8, 16)), wide, "--aspect=crop", size=(8, 8)) == expected
