"""Two models on the same images, against all permutations, plain loops, and what chance allows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.luck import binomial_range, real_parts
from trainer.comparison.paired import PERMUTATIONS, compare_pair, paired_interval, permutation_p
from trainer.comparison.scores import MEAN, parts_of, scores_of
from trainer.evaluation.metrics import Scores, draw_images

CAMVID = BUILTIN_TABLES["camvid11"]()
REAL = real_parts()
PAIRS = 1000


def swapped_at_random(generator: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sides of real predictions that do not differ but by chance: each image's change sides or not."""
    first, second = REAL[:, generator.choice(REAL.shape[1], images, replace=False)]
    swaps = generator.integers(0, 2, (images, 1, 1)) == 1
    return np.where(swaps, second, first), np.where(swaps, first, second)


def test_scores_are_those_of_an_evaluation() -> None:
    confusions = np.random.default_rng(0).integers(0, 50, (4, 11, 11))
    confusions[:, 3] = confusions[:, :, 3] = 0
    scores = Scores(confusion=confusions.sum(0), labels=CAMVID)
    found = scores_of(parts_of(confusions).sum(0))
    assert np.isnan(found[1 + 3])
    np.testing.assert_allclose(found, [scores.mean_iou, *scores.class_iou], rtol=1e-14)


def test_the_interval_is_that_of_images_drawn_for_both_sides() -> None:
    first, second = REAL[:, :9]
    draws = draw_images(9, 40, np.random.default_rng(5)).astype(int)
    differences = []
    for each in draws:
        images = np.repeat(np.arange(9), each)
        differences.append(scores_of(second[images].sum(0)) - scores_of(first[images].sum(0)))
    expected = np.quantile(differences, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(paired_interval(first, second, seed=5, samples=40), expected, rtol=1e-9)


def test_p_is_the_share_of_all_assignments() -> None:
    first, second = REAL[:, 30:38]
    observed = np.abs(scores_of(second.sum(0)) - scores_of(first.sum(0)))
    as_large = np.zeros(observed.shape)
    for swaps in itertools.product([False, True], repeat=8):
        chosen = np.array(swaps)[:, np.newaxis, np.newaxis]
        sides = np.where(chosen, second, first).sum(0), np.where(chosen, first, second).sum(0)
        as_large += np.abs(scores_of(sides[1]) - scores_of(sides[0])) >= observed - 1e-12
    np.testing.assert_allclose(permutation_p(first, second, seed=0), as_large / 2**8, atol=0.02)


def test_without_a_difference_5_percent_of_the_p_values_are_below_5_percent() -> None:
    generator = np.random.default_rng(0)
    found = [permutation_p(*swapped_at_random(generator, 80), seed=seed, permutations=199) for seed in range(PAIRS)]
    low, high = binomial_range(PAIRS, 0.05)
    rates = (np.array(found) <= 0.05).mean(0)
    assert low < rates.min()
    assert rates.max() < high
    assert high < 0.08


def test_without_a_difference_nearly_95_percent_of_the_intervals_have_0() -> None:
    """A little fewer for rare classes: of 80 images, some tens have these."""
    generator = np.random.default_rng(1)
    found = [paired_interval(*swapped_at_random(generator, 80), seed=seed, samples=200) for seed in range(400)]
    covered = (np.array(found)[..., 0] <= 0) & (np.array(found)[..., 1] >= 0)
    low, high = binomial_range(400, 0.95)
    assert low < covered[:, MEAN].mean() < high
    assert 0.92 < covered.mean() < 0.96


def test_a_real_difference_is_found_and_none_is_not() -> None:
    estimate = compare_pair(*REAL)
    assert estimate.p[MEAN] == 1 / (1 + PERMUTATIONS), "the least that it can be"
    assert 0.035 < estimate.interval[MEAN, 0] < estimate.difference[MEAN] < estimate.interval[MEAN, 1] < 0.05
    same = compare_pair(REAL[0], REAL[0])
    assert (same.p == 1).all()
    assert not same.interval.any()


def test_turning_the_sides_around_turns_the_difference_around() -> None:
    one, other = compare_pair(*REAL), compare_pair(*REAL[::-1])
    np.testing.assert_allclose(one.interval, -other.interval[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(one.p, other.p, atol=0.02)


def test_a_class_that_a_side_never_has_is_no_test() -> None:
    first, second = REAL[:, :20].copy()
    first[:, :, 4] = 0
    second[:, 0, 4] = 0
    estimate = compare_pair(first, second)
    assert np.isnan([estimate.p[5], *estimate.interval[5]]).all()
    assert np.isfinite(np.delete(estimate.p, 5)).all()


def test_images_must_match() -> None:
    with pytest.raises(ValueError, match="same images"):
        permutation_p(REAL[0], REAL[1, :5], seed=0)
