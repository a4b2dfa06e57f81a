from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.objective import class_weights as weighting
from trainer.objective.class_weights import CLASS_WEIGHTS, class_weights
from trainer.objective.losses import SegmentationLoss, mean_loss

CLASSES = 4
WEIGHTS = (0.5, 1.0, 3.0, 0.0)
LOSSES = {
    "entropy": SegmentationLoss(),
    "weighted": SegmentationLoss(class_weights=WEIGHTS),
    "top_k": SegmentationLoss(hard_pixel_fraction=0.3),
    "smoothed": SegmentationLoss(label_smoothing=0.1),
    "smoothed_weighted": SegmentationLoss(class_weights=WEIGHTS, label_smoothing=0.3),
    "lovasz": SegmentationLoss(terms={"lovasz": 1.0}),
    "dice": SegmentationLoss(terms={"dice": 1.0}),
    "all": SegmentationLoss(
        class_weights=WEIGHTS, label_smoothing=0.2, hard_pixel_fraction=0.25, terms={"lovasz": 0.7, "dice": 0.2}
    ),
}


def make_batch(images: int = 4, seed: int = 0, outputs: int = 2) -> tuple[np.ndarray, list[np.ndarray]]:
    """Unequal shares of ignored pixels; image 0 has none, image 1 nothing else; class 3 is absent from image 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (images, 6, 7))
    labels[rng.random(labels.shape) < 0.3] = IGNORE
    labels[0] = rng.integers(0, CLASSES, (6, 7))
    labels[1] = IGNORE
    labels[2][labels[2] == 3] = 0
    logits = [rng.normal(0, 2, (*labels.shape, CLASSES)).astype(np.float32) for _ in range(outputs)]
    return labels.astype(np.uint8), logits


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def oracle_lovasz(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """As in the authors' code: the Jaccard index along the sorted errors, and its differences."""
    losses = []
    for index in np.unique(truth):
        inside = (truth == index).astype(np.float64)
        errors = np.abs(inside - probabilities[:, index])
        order = np.argsort(-errors, kind="stable")
        inside = inside[order]
        jaccard = 1 - (inside.sum() - inside.cumsum()) / (inside.sum() + (1 - inside).cumsum())
        losses.append(errors[order] @ np.diff(jaccard, prepend=0.0))
    return float(np.mean(losses))


def oracle_dice(probabilities: np.ndarray, truth: np.ndarray) -> float:
    losses = []
    for index in np.unique(truth):
        inside, shown = (truth == index).astype(np.float64), probabilities[:, index]
        losses.append(1 - 2 * (inside * shown).sum() / (inside.sum() + shown.sum()))
    return float(np.mean(losses))


def oracle(loss: SegmentationLoss, labels: np.ndarray, outputs: list[np.ndarray], share: float | None = None) -> float:
    """float64, image by image."""
    weights = np.array(loss.class_weights if loss.class_weights is not None else [1.0] * CLASSES)
    share = loss.hard_pixel_fraction if share is None else share
    total = denominator = 0.0
    for index, mask in enumerate(labels):
        truth = mask[mask != IGNORE].astype(int)
        if not truth.size:
            continue
        weight = weights[truth].sum()
        denominator += weight
        for logits in outputs:
            probabilities = softmax(logits[index][mask != IGNORE].astype(np.float64))
            smoothed = (1 - loss.label_smoothing) * np.eye(CLASSES)[truth] + loss.label_smoothing / CLASSES
            entropies = -(smoothed * np.log(probabilities)).sum(-1)
            order = np.argsort(-(entropies * weights[truth]), kind="stable")
            kept = order[: int(np.ceil(np.float32(share) * np.float32(len(truth))))]
            total += weight * (entropies[kept] @ weights[truth[kept]]) / weights[truth[kept]].sum()
            total += weight * loss.terms.get("lovasz", 0) * oracle_lovasz(probabilities, truth)
            total += weight * loss.terms.get("dice", 0) * oracle_dice(probabilities, truth)
    return total / denominator


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_loss_is_that_of_numpy(name: str, seed: int):
    labels, outputs = make_batch(seed=seed)
    loss = LOSSES[name]
    assert float(mean_loss(*loss(labels, outputs))) == pytest.approx(oracle(loss, labels, outputs), rel=2e-6)


def test_entropy_is_the_mean_over_the_valid_pixels_of_the_batch():
    labels, outputs = make_batch(outputs=1)
    entropies = -np.log(softmax(outputs[0].astype(np.float64)))
    valid = labels != IGNORE
    expected = np.take_along_axis(entropies[valid], labels[valid][:, None].astype(int), 1).mean()
    loss_sum, weight_sum = SegmentationLoss()(labels, outputs)
    assert float(mean_loss(loss_sum, weight_sum)) == pytest.approx(expected, rel=1e-6)
    assert float(weight_sum) == valid.sum()


def test_smoothed_labels_are_weighted_as_by_keras():
    labels, (logits,) = make_batch(outputs=1)
    valid = labels != IGNORE
    truth, weights = labels[valid].astype(int), np.array(WEIGHTS)
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3, reduction="sum")
    expected = keras_loss(np.eye(CLASSES)[truth], logits[valid], sample_weight=weights[truth])
    loss_sum, weight_sum = LOSSES["smoothed_weighted"](labels, [logits])
    assert float(loss_sum) == pytest.approx(float(expected), rel=2e-6)
    assert float(weight_sum) == pytest.approx(weights[truth].sum(), rel=1e-6)


def test_smoothed_labels_of_one_class_are_as_they_were():
    labels = np.zeros((1, 2, 2), np.uint8)
    logits = np.full((1, 2, 2, 1), 7, np.float32)
    assert float(SegmentationLoss(label_smoothing=0.5)(labels, [logits])[0]) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_sums_do_not_depend_on_how_images_are_spread(name: str):
    labels, outputs = make_batch(images=5)
    whole = LOSSES[name](labels, outputs)
    for parts in ([[0], [1], [2], [3], [4]], [[4, 1], [0, 3, 2]], [[1], [0, 2, 3, 4]]):
        sums = [LOSSES[name](labels[part], [logits[part] for logits in outputs]) for part in parts]
        assert [float(sum(values)) for values in zip(*sums, strict=True)] == pytest.approx(
            [float(value) for value in whole], rel=1e-6
        )


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_do_not_depend_on_how_images_are_spread(name: str):
    labels, outputs = make_batch(images=5)
    total = LOSSES[name](labels, outputs)[1]
    whole = gradient(LOSSES[name], labels, outputs, total)
    parts = [
        gradient(LOSSES[name], labels[part], [x[part] for x in outputs], total) for part in (slice(0, 2), slice(2, 5))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-9)


def gradient(loss: SegmentationLoss, labels: np.ndarray, outputs: list[np.ndarray], total: tf.Tensor) -> np.ndarray:
    logits = [tf.constant(values) for values in outputs]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)[0] / total
    return np.stack([values.numpy() for values in tape.gradient(value, logits)], axis=1)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_gradient(name: str):
    labels, outputs = make_batch()
    outputs[0][labels == IGNORE] = np.inf
    outputs[1][labels == IGNORE] = np.nan
    total = LOSSES[name](labels, outputs)[1]
    found = np.moveaxis(gradient(LOSSES[name], labels, outputs, total), 1, 0)
    assert np.isfinite(found).all()
    assert (found[:, labels == IGNORE] == 0).all()
    assert (found[:, labels != IGNORE] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_slope(name: str):
    labels, outputs = make_batch(outputs=1)
    rng = np.random.default_rng(5)
    direction = rng.normal(size=outputs[0].shape)
    slope = (gradient(LOSSES[name], labels, outputs, LOSSES[name](labels, outputs)[1])[:, 0] * direction).sum()
    ahead, behind = ([outputs[0].astype(np.float64) + sign * 1e-6 * direction] for sign in (1, -1))
    measured = (oracle(LOSSES[name], labels, ahead) - oracle(LOSSES[name], labels, behind)) / 2e-6
    assert slope == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_valid_is_zero(name: str):
    labels, outputs = make_batch()
    labels[:] = IGNORE
    sums = LOSSES[name](labels, outputs)
    assert [float(value) for value in sums] == [0, 0]
    assert float(mean_loss(*sums)) == 0
    assert (gradient(LOSSES[name], labels, outputs, tf.constant(1.0)) == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_logits_are_computed_in_float32(name: str, dtype: str):
    labels, outputs = make_batch()
    halves = [tf.cast(logits, dtype) for logits in outputs]
    found = LOSSES[name](labels, halves)
    expected = LOSSES[name](labels, [tf.cast(logits, tf.float32) for logits in halves])
    assert all(value.dtype == tf.float32 for value in found)
    assert [float(value) for value in found] == [float(value) for value in expected]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("xla", [False, True])
def test_graph_is_eager(name: str, xla: bool):
    labels, outputs = make_batch()
    compiled = tf.function(LOSSES[name], jit_compile=xla)
    expected = [float(value) for value in LOSSES[name](labels, outputs)]
    found = compiled(tf.constant(labels), [tf.constant(logits) for logits in outputs])
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-6)


def test_unknown_sizes_are_fine_in_a_graph():
    labels, outputs = make_batch()
    signature = [tf.TensorSpec([None] * 3, tf.uint8), [tf.TensorSpec([None, None, None, CLASSES])] * 2]
    found = tf.function(LOSSES["all"], input_signature=signature)(labels, outputs)
    assert float(mean_loss(*found)) == pytest.approx(oracle(LOSSES["all"], labels, outputs), rel=2e-6)


def test_outputs_add_up():
    labels, outputs = make_batch(outputs=3)
    apart = [LOSSES["all"](labels, [logits]) for logits in outputs]
    loss_sum, weight_sum = LOSSES["all"](labels, outputs)
    assert float(loss_sum) == pytest.approx(sum(float(value[0]) for value in apart), rel=1e-6)
    assert float(weight_sum) == float(apart[0][1])


def test_pixels_that_tie_share_the_last_places():
    labels = np.zeros((1, 1, 8), np.uint8)
    logits = np.zeros((1, 1, 8, CLASSES), np.float32)
    logits[0, 0, 0, 1] = 5  # the hardest; the other seven tie
    loss = SegmentationLoss(hard_pixel_fraction=0.5)
    assert float(mean_loss(*loss(labels, [logits]))) == pytest.approx(oracle(loss, labels, [logits]), rel=1e-6)
    shares = gradient(loss, labels, [logits], tf.constant(8.0))[0, 0, 0, 1:, 0]
    assert shares == pytest.approx([-0.75 * 3 / 7 / 4] * 7, rel=1e-5)


def test_top_k_ramps_from_all_pixels():
    labels, outputs = make_batch()
    loss = SegmentationLoss(hard_pixel_fraction=0.25, hard_pixel_ramp_steps=100)
    for step, share in ((0, 1.0), (50, 0.625), (100, 0.25), (1000, 0.25)):
        found = float(mean_loss(*loss(labels, outputs, tf.constant(step, tf.int64))))
        assert found == pytest.approx(oracle(loss, labels, outputs, share), rel=2e-6)
    with pytest.raises(ValueError, match="hard_pixel_ramp_steps needs the step of the optimizer"):
        loss(labels, outputs)


def test_lovasz_is_exact_for_many_pixels():
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 512, 1024)) < 0.01).astype(np.uint8)
    logits = rng.normal(0, 1, (*labels.shape, 2)).astype(np.float32)
    loss_sum, weight_sum = SegmentationLoss(terms={"lovasz": 1.0})(labels, [logits])
    entropy_sum, _ = SegmentationLoss()(labels, [logits])
    expected = oracle_lovasz(softmax(logits.reshape(-1, 2).astype(np.float64)), labels.ravel())
    assert float((loss_sum - entropy_sum) / weight_sum) == pytest.approx(expected, rel=1e-5)


def test_perfect_logits_cost_nothing():
    labels, _ = make_batch()
    logits = np.where(labels[..., None] == np.arange(CLASSES), 200.0, 0.0).astype(np.float32)
    assert (
        float(mean_loss(*SegmentationLoss(hard_pixel_fraction=0.5, terms={"lovasz": 1, "dice": 1})(labels, [logits])))
        == 0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hard_pixel_fraction": 0}, "hard_pixel_fraction 0: expected above 0"),
        ({"label_smoothing": 1}, "label_smoothing 1: expected at least 0 and below 1"),
        ({"hard_pixel_fraction": 1.5}, r"hard_pixel_fraction 1\.5"),
        ({"terms": {"lovasz": -1}}, "lovasz -1: expected at least 0"),
        ({"terms": {"dice": float("nan")}}, "dice nan"),
        ({"terms": {"focal": 1}}, "unknown term .focal.; the terms are lovasz, dice"),
        ({"hard_pixel_ramp_steps": -1}, "hard_pixel_ramp_steps -1"),
        ({"class_weights": (1.0, -1.0)}, r"class_weights \[1\.0, -1\.0\]"),
    ],
)
def test_options_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(**options)


def test_class_weights_of_another_table():
    labels, outputs = make_batch()
    with pytest.raises(ValueError, match="2 class weights, but the logits have 4 channels"):
        SegmentationLoss(class_weights=(1.0, 1.0))(labels, outputs)


def test_class_weights_are_those_of_the_papers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weighting, "_BETA", 0.99)
    counts = [1000, 100, 0, 10]
    shares = np.array([1000, 100, 10]) / 1110
    present = [0, 1, 3]
    expected = {
        "none": np.ones(3),
        "median_frequency": shares[1] / shares,
        "enet": 1 / np.log(1.02 + shares),
        "effective_number": (1 - 0.99) / (1 - 0.99 ** np.array([1000, 100, 10])),
    }
    expected["effective_number"] /= expected["effective_number"].mean()
    assert set(expected) == set(CLASS_WEIGHTS)
    for scheme, values in expected.items():
        found = class_weights(counts, scheme)
        assert found.dtype == np.float32
        assert found[2] == 0
        np.testing.assert_allclose(found[present], values, rtol=1e-6)


@pytest.mark.parametrize("scheme", [name for name in CLASS_WEIGHTS if name != "none"])
def test_default_class_weights_raise_rare_classes_of_street_scenes(scheme: str):
    weights = class_weights([2_000_000_000, 30_000_000, 1_000_000], scheme)
    assert weights[0] < weights[1] < weights[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], "enett"), "class weights 'enett': expected one of none, median_frequency"),
        (([0, 0], "enet"), r"class_pixels \[0, 0\]"),
        (([1, -1], "enet"), r"class_pixels \[1, -1\]"),
    ],
)
def test_class_weights_out_of_range(arguments: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        class_weights(*arguments)
