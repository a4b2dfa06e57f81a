from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from trainer.evaluation.measures import confusion, confusions
from trainer.evaluation.metrics import Scores, bootstrap_interval

CITYSCAPES = BUILTIN_TABLES["cityscapes19"]()
CATEGORIES = BUILTIN_TABLES["cityscapes7"]()
CAMVID = BUILTIN_TABLES["camvid11"]()


def make_pair(seed: int, shape: tuple[int, ...] = (3, 5, 6), classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """-> labels with ignored pixels, and predictions, of which half are true."""
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, classes, (2, *shape)).astype(np.uint8)
    predictions = np.where(rng.random(shape) < 0.5, labels, predictions)
    labels[rng.random(shape) < 0.2] = IGNORE
    return labels, predictions


def oracle(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), np.int64)
    for truth, shown in zip(labels.ravel().tolist(), predictions.ravel().tolist(), strict=True):
        if truth != IGNORE:
            counts[truth, shown] += 1
    return counts


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(1, 30))
def test_confusion_is_that_of_numpy(seed: int, shape: list[int], classes: int):
    labels, predictions = make_pair(seed, tuple(shape), classes)
    expected = oracle(labels, predictions, classes)
    for dtype in (tf.int32, tf.int64):
        found = confusion(tf.constant(labels), tf.constant(predictions, dtype), classes)
        assert found.dtype == tf.int64
        np.testing.assert_array_equal(found, expected)


def test_confusions_are_those_of_each_image():
    labels, predictions = make_pair(0)
    found = confusions(labels, predictions, 4)
    for index in range(3):
        np.testing.assert_array_equal(found[index], oracle(labels[index], predictions[index], 4))


@pytest.mark.parametrize("xla", [False, True])
def test_confusion_in_a_graph(xla: bool):
    labels, predictions = make_pair(1)
    compiled = tf.function(lambda truth, shown: confusion(truth, shown, 4), jit_compile=xla)
    np.testing.assert_array_equal(compiled(labels, predictions), oracle(labels, predictions, 4))
    labels[:] = IGNORE
    assert not compiled(labels, predictions).numpy().any()


def test_confusion_of_unknown_sizes():
    sizes = tf.TensorSpec([None, None, None], tf.uint8)
    compiled = tf.function(lambda truth, shown: confusion(truth, shown, 4), input_signature=[sizes, sizes])
    np.testing.assert_array_equal(compiled(*make_pair(2)), oracle(*make_pair(2), 4))


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_cityscapes_scripts(official: Any, tmp_path: Path, seed: int):
    """Truth with ignored labels of every kind (parking, bridge, caravan, ...); predictions of 19 classes."""
    rng = np.random.default_rng(seed)
    drawn = np.array([row.source_ids[0] for row in CITYSCAPES.labels])
    predicted = np.array([row.source_ids[0] for row in CITYSCAPES.classes])
    if seed:  # bicycle is neither true nor predicted, sky is only predicted
        drawn, predicted = drawn[~np.isin(drawn, [33, 23])], predicted[predicted != 33]
    total = np.zeros((19, 19), np.int64)
    truths: list[str] = []
    guesses: list[str] = []
    for index in range(3):
        truth = rng.choice(drawn, (32, 48)).astype(np.uint8)
        guess = rng.choice(predicted, truth.shape).astype(np.uint8)
        guess = np.where((rng.random(truth.shape) < 0.6) & np.isin(truth, predicted), truth, guess)
        for folder, ids, paths in (("truth", truth, truths), ("guess", guess, guesses)):
            paths.append(str(tmp_path / f"{folder}_{index}.png"))
            Image.fromarray(ids).save(paths[-1])
        total += confusion(CITYSCAPES.train_id_of[truth][None], CITYSCAPES.train_id_of[guess][None], 19).numpy()
    expected = official.evaluateImgLists(guesses, truths, official.args)
    scores = Scores(confusion=total, labels=CITYSCAPES)
    categories = {name: value for name, value in expected["categoryScores"].items() if name != "void"}
    classes = [expected["classScores"][row.name] for row in CITYSCAPES.classes]
    assert scores.class_iou == pytest.approx(classes, abs=1e-9, nan_ok=True)
    assert scores.category_iou == pytest.approx(categories, abs=1e-9, nan_ok=True)
    assert scores.mean_iou == pytest.approx(expected["averageScoreClasses"], abs=1e-9)
    assert scores.mean_category_iou == pytest.approx(expected["averageScoreCategories"], abs=1e-9)
    assert scores.absent == (("bicycle",) if seed else ())
    assert not seed or scores.class_iou[10] == 0


def test_scores_by_hand():
    counts = np.zeros((7, 7), np.int64)
    counts[0, 0], counts[0, 1], counts[1, 1], counts[2, 0] = 6, 2, 4, 4
    scores = Scores(confusion=counts, labels=CATEGORIES)
    assert scores.class_iou == pytest.approx([0.5, 4 / 6, 0, *[math.nan] * 4], nan_ok=True)
    assert scores.mean_iou == pytest.approx((0.5 + 4 / 6) / 3)
    assert scores.absent == ("nature", "sky", "human", "vehicle")
    assert scores.pixel_accuracy == 10 / 16
    assert scores.frequency_weighted_iou == pytest.approx((8 * 0.5 + 4 * 4 / 6) / 16)
    assert list(scores.category_iou.values()) == pytest.approx(scores.class_iou, nan_ok=True)


def test_confusing_classes_of_a_category_is_no_error_there():
    counts = np.zeros((19, 19), np.int64)
    counts[13, 15] = 5  # cars taken for buses
    scores = Scores(confusion=counts, labels=CITYSCAPES)
    assert scores.mean_iou == 0
    assert scores.category_iou["vehicle"] == 1


def test_scores_of_nothing():
    scores = Scores(confusion=np.zeros((11, 11), np.int64), labels=CAMVID)
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.pixel_accuracy)
    assert math.isnan(scores.frequency_weighted_iou)
    assert len(scores.absent) == 11
    assert scores.to_json()["mean_iou"] is None


def test_scores_are_plain_json():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, (11, 11))
    counts[3] = counts[:, 3] = 0
    scores = Scores(confusion=counts, labels=CAMVID)
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert value == scores.to_json()
    assert value["mean_iou"] == scores.mean_iou
    assert value["class_iou"]["road"] is None
    assert value["absent"] == ["road"]
    assert value["pixels"] == counts.sum()
    assert value["confusion"] == counts.tolist()
    assert set(value["category_iou"]) == {row.category for row in CAMVID.classes}


def test_mean_iou_is_that_of_keras():
    import keras

    labels, predictions = make_pair(3, (2, 9, 9), 11)
    metric = keras.metrics.MeanIoU(11, ignore_class=IGNORE, sparse_y_true=True, sparse_y_pred=True)
    metric.update_state(labels.astype(np.int32), predictions.astype(np.int32))
    scores = Scores(confusion=oracle(labels, predictions, 11), labels=CAMVID)
    assert scores.mean_iou == pytest.approx(float(metric.result()), rel=1e-6)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros((3, 3), np.int64), r"confusion int64\[3, 3\]: expected integer\[11, 11\] for 11 classes"),
        (np.zeros((11, 11)), r"confusion float64\[11, 11\]"),
        (np.full((11, 11), -1), "can't have negative counts"),
    ],
)
def test_scores_of_what_is_no_confusion(counts: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        Scores(confusion=counts, labels=CAMVID)


def make_confusions(images: int, seed: int = 0, classes: int = 11) -> np.ndarray:
    """Images of differing difficulty."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 20, (images, classes, classes))
    counts[:, range(classes), range(classes)] += rng.integers(0, 1000, (images, classes))
    return counts


def naive_bootstrap(counts: np.ndarray, seed: int, samples: int) -> np.ndarray:
    """One draw after another."""
    means = []
    for draw in np.random.default_rng(seed).multinomial(len(counts), [1 / len(counts)] * len(counts), samples):
        means.append(Scores(confusion=np.repeat(counts, draw, axis=0).sum(axis=0), labels=CAMVID).mean_iou)
    return np.quantile(means, [0.025, 0.975])


def test_bootstrap_is_that_of_draws_one_by_one():
    counts = make_confusions(20)
    found = bootstrap_interval(counts, seed=3, samples=100)
    assert found.mean_iou == pytest.approx(naive_bootstrap(counts, 3, 100), abs=1e-12)


def test_bootstrap_contains_the_estimate_and_shrinks():
    widths = []
    for images in (20, 80, 320):
        counts = make_confusions(images)
        found = bootstrap_interval(counts, seed=0)
        scores = Scores(confusion=counts.sum(axis=0), labels=CAMVID)
        assert found.mean_iou[0] < scores.mean_iou < found.mean_iou[1]
        assert (found.class_iou[:, 0] < scores.class_iou).all()
        assert (scores.class_iou < found.class_iou[:, 1]).all()
        widths.append(np.ptp(found.mean_iou))
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.4)  # with the root of the number of images
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.4)


def test_bootstrap_is_decided_by_its_seed():
    counts = make_confusions(30)
    first, again, other = (bootstrap_interval(counts, seed=seed, samples=200) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.class_iou, again.class_iou)
    np.testing.assert_array_equal(first.mean_iou, again.mean_iou)
    assert (first.mean_iou != other.mean_iou).any()


def test_bootstrap_of_equal_images_has_no_width():
    counts = np.repeat(make_confusions(1), 10, axis=0)
    found = bootstrap_interval(counts, seed=0)
    assert np.ptp(found.mean_iou) == 0
    assert (np.ptp(found.class_iou, axis=1) == 0).all()
    assert found.mean_iou[0] == Scores(confusion=counts[0], labels=CAMVID).mean_iou


def test_bootstrap_with_absent_classes_is_plain_json():
    counts = make_confusions(10)
    counts[:, 3] = counts[:, :, 3] = 0
    counts[1:, 4] = counts[1:, :, 4] = 0  # in one image, so some draws lack it
    found = bootstrap_interval(counts, seed=0)
    assert np.isnan(found.class_iou[3]).all()
    assert not np.isnan(found.class_iou[4]).any()
    assert not np.isnan(found.mean_iou).any()
    value = json.loads(json.dumps(found.to_json(CAMVID), allow_nan=False))
    assert value["class_iou"]["road"] == [None, None]
    assert value["mean_iou"] == found.mean_iou.tolist()


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (np.zeros((0, 3, 3), np.int64), {}, "images > 0"),
        (np.zeros((3, 3), np.int64), {}, r"confusions of shape \(3, 3\)"),
        (np.ones((2, 3, 3), np.int64), {"samples": 0}, "samples 0"),
        (np.ones((2, 3, 3), np.int64), {"confidence": 95}, "confidence 95"),
    ],
)
def test_bootstrap_out_of_range(counts: np.ndarray, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(counts, seed=0, **options)
