"""Several runs a side: against Welch's formula by hand, and what the luck of the seed does to one run a side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support.luck import binomial_range, real_parts
from tests.support.matrix import standing_for
from trainer.comparison.paired import permutation_p
from trainer.comparison.scores import MEAN, scores_of
from trainer.comparison.several import compare_several, labels_p
from trainer.comparison.significance import holm, t_limit, t_tails

REAL = real_parts()


def runs_of(generator: np.random.Generator, number: int, images: np.ndarray) -> np.ndarray:
    """Runs of one setting that differ by their seed: each between two real models, float64[number, N, 2, C]."""
    between = 0.5 + 0.2 * generator.normal(size=(number, 1)) + 0.2 * generator.normal(size=(number, len(images)))
    weights = np.clip(between, 0, 1)[..., np.newaxis, np.newaxis]
    return np.round((1 - weights) * REAL[0, images] + weights * REAL[1, images])


def alike(scores: list[float]) -> np.ndarray:
    """Runs of one class with these scores on each of 5 images: all variance is that of the runs."""
    return np.array([[[[score], [1.0]]] * 5 for score in scores])


def test_t_is_as_in_tables() -> None:
    """NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2."""
    limits = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984}
    for degrees, limit in limits.items():
        assert t_limit(degrees) == pytest.approx(limit, abs=6e-4)
        assert t_tails(limit, degrees) == pytest.approx(0.05, abs=6e-5)
    assert t_limit(100_000) == pytest.approx(1.960, abs=1e-3)
    assert t_tails(0, 3) == 1


def test_holm_multiplies_by_the_tests_that_are_left() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005])), [0.03, 0.06, np.nan, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).tolist() == [1, 1]
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_the_variance_of_runs_is_that_of_welch() -> None:
    first, second = [0.50, 0.54, 0.52], [0.60, 0.66]
    variances = np.array([np.var(first, ddof=1) / 3, np.var(second, ddof=1) / 2])
    degrees = variances.sum() ** 2 / (variances**2 / [2, 1]).sum()
    estimate = compare_several(alike(first), alike(second))
    t = 0.11 / math.sqrt(variances.sum())
    assert estimate.difference[MEAN] == pytest.approx(0.11)
    assert estimate.p[MEAN] == pytest.approx(t_tails(t, degrees))
    width = t_limit(degrees) * math.sqrt(variances.sum())
    np.testing.assert_allclose(estimate.interval[MEAN], [0.11 - width, 0.11 + width])


def test_one_run_has_the_variance_of_the_other_side() -> None:
    variance = np.var([0.50, 0.54, 0.52], ddof=1) * (1 + 1 / 3)
    estimate = compare_several(alike([0.6]), alike([0.50, 0.54, 0.52]))
    assert estimate.p[MEAN] == pytest.approx(t_tails(0.08 / math.sqrt(variance), 2))
    with pytest.raises(ValueError, match="several on one side"):
        compare_several(alike([0.6]), alike([0.5]))


def test_runs_with_equal_scores_do_not_differ() -> None:
    estimate = compare_several(alike([0.5, 0.5]), alike([0.5, 0.5]))
    assert (estimate.p == 1).all()
    assert not estimate.interval.any()


def test_intervals_stay_between_what_differences_can_be() -> None:
    estimate = compare_several(alike([0.1, 0.9]), alike([0.2, 0.8]))
    assert estimate.interval[MEAN].tolist() == [-1, 1]


@pytest.mark.parametrize(("first", "second", "least"), [(2, 2, 2 / 6), (3, 3, 2 / 20), (2, 4, 1 / 15), (4, 4, 2 / 70)])
def test_a_permutation_of_few_runs_has_a_least_p(first: int, second: int, least: float) -> None:
    scores = 1 - np.linspace(0.9, 0.5, first + second) ** 3
    p, told = labels_p(scores[:first], scores[first:])
    assert p == told == pytest.approx(least)
    assert labels_p(scores[::2], scores[1::2])[0] > least


def test_of_many_runs_some_permutations_are_drawn() -> None:
    scores = np.linspace(0.5, 0.7, 24)
    assert labels_p(scores[:12], scores[12:])[0] == 1 / 20_000
    assert labels_p(scores[::2], scores[1::2])[0] > 0.5


@pytest.mark.parametrize("runs", standing_for([2], [2, 3, 5]))
def test_the_luck_of_the_seed_is_not_taken_for_a_difference(runs: int) -> None:
    """Of one run a side most pairs differ by more than chance, though their settings are the same."""
    generator = np.random.default_rng(runs)
    single, several = [], []
    for seed in range(100):
        images = generator.integers(0, REAL.shape[1], 60)
        first, second = runs_of(generator, runs, images), runs_of(generator, runs, images)
        single.append(permutation_p(first[0], second[0], seed=seed, permutations=199)[MEAN] <= 0.05)
        several.append(compare_several(first, second, seed=seed).p[MEAN] <= 0.05)
    assert np.mean(single) > 0.3
    assert np.mean(several) < binomial_range(100, 0.05)[1]


def test_a_difference_of_settings_is_found() -> None:
    generator = np.random.default_rng(0)
    images = np.arange(REAL.shape[1])
    worse = np.round(0.6 * runs_of(generator, 4, images))
    worse[:, :, 1] = runs_of(generator, 4, images)[:, :, 1]
    estimate = compare_several(worse, runs_of(generator, 4, images))
    assert estimate.p[MEAN] < 0.001
    assert estimate.interval[MEAN, 0] > 0
    np.testing.assert_allclose(estimate.a, scores_of(worse.sum(1)).mean(0))
