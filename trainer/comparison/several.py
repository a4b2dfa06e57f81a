"""Several runs a side, such as seeds of the same settings: a difference with the luck of the seed.

The score of a side is the mean over its runs. All runs predict the same images, so runs and images cross, and each adds
to the variance of the difference (as in Owen 2007, "The pigeonhole bootstrap", equation 6, which draws both):

- runs: the sample variance of the scores of a side's runs over their number, as in Welch's t-test;
- images: the variance of the difference over bootstrap samples of images, the same ones for all runs.

What a run and an image have in common is in both, so the sum errs on the safe side. Interval and p follow from
Student's t with the degrees of freedom of Satterthwaite (1946). Drawing runs with replacement instead would give
intervals that are far too narrow: of 2 runs a sample has half of the variance, and nothing tells that a variance of 2
numbers is itself hardly known, for which t has wide tails. A side of one run gets the variance of the other side's
runs.

Between sides of equal settings, 3 to 5 % of 1,000 p-values are below 5 % with 2, 3 or 5 runs a side whose seeds scatter
by 0.8 points of mean IoU; with seeds that change nothing, 1 %.

The t distribution takes the scores of runs for normally distributed. `labels_p` does without, for these images: it
gives the runs to the sides in every possible way. With 2 runs a side it can't be below 1/3, with 3 not below 1/10.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from trainer.comparison.estimate import Estimate
from trainer.comparison.scores import scores_of, weighted
from trainer.comparison.significance import t_limit, t_tails
from trainer.evaluation.metrics import draw_images

SAMPLES = 1000
_ALL = 20_000  # ways to give runs to sides that are all tried; of more, as many are drawn


def compare_several(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Estimate:
    """The difference between sides of several runs, by the parts float64[runs, N, 2, C] of the same N images.

    Raises:
      ValueError: neither side has several runs.
    """
    first, second = scores_of(a.sum(1)), scores_of(b.sum(1))
    terms = [*_run_terms(first, second), (_image_variance(a, b, seed), a.shape[1] - 1)]
    difference = second.mean(0) - first.mean(0)
    limits, p = zip(*map(_t_test, difference, *_welch(terms)), strict=True)
    return Estimate(
        a=first.mean(0),
        b=second.mean(0),
        interval=np.clip(difference[:, np.newaxis] + np.array(limits)[:, np.newaxis] * np.array([-1, 1]), -1, 1),
        p=np.array(p),
        method=(
            "95 % intervals and p, two-sided, by Student's t: the variance of the scores of runs as in Welch's test, "
            f"and that of images by the paired bootstrap ({SAMPLES:,} samples)"
        ),
    )


def labels_p(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """A permutation test of which side each run belongs to, for these images (Fisher 1935, "The Design of
    Experiments", section 21): two-sided p of the scores float64[runs] of two sides, and the least that p can be with
    as many runs.
    """
    scores = np.concatenate([a, b])
    sides = _assignments(len(a), len(scores), seed)
    means = scores[sides].mean(1)
    rest = (scores.sum() - scores[sides].sum(1)) / len(b)
    found = np.abs(rest - means)
    near = 1e-12
    least = (found >= found.max() - near).mean()
    return float((found >= abs(b.mean() - a.mean()) - near).mean()), float(least)


def _assignments(chosen: int, runs: int, seed: int) -> np.ndarray:
    """The runs of the first side, int[ways, chosen], in all ways; the first one is the observed one."""
    if math.comb(runs, chosen) <= _ALL:
        return np.array(list(itertools.combinations(range(runs), chosen)))
    order = np.tile(np.arange(runs), (_ALL - 1, 1))
    drawn = np.random.default_rng(seed).permuted(order, axis=1)[:, :chosen]
    return np.concatenate([np.arange(chosen)[np.newaxis], drawn])


def _run_terms(a: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The variances of the means of a side's scores float64[runs, 1 + C], with their degrees of freedom."""
    if max(len(a), len(b)) < 2:
        raise ValueError("one run a side: expected several on one side at least")
    if min(len(a), len(b)) < 2:
        several = a if len(a) > 1 else b
        return [(several.var(0, ddof=1) * (1 / len(a) + 1 / len(b)), len(several) - 1)]
    return [(side.var(0, ddof=1) / len(side), len(side) - 1) for side in (a, b)]


def _image_variance(a: np.ndarray, b: np.ndarray, seed: int) -> np.ndarray:
    """Of the difference, over samples of images: float64[1 + C]. Samples without an IoU of a class are left out."""
    draws = draw_images(a.shape[1], SAMPLES, np.random.default_rng(seed))
    means = [np.mean([scores_of(weighted(draws, run)) for run in side], axis=0) for side in (a, b)]
    found = means[1] - means[0]
    return np.array([_variance(column[~np.isnan(column)]) for column in found.T])


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if values.size > 1 else math.nan


def _welch(terms: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of the sum, and its degrees of freedom: of variances with their own."""
    total = np.sum([variance for variance, _ in terms], axis=0)
    weight = np.sum([variance**2 / degrees for variance, degrees in terms], axis=0)
    degrees = np.divide(total**2, weight, out=np.ones(total.shape), where=weight > 0)
    return np.sqrt(total), degrees


def _t_test(difference: float, error: float, degrees: float) -> tuple[float, float]:
    """-> half the width of the interval, and p."""
    if math.isnan(difference) or math.isnan(error):
        return math.nan, math.nan
    if error == 0:  # equal scores in all runs and on all images
        return 0.0, float(difference == 0)
    return t_limit(degrees) * error, t_tails(difference / error, degrees)
