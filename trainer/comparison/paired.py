"""One model against another on the same images.

Both questions are asked of images as a whole, since the pixels of an image are not independent.

- How large is the difference on other images of this kind? The percentile bootstrap (Efron 1979): images are drawn with
  replacement, the same ones for both sides, and their confusion matrices are summed.
- Could it be chance? Approximate randomization (Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses",
  section 2.2): if the models are equally good, it does not matter which of them predicted an image, so the predictions
  of each image change sides at random. p is the share of such assignments with a difference at least as large, in any
  direction, the observed one included: without it p could be 0, and 5 % would not be 5 % (Phipson and Smyth 2010,
  "Permutation P-values Should Never Be Zero"). The test is exact for any number of images and any score; a t-test of
  scores per image would be one of another score, since mean IoU is not a mean over images.

Between sides that differ only by chance, intervals of mean IoU have 0 in 94 % of 2,000 cases with 40 or 80 images of
CamVid, and in 93 % with 20; those of classes in 94 and 92 %. 4 to 6 % of the p-values are below 5 %.

Both take images for independent. Those of one video are alike: then intervals are too narrow and p too small. And both
are about these two sets of weights: another seed of the same settings may change the result; see
`trainer.comparison.several`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.comparison.estimate import Estimate
from trainer.comparison.scores import scores_of, weighted
from trainer.evaluation.metrics import draw_images, limits_of

SAMPLES = 2000
PERMUTATIONS = 9999
_AT_ONCE = 500  # rows of drawn images in memory
_ROUNDING = 1e-12  # below it, two differences are the same


def compare_pair(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Estimate:
    """The difference between two models, by the parts float64[N, 2, C] of the same N images in the same order."""
    return Estimate(
        a=scores_of(a.sum(0)),
        b=scores_of(b.sum(0)),
        interval=paired_interval(a, b, seed=seed),
        p=permutation_p(a, b, seed=seed),
        method=(
            f"95 % intervals of the paired bootstrap over images ({SAMPLES:,} samples); p by approximate randomization "
            f"over images ({PERMUTATIONS:,} permutations), two-sided"
        ),
    )


def paired_interval(
    a: np.ndarray, b: np.ndarray, *, seed: int, samples: int = SAMPLES, confidence: float = 0.95
) -> np.ndarray:
    """Percentile intervals of the differences of scores: float64[N, 2, C] twice -> float64[1 + C, 2].

    Samples in which a side has no IoU of a class are left out for that class.
    """
    generator = np.random.default_rng(seed)
    found = [
        scores_of(weighted(draws, b)) - scores_of(weighted(draws, a))
        for rows in _portions(samples)
        for draws in [draw_images(len(a), rows, generator)]
    ]
    return np.stack([limits_of(column, confidence) for column in np.concatenate(found).T])


def permutation_p(a: np.ndarray, b: np.ndarray, *, seed: int, permutations: int = PERMUTATIONS) -> np.ndarray:
    """Two-sided p-values of the differences of scores: float64[N, 2, C] twice -> float64[1 + C].

    Raises:
      ValueError: the images do not match.
    """
    if a.shape != b.shape:
        raise ValueError(f"parts {list(a.shape)} and {list(b.shape)}: expected those of the same images and classes")
    generator = np.random.default_rng(seed)
    observed = scores_of(b.sum(0)) - scores_of(a.sum(0))
    as_large = np.ones(observed.shape)
    for rows in _portions(permutations):
        moved = weighted(generator.integers(0, 2, (rows, len(a))).astype(np.float64), b - a)
        found = scores_of(b.sum(0) - moved) - scores_of(a.sum(0) + moved)
        # A class that is nowhere true can lose its IoU on a side, which is no difference.
        as_large += (np.abs(np.nan_to_num(found)) >= np.abs(observed) - _ROUNDING).sum(0)
    return np.where(np.isnan(observed), np.nan, as_large / (permutations + 1))


def _portions(rows: int) -> Iterator[int]:
    """Numbers of at most `_AT_ONCE` with the sum `rows`."""
    yield from [_AT_ONCE] * (rows // _AT_ONCE)
    if rows % _AT_ONCE:
        yield rows % _AT_ONCE
