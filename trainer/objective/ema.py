"""The exponential moving average of a model's weights, to evaluate and keep instead of the newest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf


class WeightAverages:
    """average = momentum * average + (1 - momentum) * weight after each update (Polyak and Juditsky 1992).

    Starts from the first weights; momentum grows as (1 + updates) / (10 + updates) up to its value, so that a short
    run's average is not that of its beginning (as in tf.train.ExponentialMovingAverage with `num_updates`). Moving
    statistics of batch normalization are averages already and are left as they are.

    To be made under the strategy, and used across its replicas.
    """

    def __init__(self, weights: Sequence[keras.Variable], momentum: float) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"momentum {momentum}: above 0 and below 1 was expected")
        self.momentum = momentum
        self._strategy = tf.distribute.get_strategy()
        self._weights = [weight.value for weight in weights]
        self.variables = [tf.Variable(tf.zeros(weight.shape, weight.dtype), trainable=False) for weight in weights]
        self.start()

    def start(self) -> None:
        """Makes the averages the weights as they are now."""
        _copy(self._weights, self.variables)

    def update(self, updates: tf.Tensor) -> None:
        """After the update number `updates` (from 1 on); in a tf.function."""
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
        """Puts the averages into the model while the block runs."""
        kept = [tf.identity(weight) for weight in self._weights]
        _copy(self.variables, self._weights)
        try:
            yield
        finally:
            _copy(kept, self._weights)


def _copy(values: Sequence[tf.Tensor | tf.Variable], variables: Sequence[tf.Variable]) -> None:
    for value, variable in zip(values, variables, strict=True):
        variable.assign(tf.convert_to_tensor(value))
