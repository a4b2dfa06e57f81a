"""Suspected label errors: against NumPy by the definition, and on scenes with drawn faults."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from tests.support.swapped import CAMVID, FENCE, SIZE, SKY, Faults, draw_mask, draw_truth, fault_of
from trainer.evaluation.boundaries import reach_of
from trainer.evaluation.measures import measure
from trainer.evaluation.outliers import Outliers
from trainer.evaluation.suspects import IMPOSSIBLE, side_of, suspect_regions

FAULTS: Faults = {3: (FENCE, 12), 8: (SKY, 20)}


def by_definition(mask: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """bool[H, W]: each square is looked at."""
    steps, found = (int(side_of(reach_of(*mask.shape))) - 1) // 2, np.zeros(mask.shape, bool)
    of_label = np.take_along_axis(probabilities, np.minimum(mask, 2)[..., np.newaxis].astype(int), -1)[..., 0]
    impossible = (mask != IGNORE) & (of_label <= IMPOSSIBLE)
    for row, column in np.ndindex(mask.shape):
        square = tuple(slice(max(0, place - steps), place + steps + 1) for place in (row, column))
        if impossible[square].all():
            found[square] = True
    return found


@pytest.mark.parametrize("size", [(40, 261), (23, 9), (1, 30)])
def test_regions_are_those_of_the_definition(size: tuple[int, int]):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 3, (2, 2, -(-size[0] // 7), -(-size[1] // 9))).astype(np.uint8)
    mask, shown = coarse.repeat(7, axis=2).repeat(9, axis=3)[..., : size[0], : size[1]]
    mask = np.where(random.random(mask.shape) < 0.01, IGNORE, mask).astype(np.uint8)
    sure = np.where(random.random(mask.shape) < 0.01, 0.95, 0.99)[..., np.newaxis]
    probabilities = np.where(np.eye(3)[shown] > 0, sure, (1 - sure) / 2).astype(np.float32)
    found = suspect_regions(tf.constant(mask), tf.constant(probabilities)).numpy()
    expected = np.stack([by_definition(*each) for each in zip(mask, probabilities, strict=True)])
    assert 0 < expected.mean() < 0.9
    np.testing.assert_array_equal(found, expected)
    counts = measure(tf.constant(mask), tf.constant(probabilities), tf.zeros([*mask.shape, 3], tf.uint8))["suspects"]
    assert counts.numpy().tolist() == expected.sum(axis=(1, 2)).tolist()


def found_in(faults: Faults, of_others: float = IMPOSSIBLE / 2) -> tuple[np.ndarray, Outliers]:
    """The regions bool[N, H, W] of 20 scenes, by a model that knows the truth."""
    masks = np.stack([draw_mask(number, faults) for number in range(20)])
    truth = np.stack([draw_truth(number) for number in range(20)])
    classes = CAMVID.num_classes
    right = np.eye(classes)[truth] > 0
    probabilities = np.where(right, 1 - (classes - 1) * of_others, of_others).astype(np.float32)
    regions = suspect_regions(tf.constant(masks), tf.constant(probabilities)).numpy()
    return regions, Outliers(regions.mean(axis=(1, 2)))


def test_faulty_masks_stand_out_and_their_regions_are_found():
    regions, outliers = found_in(FAULTS)
    assert outliers.standing_out == [8, 3], "the largest first"
    for number, fault in FAULTS.items():
        expected = np.zeros(SIZE, bool)
        expected[fault_of(*fault)] = True
        assert not (regions[number] & ~expected).any()
        assert regions[number][expected].mean() > 0.8, "all but what is beside ignored pixels"


def test_without_faults_nothing_stands_out():
    regions, outliers = found_in({})
    assert not regions.any(), "though labels along boundaries are a pixel off"
    assert outliers.standing_out == outliers.ranked == []


def test_a_model_that_is_not_sure_suspects_nothing():
    assert not found_in(FAULTS, 2 * IMPOSSIBLE)[0].any()


def test_what_all_images_have_does_not_stand_out():
    usual = np.random.default_rng(0).normal(10, 1, 99).clip(0)
    outliers = Outliers(np.append(usual, 30))
    assert outliers.standing_out == [99]
    assert len(outliers.ranked) == 100
    first, third = np.percentile(outliers.values, [25, 75])
    assert outliers.limit == pytest.approx(third + 1.5 * (third - first))
    assert Outliers(np.array([7.0])).standing_out == []
