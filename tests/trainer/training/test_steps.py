"""Updates: accumulated, in calls of several, scaled, averaged, compiled, over replicas; against plain arithmetic."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.support.builds import PROJECT
from tests.support.updates import Training, assert_close, build_model, examples


@pytest.fixture(scope="module")
def plain() -> tuple[list[np.ndarray], list[float]]:
    """Three updates by hand: momentum, and the mean over the valid pixels of the batch. -> weights, losses."""
    model = build_model("float32")
    velocities = [np.zeros(weight.shape, np.float32) for weight in model.trainable_variables]
    losses: list[float] = []
    for images, masks in zip(*examples(), strict=True):
        if len(losses) == 3:
            break
        with tf.GradientTape() as tape:
            valid = masks != 255
            logits = tf.boolean_mask(model(images), valid)
            entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(masks[valid].astype(np.int32), logits)
            loss = tf.reduce_mean(entropies)
        gradients = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
        for index, (weight, gradient) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
            velocities[index] = 0.9 * velocities[index] - 0.5 * gradient.numpy()
            weight.assign_add(velocities[index])
        losses.append(float(loss))
    return [np.array(weight) for weight in model.get_weights()], losses


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("counts", [(3,), (1, 2)])
def test_updates_are_those_of_the_whole_batch(plain: Any, accumulate: int, counts: tuple[int, ...]) -> None:
    training = Training(accumulate=accumulate)
    updates = training.run(*counts)
    assert_close(training.weights, plain[0])
    np.testing.assert_allclose(np.concatenate([each.losses for each in updates]), plain[1], atol=1e-6)
    assert all(each.finite.all() for each in updates)


def test_a_compiled_step_gives_the_same(plain: Any) -> None:
    training = Training(xla=True)
    training.run(3)
    assert_close(training.weights, plain[0], atol=1e-5)


def test_scaled_float16_gives_nearly_the_same(plain: Any) -> None:
    training = Training(policy="mixed_float16", accumulate=2)
    (updates,) = training.run(3)
    assert updates.finite.all()
    assert_close(training.weights, plain[0], atol=0.02)
    assert not np.allclose(training.weights[0], build_model("float32").get_weights()[0], atol=0.02), "it moved"


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_what_is_frozen_stays_and_is_in_no_slot_and_no_average(policy: str) -> None:
    free, frozen = Training(policy=policy, ema=0.5), Training(policy=policy, ema=0.5, is_frozen=True)
    before = frozen.weights
    frozen.run(2)
    assert_close(frozen.weights[:2], before[:2], atol=0)
    assert all(np.abs(mine - theirs).max() > 1e-3 for mine, theirs in zip(frozen.weights[2:], before[2:], strict=True))
    assert len(free.optimizer.variables) - len(frozen.optimizer.variables) == 2
    assert free.averages is not None
    assert frozen.averages is not None
    assert (len(free.averages.variables), len(frozen.averages.variables)) == (4, 2)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_multiplier_is_felt_by_its_variables_only(policy: str, xla: bool) -> None:
    """In the first update: later ones see other gradients."""
    plain, slow = Training(policy=policy, xla=xla), Training(policy=policy, xla=xla, multiplier=0.25)
    before = plain.weights
    plain.run(1)
    slow.run(1)
    moved, moved_slowly = ([a - b for a, b in zip(each.weights, before, strict=True)] for each in (plain, slow))
    assert_close(moved_slowly[:2], [0.25 * each for each in moved[:2]])
    assert_close(moved_slowly[2:], moved[2:], atol=0)


def test_the_confusion_counts_the_valid_pixels_once() -> None:
    training = Training(accumulate=2)
    _, masks = examples()
    first, second = training.run(1, 2)
    assert first.confusion.sum() == (masks[0] != 255).sum()
    np.testing.assert_array_equal(second.confusion.sum(axis=1), np.bincount(masks[1:3][masks[1:3] != 255]))


def test_all_ignored_changes_nothing() -> None:
    training = Training()
    before = training.weights
    images, masks = examples()
    (updates,) = training.run(2, data=(images, np.full_like(masks, 255)))
    assert updates.losses.tolist() == [0, 0]
    assert updates.finite.all()
    assert_close(training.weights, before, atol=0)


def test_what_is_not_finite_is_found_in_its_update() -> None:
    images, masks = examples()
    images[2, 1, 0, 0, 0] = np.inf
    (updates,) = Training().run(4, data=(images, masks))
    assert updates.finite.tolist() == [True, True, False, False]


def test_scaled_float16_skips_an_overflow_and_goes_on() -> None:
    training = Training(policy="mixed_float16")
    images, masks = examples()
    training.optimizer.dynamic_scale.assign(1e30)
    before = training.weights
    training.run(1, data=(images, masks))
    assert_close(training.weights, before, atol=0)
    assert float(training.optimizer.dynamic_scale) == pytest.approx(5e29)


def test_signals_come_back() -> None:
    training = Training()
    (quiet,) = training.run(1, seconds=0.25)
    (loud,) = training.run(1, stop=True)
    assert (quiet.stop, quiet.seconds, loud.stop) == (False, 0.25, True)


REPLICAS = """
import sys
import numpy as np
from trainer.training.devices import make_strategy
strategy = make_strategy("mirrored", logical_devices=2)
from beam_pipelines.contract.normalization import Normalization
from tests.support.updates import Training, assert_close
cases = [
    {"normalization": Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))},
    {},
    {"accumulate": 2, "clip_norm": 0.05, "ema": 0.5},
    {"policy": "mixed_float16"},
    {"multiplier": 0.1, "clip_norm": 0.05, "ema": 0.5},
    {"multiplier": 0.1, "policy": "mixed_float16"},
    {"is_frozen": True, "clip_norm": 0.05, "ema": 0.5},
    {"is_frozen": True, "policy": "mixed_float16"},
]
for options in cases:
    one, two = Training(**options), Training(strategy=strategy, **options)
    mine, theirs = one.run(1, 2), two.run(1, 2)
    assert_close(one.weights, two.weights, atol=2e-3 if "policy" in options else 1e-6)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.losses, b.losses, atol=2e-3 if "policy" in options else 1e-6)
    if one.averages:
        assert_close([v.numpy() for v in one.averages.variables], [v.numpy() for v in two.averages.variables])
        assert not np.allclose(one.averages.variables[-1].numpy(), one.weights[-1])
    two.run(1, stop=True)[0].stop or sys.exit("the stop was not heard")
    print(options, "same")
"""


def test_two_replicas_do_as_one() -> None:
    line = [sys.executable, "-c", REPLICAS]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 8
