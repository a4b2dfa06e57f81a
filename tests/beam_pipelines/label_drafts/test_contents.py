"""Counting: exact, the same in any grouping, and bounded."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.label_drafts import tallies
from beam_pipelines.label_drafts.contents import (
    GRAY_8,
    GRAY_16,
    PALETTE,
    RGB,
    Contents,
    Group,
    coarse_code,
    color_code,
    colors_of,
    entries_of,
    entry_code,
    total_of,
)
from beam_pipelines.label_drafts.examine import examine
from beam_pipelines.label_drafts.tallies import MOST_VALUES, bounded, joined, tally_of
from tests.support.drawn_masks import COLORS, areas, palette_image, png

ANY = 10**8


def contents_of(image: Image.Image, index: int = 0) -> Contents:
    return examine(png(image), index, ANY)


def some_masks() -> list[bytes]:
    """Of every kind, with what is shared and what is not."""
    ids = [areas(4, seed) for seed in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    images = [Image.fromarray(mask) for mask in ids]
    images += [Image.fromarray(ids[0].astype(np.uint16) * 1000), Image.fromarray(ids[0] * 255 > 0)]
    images += [palette_image(ids[1], COLORS), palette_image(ids[2], COLORS[::-1]), palette_image(ids[2], 0 * COLORS)]
    images += [Image.fromarray(COLORS[ids[0]]), Image.fromarray(noise), Image.fromarray(255 - noise)]
    shapes = [
        {"label": label, "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"} for label in ("b", "a", "b")
    ]
    regions = json.dumps({"shapes": shapes, "imageHeight": 96, "imageWidth": 160}).encode()
    return [*map(png, images), b"", png(images[0])[:50], regions, regions, b"{}"]


MASKS = some_masks()


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(1, 5), st.sampled_from([3, 300, MOST_VALUES]))
def test_any_grouping_gives_the_same_bytes(chance: random.Random, groups: int, most: int) -> None:
    """Also where a part of the groups, or only their sum, has more values than a tally takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "MOST_VALUES", most)
        parts = [examine(data, index, ANY) for index, data in enumerate(MASKS)]
        assert (total_of(parts).values[RGB].colors is None) == (most < MOST_VALUES)
        whole = total_of(parts).to_json()
        chance.shuffle(parts)
        sums = [total_of(parts[start::groups]) for start in range(groups)]
        assert total_of(sums).to_json() == whole
        assert Contents.from_json(whole).to_json() == whole


@given(st.lists(st.lists(st.integers(0, 5), min_size=1), min_size=1))
def test_a_tally_is_what_counting_one_by_one_gives(masks: list[list[int]]) -> None:
    found = joined([tally_of(np.array(mask), np.ones(len(mask)), index) for index, mask in enumerate(masks)])
    for value, pixels, count, first in zip(*map(np.ndarray.tolist, found.columns), strict=True):
        holders = [index for index, mask in enumerate(masks) if value in mask]
        assert (pixels, count, first) == (sum(mask.count(value) for mask in masks), len(holders), holders[0])
    assert set(found.values.tolist()) == {value for mask in masks for value in mask}


def test_a_tally_that_is_too_large_is_none_from_then_on() -> None:
    many = tally_of(np.arange(MOST_VALUES), np.ones(MOST_VALUES), 0)
    one = tally_of(np.array([MOST_VALUES]), np.ones(1), 1)
    assert bounded(many) is not None
    assert bounded(many, one) is None
    assert bounded(None, one) is None


def test_the_commonest_values_come_first_and_of_equals_the_smaller() -> None:
    tally = tally_of(np.array([7, 3, 5, 9]), np.array([2, 2, 8, 1]), 0)
    assert tally.commonest(3).values.tolist() == [5, 3, 7]


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(-1, 0xFFFFFF)), min_size=1))
def test_codes_of_colors_and_entries_return(entries: list[tuple[int, int]]) -> None:
    indices, codes = np.array(entries, np.int64).T
    found = entries_of(entry_code(indices, codes))
    assert (found[0].tolist(), found[1].tolist()) == (indices.tolist(), codes.tolist())
    assert color_code(colors_of(codes)).tolist() == codes.tolist()
    near = np.abs(colors_of(coarse_code(codes)) - colors_of(codes))
    assert near.max() <= 4


def test_each_kind_is_counted_by_how_it_is_stored() -> None:
    ids = areas(2)
    rgba = np.dstack([COLORS[ids], np.full(ids.shape, 255, np.uint8)])
    stream = io.BytesIO()
    Image.fromarray(ids).save(stream, "PNG", transparency=1)
    assert [*contents_of(Image.fromarray(ids)).kinds] == ["gray, 8 bits"]
    assert [*contents_of(Image.fromarray(ids.astype(np.uint16))).kinds] == ["gray, 16 bits"]
    assert [*contents_of(Image.fromarray(ids > 0)).kinds] == ["gray, 1 bit"]
    assert [*contents_of(palette_image(ids, COLORS)).kinds] == ["palette"]
    assert [*contents_of(Image.fromarray(rgba)).kinds] == ["RGB, alpha channel"]
    assert [*examine(stream.getvalue(), 0, ANY).kinds] == ["gray, 8 bits, transparent color"]


def test_what_can_not_be_read_is_counted_with_its_reason() -> None:
    stream = io.BytesIO()
    Image.fromarray(areas(2)).save(stream, "JPEG")
    files = [stream.getvalue(), png(Image.fromarray(areas(2)))[:60], b"no image"]
    found = total_of(examine(data, index, ANY) for index, data in enumerate(files))
    assert found.kinds == {
        "JPEG file": Group(1, (0,)),
        "unreadable: the file ends too early": Group(1, (1,)),
        "unreadable: not an image of a supported format": Group(1, (2,)),
    }
    assert found.problems.keys() == {"mask_format", "truncated", "not_an_image"}
    assert (found.masks, found.readable) == (3, 0)


def test_the_first_files_of_a_group_are_kept() -> None:
    assert Group(2, (4, 9)) + Group(3, (1, 5, 6)) == Group(5, (1, 4, 5))


def test_pixels_are_those_of_numpy() -> None:
    ids = areas(3)
    values, counts = np.unique(ids, return_counts=True)
    for image, storage in (
        (Image.fromarray(ids), GRAY_8),
        (Image.fromarray(ids.astype(np.uint16)), GRAY_16),
        (palette_image(ids, COLORS), PALETTE),
        (Image.fromarray(COLORS[ids]), RGB),
    ):
        found = contents_of(image).values[storage]
        assert found.exact is not None
        assert sorted(found.exact.pixels.tolist()) == sorted(counts.tolist())
        assert (found.masks, found.pixels) == (1, ids.size)
    assert values.tolist() == [0, 1, 2]
