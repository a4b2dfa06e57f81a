from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.builds import PROJECT
from trainer.objective.ema import WeightAverages


def average_of_numpy(weights: Sequence[np.ndarray] | np.ndarray, momentum: float) -> np.ndarray:
    """Of the weights before the first update and after each, in float64."""
    average = weights[0].astype(np.float64)
    for count, weight in enumerate(weights[1:], 1):
        share = min(momentum, (1 + count) / (10 + count))
        average = share * average + (1 - share) * weight
    return average


def make_weights(dtype: str = "float32") -> list[keras.Variable]:
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape), dtype=dtype) for shape in ((3, 2), (), (5,))]


def train(averages: WeightAverages, weights: list[keras.Variable], updates: int) -> list[list[np.ndarray]]:
    """Changes the weights at random, `updates` times. -> what each weight was before the first and after each."""
    rng = np.random.default_rng(1)
    update = tf.function(averages.update)
    seen = [[weight.numpy()] for weight in weights]
    for count in range(1, updates + 1):
        for weight, values in zip(weights, seen, strict=True):
            weight.assign(rng.normal(size=weight.shape))
            values.append(weight.numpy())
        update(tf.constant(count, tf.int64))
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("momentum", "updates"), [(0.999, 50), (0.5, 20), (0.15, 1), (0.9, 0)])
def test_the_average_is_that_of_the_recursion(momentum: float, updates: int, dtype: str):
    weights = make_weights(dtype)
    averages = WeightAverages(weights, momentum)
    seen = train(averages, weights, updates)
    for average, values in zip(averages.variables, seen, strict=True):
        assert average.dtype == dtype
        np.testing.assert_allclose(average.numpy(), average_of_numpy(values, momentum), rtol=1e-5, atol=1e-6)


def test_the_oracle_is_that_of_tensorflow():
    """tf.train.ExponentialMovingAverage with num_updates grows its momentum in the same way."""
    variable, reference = tf.Variable(1.0), tf.train.ExponentialMovingAverage(0.9, num_updates=1)
    reference.apply([variable])
    weight = keras.Variable(1.0)
    averages = WeightAverages([weight], 0.9)
    variable.assign(3.0)
    weight.assign(3.0)
    reference.apply([variable])
    averages.update(tf.constant(1))
    found = averages.variables[0].numpy()
    assert found == pytest.approx(reference.average(variable).numpy(), rel=1e-6)
    assert found == pytest.approx(average_of_numpy([np.array(1.0), np.array(3.0)], 0.9), rel=1e-6)


def test_averages_can_start_again():
    weights = make_weights()
    averages = WeightAverages(weights, 0.9)
    for weight in weights:
        weight.assign(np.full(weight.shape, 7.0))
    averages.start()
    assert all((average.numpy() == 7).all() for average in averages.variables)


def test_the_model_has_the_averages_for_a_while():
    weights = make_weights()
    averages = WeightAverages(weights, 0.9)
    newest = [values[-1] for values in train(averages, weights, 5)]
    expected = [average.numpy() for average in averages.variables]
    with averages.applied():
        for weight, average in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(weight.numpy(), average)
    for weight, average, before, after in zip(weights, averages.variables, newest, expected, strict=True):
        np.testing.assert_array_equal(weight.numpy(), before)
        np.testing.assert_array_equal(average.numpy(), after)


def test_the_newest_weights_come_back_after_an_error():
    weights = make_weights()
    averages = WeightAverages(weights, 0.9)
    newest = [values[-1] for values in train(averages, weights, 5)]
    with pytest.raises(ZeroDivisionError), averages.applied():
        raise ZeroDivisionError
    for weight, before in zip(weights, newest, strict=True):
        np.testing.assert_array_equal(weight.numpy(), before)


@pytest.mark.parametrize("momentum", [0, 1, -0.5, 1.5])
def test_a_momentum_out_of_its_range_is_refused(momentum: float):
    with pytest.raises(ValueError, match=f"^momentum {momentum}: expected above 0 and below 1$"):
        WeightAverages(make_weights(), momentum)


# Saves what each replica has of the weight before the first update and after each, of its average, and what the model
# predicts with the averages and without.
TWO_REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf
from trainer.objective.ema import WeightAverages
from trainer.training.devices import make_strategy

strategy = make_strategy("mirrored", logical_devices=2)
rng = np.random.default_rng(0)
images = rng.normal(size=(4, 3)).astype(np.float32)
with strategy.scope():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(inputs))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    averages = WeightAverages(model.trainable_variables, 0.6)
(weight,), (average,) = model.trainable_variables, averages.variables

@tf.function
def update(gradient):
    strategy.run(lambda: optimizer.apply([tf.identity(gradient)], [weight]))
    averages.update(optimizer.iterations)

def on_replicas(value):
    return np.array([each.numpy() for each in strategy.experimental_local_results(value)])

def predict():
    return on_replicas(strategy.run(lambda: model(images)))

weights = [on_replicas(weight.value)]
for _ in range(8):
    update(tf.constant(rng.normal(size=(3, 2)), tf.float32))
    weights.append(on_replicas(weight.value))
with averages.applied():
    averaged = predict()
np.savez(
    sys.argv[1], images=images, weights=weights, average=on_replicas(average), averaged=averaged, newest=predict()
)
"""


@pytest.mark.slow
def test_two_replicas_have_one_average(tmp_path: Path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", TWO_REPLICAS, str(tmp_path / "found.npz")]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        images, weights = found["images"], found["weights"]
        assert weights.shape == (9, 2, 3, 2)  # updates, replicas, and the weight's own
        for replica in range(2):
            np.testing.assert_array_equal(weights[:, replica], weights[:, 0])
            expected = average_of_numpy(weights[:, replica], 0.6)
            assert np.abs(expected - weights[-1, replica]).max() > 0.1
            np.testing.assert_allclose(found["average"][replica], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found["averaged"][replica], images @ expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found["newest"][replica], images @ weights[-1, replica], rtol=1e-4, atol=1e-5)
