"""Moments and class pixels: exact sums, by any grouping, through Beam; NumPy in float64 is the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.moments import Moments
from beam_pipelines.pixels.measure import CombineClassPixelsFn, CombineMomentsFn, class_pixels_of, moments_of

sides = st.integers(1, 6)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: npst.arrays(np.uint8, shape))
masks = st.tuples(sides, sides).flatmap(lambda shape: npst.arrays(np.uint8, shape))


def oracle(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of pixel / 255."""
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]).astype(np.float64) / 255
    return pixels.mean(0), pixels.std(0)


def assert_close(moments: Moments, pictures: list[np.ndarray]) -> None:
    mean, std = oracle(pictures)
    np.testing.assert_allclose(moments.mean, mean, rtol=0, atol=1e-12)
    # The variance is exact to 1e-15; its root, where every pixel is all but equal, is not.
    np.testing.assert_allclose(moments.std, std, rtol=0, atol=1e-12)


def combine(function: beam.CombineFn, groups: Sequence[Sequence[Any]]) -> Any:
    """As a runner does it that bundles `values` so."""
    totals = []
    for group in groups:
        total = function.create_accumulator()
        for value in group:
            total = function.add_input(total, value)
        totals.append(total)
    return function.extract_output(function.merge_accumulators(totals))


def groups_of(data: st.DataObject, values: list[object]) -> list[list[object]]:
    shuffled = data.draw(st.permutations(values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    return [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(values)], strict=True)]


@given(images)
def test_moments_of_an_image_count_every_value_of_every_channel(image) -> None:
    expected = [[np.count_nonzero(image[..., channel] == value) for value in range(256)] for channel in range(3)]
    assert moments_of(image).histogram.tolist() == expected


@given(masks)
def test_class_pixels_count_every_train_id_and_ignore(mask) -> None:
    counts = class_pixels_of(mask)
    assert counts.tolist() == [np.count_nonzero(mask == train_id) for train_id in range(256)]
    assert counts.dtype == np.int64
    assert class_pixels_of(np.full((3, 4), IGNORE, np.uint8))[IGNORE] == 12


@given(st.data(), st.lists(images, min_size=1, max_size=6))
def test_moments_by_any_grouping_are_the_same_bits_and_those_of_numpy(data, pictures) -> None:
    moments = combine(CombineMomentsFn(), groups_of(data, [moments_of(picture) for picture in pictures]))
    assert moments == moments_of(np.concatenate([picture.reshape(-1, 1, 3) for picture in pictures]))
    assert moments.pixels == sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    assert_close(moments, pictures)


@given(st.data(), st.lists(masks, max_size=6))
def test_class_pixels_by_any_grouping_are_those_of_numpy(data, pictures) -> None:
    counts = combine(CombineClassPixelsFn(), groups_of(data, [class_pixels_of(picture) for picture in pictures]))
    pixels = np.concatenate([np.empty(0, np.uint8), *(picture.ravel() for picture in pictures)])
    assert counts.tolist() == np.bincount(pixels, minlength=256).tolist()


@given(st.lists(images, min_size=2, max_size=4))
def test_adding_does_not_change_what_is_added(pictures) -> None:
    """A runner may use an element again."""
    moments = [moments_of(picture) for picture in pictures]
    before = [one.histogram.copy() for one in moments]
    combine(CombineMomentsFn(), [moments[:1], moments[1:]])
    assert all(np.array_equal(one.histogram, kept) for one, kept in zip(moments, before, strict=True))
    counts = [class_pixels_of(picture[..., 0]) for picture in pictures]
    kept = [one.copy() for one in counts]
    combine(CombineClassPixelsFn(), [counts[:1], counts[1:]])
    assert np.array_equal(counts, kept)


def test_a_pipeline_combines_moments_and_class_pixels() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (7, 5, 3), np.uint8) // divisor for divisor in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    ids = [picture[..., 1] for picture in pictures]

    def check_moments(found: list[Moments]) -> None:
        (moments,) = found
        assert_close(moments, pictures)
        assert moments.pixels == 9 * 35

    def check_class_pixels(found: list[np.ndarray]) -> None:
        (counts,) = found
        assert counts.tolist() == np.bincount(np.ravel(ids), minlength=256).tolist()

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        elements = pipeline | beam.Create(list(range(len(pictures)))) | beam.Reshuffle()
        moments = elements | beam.Map(lambda n: moments_of(pictures[n])) | beam.CombineGlobally(CombineMomentsFn())
        counts = elements | beam.Map(lambda n: class_pixels_of(ids[n])) | beam.CombineGlobally(CombineClassPixelsFn())
        assert_that(moments, check_moments, label="Moments")
        assert_that(counts, check_class_pixels, label="ClassPixels")


def test_a_check_in_the_pipeline_can_fail() -> None:
    def check(found: list[object]) -> None:
        raise AssertionError("seen")

    pipeline = beam.Pipeline(runner=FnApiRunner())
    moments = pipeline | beam.Create([Moments.zero()]) | beam.CombineGlobally(CombineMomentsFn())
    assert_that(moments, check)
    with pytest.raises(Exception, match="seen"):
        pipeline.run()


def test_moments_stay_exact_where_float64_sums_do_not() -> None:
    """Two values, one apart, in 3e15 pixels each: sums of squares are above 2**53."""
    histogram = np.zeros((3, 256), np.int64)
    histogram[:, 254:] = 3 * 10**15
    moments = Moments(histogram)
    assert moments.sums_of_squares[0] == (254**2 + 255**2) * 3 * 10**15 > 2**53
    assert moments.std == (0.5 / 255,) * 3
    assert moments.mean == (254.5 / 255,) * 3


def test_moments_of_real_pictures_are_those_of_numpy(camvid) -> None:
    paths = sorted((camvid / "images" / "train").glob("*.png"))[:6]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert_close(combine(CombineMomentsFn(), [[moments_of(picture)] for picture in pictures]), pictures)
