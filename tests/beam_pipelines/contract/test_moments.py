from __future__ import annotations

from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.contract.moments import Moments
from tests.support.handmade import moments_of

COUNTS = st.integers(0, 2**40)


@st.composite
def moments(draw: st.DrawFn) -> Moments:
    seed = draw(st.integers(0, 2**32 - 1))
    return Moments(np.random.default_rng(seed).integers(0, draw(COUNTS) + 1, (3, 256)))


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), 3)
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(low, high + 1, shape, np.uint8)


def nested(draw: st.DataObject, parts: list[Moments]) -> Moments:
    """The sum of `parts` by brackets that hypothesis chooses."""
    if len(parts) == 1:
        return parts[0]
    cut = draw.draw(st.integers(1, len(parts) - 1))
    return nested(draw, parts[:cut]) + nested(draw, parts[cut:])


def assert_same_bits(ours: Moments, theirs: Moments) -> None:
    assert ours == theirs
    assert ours.histogram.tobytes() == theirs.histogram.tobytes()
    if ours.pixels:
        assert (ours.mean, ours.std) == (theirs.mean, theirs.std)


@given(st.lists(moments(), min_size=1, max_size=6), st.data())
def test_any_order_and_grouping_of_a_sum_gives_the_same_bits(parts: list[Moments], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(parts))
    assert_same_bits(nested(data, shuffled), reduce(add, parts))


@given(moments())
def test_zero_adds_nothing(some: Moments) -> None:
    assert some + Moments.zero() == some == Moments.zero() + some


def test_moments_differ_where_one_count_does() -> None:
    histogram = np.zeros((3, 256), np.int64)
    histogram[1, 7] = 1
    assert Moments(histogram) != Moments.zero()
    assert Moments.zero() != "moments"


@given(images())
def test_moments_of_an_image_equal_numpy_in_float64(image: np.ndarray) -> None:
    assert_equal_numpy(image)


def test_moments_of_a_real_picture_equal_numpy_in_float64(camvid: Path) -> None:
    path = min((camvid / "images").rglob("*.png"), default=None) or min((camvid / "images").rglob("*.jpg"))
    with Image.open(path) as picture:
        assert_equal_numpy(np.asarray(picture.convert("RGB")))


def assert_equal_numpy(image: np.ndarray) -> None:
    found, pixels = moments_of(image), image.reshape(-1, 3)
    assert found.pixels == len(pixels)
    assert found.sums == tuple(pixels.astype(object).sum(0))
    assert found.sums_of_squares == tuple((pixels.astype(object) ** 2).sum(0))
    scaled = pixels.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, scaled.mean(0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std(0), rtol=0, atol=1e-12)


@given(st.lists(images(), min_size=2, max_size=4))
def test_moments_of_pictures_together_equal_the_sum_of_each(pictures: list[np.ndarray]) -> None:
    together = np.concatenate([picture.reshape(-1, 1, 3) for picture in pictures])
    assert moments_of(together) == sum((moments_of(picture) for picture in pictures), Moments.zero())


@given(images(), st.integers(1, 2**33))
def test_the_size_of_a_data_set_costs_no_precision(image: np.ndarray, times: int) -> None:
    one = moments_of(image)
    many = Moments(one.histogram * times)
    assert many.mean == tuple(float(Fraction(total, 255 * one.pixels)) for total in one.sums)
    np.testing.assert_allclose(many.std, one.std, rtol=1e-15, atol=0)


@given(images())
def test_the_normalization_table_is_what_numpy_computes(image: np.ndarray) -> None:
    found = moments_of(image)
    table = found.normalization.table()
    assert table.shape == (3, 256)
    assert table.dtype == np.float64
    std = np.where(np.array(found.std) == 0, 1.0, found.std)
    expected = (image.astype(np.float64) / 255 - found.mean) / std
    looked_up = np.stack([table[channel][image[..., channel]] for channel in range(3)], -1)
    np.testing.assert_array_equal(looked_up, expected)


@given(images())
def test_normalized_pixels_have_mean_0_and_std_1(image: np.ndarray) -> None:
    found = moments_of(image)
    table = found.normalization.table()
    normalized = np.stack([table[channel][image[..., channel]] for channel in range(3)], -1).reshape(-1, 3)
    np.testing.assert_allclose(normalized.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(normalized.std(0), [1.0 if std else 0.0 for std in found.std], atol=1e-9)


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 50))
def test_a_channel_of_one_value_has_std_0_and_is_only_centered(color: tuple[int, int, int], side: int) -> None:
    found = moments_of(np.full((side, side, 3), color, np.uint8))
    assert found.std == (0.0, 0.0, 0.0)
    table = found.normalization.table()
    assert [table[channel, value] for channel, value in enumerate(color)] == [0.0, 0.0, 0.0]
    assert np.isfinite(table).all()
    np.testing.assert_allclose(np.diff(table), 1 / 255, rtol=1e-9)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_no_pixels_have_neither_mean_nor_std(name: str) -> None:
    assert Moments.zero().pixels == 0
    with pytest.raises(ValueError, match=r"^moments of no pixels$"):
        getattr(Moments.zero(), name)


@pytest.mark.parametrize(
    ("histogram", "found"),
    [
        (np.zeros((3, 255), np.int64), r"int64\[3, 255\]"),
        (np.zeros(768, np.int64), r"int64\[768\]"),
        (np.zeros((3, 256), np.int32), r"int32\[3, 256\]"),
        (np.zeros((3, 256)), r"float64\[3, 256\]"),
    ],
)
def test_a_histogram_of_another_shape_or_type_is_refused(histogram: np.ndarray, found: str) -> None:
    with pytest.raises(ValueError, match=rf"^a histogram is int64\[3, 256\], got {found}$"):
        Moments(histogram)
