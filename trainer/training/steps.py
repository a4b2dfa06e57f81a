"""Updates of the weights, several per call; the same for any number of replicas, hosts and accumulated batches.

    gradient = sum over all images of grad(loss_sum) / sum over all images of weight_sum

Each replica adds up the gradients of its sums. When the batches of an update are complete, the sums of all replicas are
reduced and divided, so that a pixel counts the same wherever its image is computed (see trainer/objective/losses.py).

AutoGraph converts the loop over updates, and nothing below it: where no branch or loop depends on a tensor, converting
the source would only delay the first update, by seconds. The same holds for evaluation, export and the input pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.normalization import Normalization
from trainer.data.records import normalize
from trainer.evaluation.measures import confusion
from trainer.models import as_list
from trainer.objective.losses import SegmentationLoss, mean_loss
from trainer.training.devices import Batches
from trainer.training.learner import Learner

_SUM = tf.distribute.ReduceOp.SUM


@dataclass(frozen=True, kw_only=True, eq=False)
class Updates:
    """The results of `count` updates, over all replicas and hosts.

    Attributes:
      losses: float32[count], the mean loss of each global batch.
      finite: bool[count], whether the loss and the gradients were finite.
      confusion: int64[C, C], from the predictions during the updates; rows are the truth.
      stop: whether any host was asked to stop.
      seconds: per update, the mean of all hosts.
    """

    losses: np.ndarray
    finite: np.ndarray
    confusion: np.ndarray
    stop: bool
    seconds: float


class TrainSteps:
    """Takes updates of `learner`. Create it in the scope of `strategy`.

    Args:
      pixels: approximate number of pixels in a global batch. Dividing by this constant keeps float16 gradients small
        until the exact weight of the batch is known.
      normalization: of batches whose images are uint8: they are normalized where they are computed with, in float32.
      xla: compile the forward and backward pass with XLA.
    """

    def __init__(
        self,
        learner: Learner,
        loss: SegmentationLoss,
        strategy: tf.distribute.Strategy,
        batches: Batches,
        *,
        pixels: int,
        normalization: Normalization | None = None,
        xla: bool = False,
    ) -> None:
        model, optimizer = learner.model, learner.optimizer
        self._model, self._optimizer, self._averages = model, optimizer, learner.averages
        self._loss, self._strategy, self._batches = loss, strategy, batches
        # Tensors, not constants: those of a model's first layer could be multiplied with constants beforehand, which
        # changes rounding. For the same reason, `xla` leaves out the normalization.
        self._shift_and_factor = (
            None if normalization is None else [*map(tf.constant, normalization.shift_and_factor())]
        )
        self._scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        self._pixels = float(pixels)
        self._weights = model.trainable_variables
        self._classes = as_list(model.outputs)[0].shape[-1]
        self._gradients = [_local_sum(weight.shape, weight.dtype) for weight in self._weights]
        self._sums = _local_sum([2], tf.float32)  # loss_sum, weight_sum
        self._confusion = _local_sum([self._classes, self._classes], tf.int64)
        self._backward: Callable[..., Any] = (
            tf.function(self._gradients_of, autograph=False, jit_compile=True) if xla else self._gradients_of
        )
        self._run = tf.function(self._several)

    def __call__(self, batches: Any, count: int, *, stop: bool = False, seconds: float = 0.0) -> Updates:
        """Takes `count` updates with batches of the distributed iterator `batches`.

        `count` must be the same on all hosts. `stop` and `seconds` (per update, on this host) are reduced over all
        hosts, so that they take the same decisions.
        """
        signals = tf.constant([float(stop), seconds], tf.float32)
        results, confusion, heard = self._run(batches, tf.constant(count), signals)
        losses, finite = results.numpy().T
        stops, total_seconds = heard.numpy()
        return Updates(
            losses=losses,
            finite=finite > 0,
            confusion=confusion.numpy(),
            stop=bool(stops > 0),
            seconds=float(total_seconds) / self._batches.replicas,
        )

    def _several(self, batches: Any, count: tf.Tensor, signals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """-> float32[count, 2] of loss and finite, the confusion, the sum of `signals`."""
        results = tf.TensorArray(tf.float32, count, element_shape=[2])
        for index in tf.range(count):
            for _ in tf.range(self._batches.accumulate):
                self._strategy.run(self._add_batch, args=(next(batches),))
            results = results.write(index, self._first(self._strategy.run(self._apply)))
            if self._averages is not None:
                self._averages.update(self._optimizer.iterations)
        confusion, heard = self._strategy.run(self._collect, args=(signals,))
        return results.stack(), self._first(confusion), self._first(heard)

    def _first(self, value: Any) -> tf.Tensor:
        """The value on the first replica; it is the same on all."""
        return self._strategy.experimental_local_results(value)[0]

    @tf.autograph.experimental.do_not_convert
    def _add_batch(self, batch: dict[str, tf.Tensor]) -> None:
        gradients, sums, confusion = self._backward(self._normalized(batch["image"]), batch["mask"])
        for total, gradient in zip(self._gradients, gradients, strict=True):
            total.assign_add(gradient)
        self._sums.assign_add(sums)
        self._confusion.assign_add(confusion)

    def _normalized(self, images: tf.Tensor) -> tf.Tensor:
        if images.dtype != tf.uint8:
            return images
        if self._shift_and_factor is None:
            raise ValueError("the images are uint8: pass the normalization of the data set to TrainSteps")
        return normalize(images, *self._shift_and_factor)

    def _gradients_of(self, images: tf.Tensor, masks: tf.Tensor) -> tuple[Sequence[tf.Tensor], tf.Tensor, tf.Tensor]:
        """-> the gradients of the scaled loss sum; loss and weight sum, float32[2]; the confusion, int64[C, C]."""
        with tf.GradientTape() as tape:
            outputs = as_list(self._model(images, training=True))
            loss_sum, weight_sum = self._loss(masks, outputs, self._optimizer.iterations)
            small = loss_sum / self._pixels
            if self._scaled:
                small = self._optimizer.scale_loss(small)
        gradients = tape.gradient(small, [weight.value for weight in self._weights])
        predictions = tf.argmax(outputs[0], -1, output_type=tf.int32)
        counts = confusion(masks, predictions, self._classes)
        return gradients, tf.stack([loss_sum, weight_sum]), counts

    @tf.autograph.experimental.do_not_convert
    def _apply(self) -> tf.Tensor:
        """Applies the gradients of all replicas. -> float32[2]: the loss, and 1 if everything was finite, else 0."""
        context = tf.distribute.get_replica_context()
        sums = self._sums.read_value()
        finite = tf.math.is_finite(sums[0])
        if self._scaled:  # an overflow skips the update and halves the scale; below 1 that no longer helps
            finite &= self._optimizer.dynamic_scale.value >= 1.0
        else:
            finite &= tf.reduce_all([tf.math.is_finite(tf.reduce_sum(total.read_value())) for total in self._gradients])
        local = tf.concat([sums, [tf.cast(finite, tf.float32)]], 0)
        loss_sum, weight_sum, replicas = tf.unstack(context.all_reduce(_SUM, local))
        self._optimizer.apply(self._global_gradients(weight_sum), self._weights)
        for total in (*self._gradients, self._sums):
            total.assign(tf.zeros_like(total))
        return tf.stack([mean_loss(loss_sum, weight_sum), tf.cast(replicas == self._batches.replicas, tf.float32)])

    def _global_gradients(self, weight_sum: tf.Tensor) -> list[tf.Tensor]:
        """The gradients of this replica, scaled for the optimizer, which sums them over replicas."""
        factor = tf.math.divide_no_nan(self._pixels, weight_sum)
        gradients = [total.read_value() * tf.cast(factor, total.dtype) for total in self._gradients]
        if not self._scaled:
            return gradients
        # All replicas must agree on whether there was an overflow.
        context = tf.distribute.get_replica_context()
        return [gradient / self._batches.replicas for gradient in context.all_reduce(_SUM, gradients)]

    @tf.autograph.experimental.do_not_convert
    def _collect(self, signals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        confusion = context.all_reduce(_SUM, self._confusion.read_value())
        self._confusion.assign(tf.zeros_like(self._confusion))
        return confusion, context.all_reduce(_SUM, tf.identity(signals))  # a copy on this device


def _local_sum(shape: Any, dtype: Any) -> tf.Variable:
    """A variable of which each replica has its own value."""
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
