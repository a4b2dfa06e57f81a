"""The exponential moving average of a model's weights, to evaluate and save instead of the current weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf


class WeightAverages:
    """average = momentum * average + (1 - momentum) * weight after each update (Polyak and Juditsky 1992).

    Starts from the initial weights. The momentum grows as (1 + updates) / (10 + updates) up to its value, as in
    tf.train.ExponentialMovingAverage with `num_updates`, so that a short run does not average mostly its beginning.
    Moving statistics of batch normalization, which are averages already, are not averaged.

    Create it in the scope of the strategy, and use it in the cross-replica context.
    """

    def __init__(self, weights: Sequence[keras.Variable], momentum: float) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"momentum {momentum}: expected above 0 and below 1")
        self.momentum = momentum
        self._strategy = tf.distribute.get_strategy()
        self._weights = [weight.value for weight in weights]
        self.variables = [tf.Variable(tf.zeros(weight.shape, weight.dtype), trainable=False) for weight in weights]
        self.start()

    def start(self) -> None:
        """Sets the averages to the current weights."""
        _copy(self._weights, self.variables)

    def update(self, updates: tf.Tensor) -> None:
        """Updates the averages after update number `updates` (from 1); call it in a tf.function."""
        count = tf.cast(updates, tf.float32)
        momentum = tf.minimum(self.momentum, (1.0 + count) / (10.0 + count))
        for average, weight in zip(self.variables, self._weights, strict=True):
            self._strategy.extended.update(
                average,
                lambda old, new: old.assign_add((1.0 - tf.cast(momentum, old.dtype)) * (new - old)),
                args=(weight,),
            )

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the weights of the model by the averages during the block."""
        kept = [tf.identity(weight) for weight in self._weights]
        _copy(self.variables, self._weights)
        try:
            yield
        finally:
            _copy(kept, self._weights)


def _copy(values: Sequence[tf.Tensor | tf.Variable], variables: Sequence[tf.Variable]) -> None:
    for value, variable in zip(values, variables, strict=True):
        variable.assign(tf.convert_to_tensor(value))
