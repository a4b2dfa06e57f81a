"""What an evaluation measures of an image, against plain NumPy; Boundary IoU against an erosion step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.evaluation.boundaries import near_boundaries, reach_of
from trainer.evaluation.calibration import BINS, Calibration, bins_of_levels, expected_error
from trainer.evaluation.measures import CONFIDENCE_LEVELS, measure

CLASSES = 4


def draw_ids(seed: int, height: int, width: int, ignored: float = 0.02) -> np.ndarray:
    """uint8[2, H, W]: blocks of 6x6, with single ignored pixels."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, CLASSES, (2, -(-height // 6), -(-width // 6))).astype(np.uint8)
    ids = blocks.repeat(6, axis=1).repeat(6, axis=2)[:, :height, :width]
    return np.where(random.random(ids.shape) < ignored, IGNORE, ids).astype(np.uint8)


def draw_logits(ids: np.ndarray, seed: int) -> np.ndarray:
    """float32[..., C] whose largest is often that of the ids."""
    logits = np.random.default_rng(seed).normal(size=(*ids.shape, CLASSES))
    logits += 2 * np.eye(CLASSES)[np.minimum(ids, CLASSES - 1)]
    return logits.astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return shares


def eroded(member: np.ndarray, steps: int, outside: bool) -> np.ndarray:
    """bool[H, W] after `steps` erosions by 3x3; what is outside of the image is `outside`."""
    for _ in range(steps):
        padded = np.pad(member, 1, constant_values=outside)
        height, width = member.shape
        member = np.all([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return member


def boundary_of(ids: np.ndarray, valid: np.ndarray, number: int, reach: int) -> np.ndarray:
    """The part of a class that erosion removes, bool[H, W]; ignored pixels neighbor on the same class."""
    member = (ids == number) & valid
    return member & ~eroded(member | ~valid, reach, outside=False)


@pytest.mark.parametrize("size", [(40, 61), (7, 9), (1, 5), (96, 64)])
def test_near_boundaries_are_what_erosion_removes(size: tuple[int, int]):
    ids = draw_ids(1, *size)
    reach = int(reach_of(*size))
    assert reach == max(1, round(0.02 * math.hypot(*size)))
    found = near_boundaries(tf.constant(ids), tf.constant(reach)).numpy()
    for image, near in zip(ids, found, strict=True):
        valid = image != IGNORE
        members = [(image == number) & valid for number in range(CLASSES)]
        expected = np.any([each & ~eroded(each | ~valid, reach, outside=True) for each in members], axis=0)
        np.testing.assert_array_equal(near, expected)


@pytest.mark.parametrize("xla", [False, True])
def test_near_boundaries_in_a_graph(xla: bool):
    ids = draw_ids(2, 33, 47)
    compiled = tf.function(lambda ids: near_boundaries(ids, reach_of(33, 47)), jit_compile=xla)
    np.testing.assert_array_equal(compiled(ids), near_boundaries(tf.constant(ids), reach_of(33, 47)))


def test_measures_of_unknown_sizes_are_those_of_numpy():
    ids = draw_ids(3, 30, 45)
    shares = softmax(draw_logits(ids, 4))
    pixels = np.random.default_rng(5).integers(0, 256, (2, 30, 45, 3), np.uint8)
    signature = [
        tf.TensorSpec([None, None, None], tf.uint8),
        tf.TensorSpec([None, None, None, CLASSES], tf.float32),
        tf.TensorSpec([None, None, None, 3], tf.uint8),
    ]
    measured = tf.function(measure, input_signature=signature)(ids, shares, pixels)
    found = {key: value.numpy() for key, value in measured.items()}
    reach = int(reach_of(30, 45))
    for place, (truth, shown) in enumerate(zip(ids, shares.argmax(-1), strict=True)):
        valid = truth != IGNORE
        near = near_boundaries(tf.constant(ids), reach).numpy()[place]
        for key, chosen in (("confusions", valid), ("near", near & valid)):
            expected = np.zeros((CLASSES, CLASSES), np.int64)
            np.add.at(expected, (truth[chosen], shown[chosen]), 1)
            np.testing.assert_array_equal(found[key][place], expected, strict=True)
        for number in range(CLASSES):
            true, predicted = (boundary_of(each, valid, number, reach) for each in (truth, shown))
            counts = [(true & predicted).sum(), true.sum(), predicted.sum()]
            assert found["boundary"][place, number].tolist() == counts
        np.testing.assert_allclose(found["color"][place], pixels[place].mean(axis=(0, 1)), rtol=1e-5)


def test_the_confidence_of_each_valid_pixel_counts_once():
    ids = draw_ids(6, 24, 40)
    probabilities = softmax(draw_logits(ids, 7))
    pixels = tf.zeros([2, 24, 40, 3], tf.uint8)
    levels = measure(tf.constant(ids), tf.constant(probabilities), pixels)["levels"].numpy()
    for place, truth in enumerate(ids):
        valid = truth != IGNORE
        confidence, correct = probabilities[place].max(-1)[valid], (probabilities[place].argmax(-1) == truth)[valid]
        assert levels[place].sum(axis=1).tolist() == [(~correct).sum(), correct.sum()]
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        gaps = [abs(confidence[bins == each].sum() - correct[bins == each].sum()) for each in range(BINS)]
        error = float(expected_error(bins_of_levels(levels[place])))
        assert error == pytest.approx(sum(gaps) / valid.sum(), abs=0.5 / CONFIDENCE_LEVELS + 1e-3)


def test_a_calibrated_model_has_no_error_and_a_sure_one_has_what_it_is_wrong():
    levels = np.zeros((2, CONFIDENCE_LEVELS), np.int64)
    levels[:, CONFIDENCE_LEVELS * 3 // 4] = 2500, 7500
    found = Calibration(bins_of_levels(levels))
    assert found.error == pytest.approx(0, abs=1 / CONFIDENCE_LEVELS)
    levels = np.zeros((2, CONFIDENCE_LEVELS), np.int64)
    levels[:, -1] = 3000, 7000
    found = Calibration(bins_of_levels(levels))
    assert found.error == found.overconfidence == pytest.approx(0.3, abs=1 / CONFIDENCE_LEVELS)
    assert found.accuracy[-1] == 0.7
    assert found.tendency == "overconfident"
    levels[:, -1], levels[:, 0] = 0, (3000, 7000)
    assert Calibration(bins_of_levels(levels)).tendency == "underconfident"
    assert np.isnan(found.accuracy[:-1]).all()
    assert found.to_json()["bins"][0] == {"pixels": 0, "confidence": None, "accuracy": None}


def test_calibration_of_nothing():
    nothing = Calibration(np.zeros((BINS, 3), np.int64))
    assert math.isnan(nothing.error)
    assert nothing.to_json()["error"] is nothing.to_json()["overconfidence"] is None


def test_levels_that_do_not_fit_the_bins():
    with pytest.raises(ValueError, match="100 levels: expected a multiple of 15"):
        bins_of_levels(np.zeros((2, 100), np.int64))
