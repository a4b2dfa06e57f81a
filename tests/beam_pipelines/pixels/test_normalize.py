"""Normalization: (x / 255 - mean) / std in float64, rounded once, to the last bit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from beam_pipelines.contract.moments import Moments
from beam_pipelines.pixels.measure import moments_of
from beam_pipelines.pixels.normalize import Normalizer

DTYPES = ["float32", "float16"]
sides = st.integers(1, 6)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: npst.arrays(np.uint8, shape))


def oracle(image: np.ndarray, moments: Moments, dtype: str) -> np.ndarray:
    """The formula, pixel by pixel; a channel of one value, whose std is 0, is only centered."""
    std = np.array([value if value > 0 else 1.0 for value in moments.std])
    return ((image.astype(np.float64) / 255.0 - np.array(moments.mean)) / std).astype(dtype)


def bits(array: np.ndarray) -> bytes:
    return array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(image=images, others=images)
def test_every_pixel_is_the_float64_formula_rounded_once(dtype, image, others) -> None:
    moments = moments_of(image) + moments_of(others)
    normalized = Normalizer(moments.normalization, dtype)(image)
    assert (normalized.dtype, normalized.shape) == (np.dtype(dtype), image.shape)
    assert bits(normalized) == bits(oracle(image, moments, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_values_of_all_channels_are_the_formula_to_the_last_bit(dtype) -> None:
    moments = moments_of(
        np.random.default_rng(3).integers(0, 256, (50, 60, 3), np.uint8) // np.array([1, 2, 5], np.uint8)
    )
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    normalized = Normalizer(moments.normalization, dtype)(every)
    assert bits(normalized) == bits(oracle(every, moments, dtype))
    assert np.array_equal(normalized[:, 0].T, Normalizer(moments.normalization, dtype).values())


@given(images)
def test_the_formula_agrees_with_exact_arithmetic(image) -> None:
    """Mean and variance as fractions: nothing of the code under test."""
    moments = moments_of(image)
    table = moments.normalization.table()
    for channel in range(3):
        values = [Fraction(int(value), 255) for value in image[..., channel].ravel()]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        for value in {0, 255, *image[..., channel].ravel().tolist()}:
            exact = float(Fraction(value, 255) - mean) / (math.sqrt(variance) if variance else 1.0)
            assert table[channel, value] == pytest.approx(exact, rel=1e-12, abs=1e-12)


@given(images)
def test_a_normalized_data_set_has_mean_0_and_std_1(image) -> None:
    moments = moments_of(image)
    assume(min(moments.std) > 0)
    normalized = Normalizer(moments.normalization, "float32")(image).astype(np.float64)
    assert np.abs(normalized.mean((0, 1))).max() < 1e-5
    assert np.abs(normalized.std((0, 1)) - 1).max() < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_of_one_value_is_centered_and_stays_finite(dtype) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 77
    image[:2, :, 2] = 255
    normalized = Normalizer(moments_of(image).normalization, dtype)(image)
    assert not normalized[..., :2].any()
    assert set(normalized[..., 2].ravel().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_that_are_views_are_normalized_alike(dtype) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    normalizer = Normalizer(moments_of(image).normalization, dtype)
    view = image[::-2, ::3]
    assert bits(normalizer(view)) == bits(normalizer(np.ascontiguousarray(view)))
    assert np.array_equal(normalizer(view), normalizer(image)[::-2, ::3])


def test_moments_of_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="moments of no pixels"):
        Normalizer(Moments.zero().normalization, "float32")
