"""Scores a model on a split: each image exactly once, on any number of replicas and hosts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Manifest
from trainer.data.batches import evaluation_batches
from trainer.data.dataset import Split, share_of, steps_of_epoch
from trainer.evaluation.metrics import Intervals, Scores, bootstrap_interval, confusions
from trainer.inference.logits import predict_logits
from trainer.inference.model_file import Description
from trainer.inference.views import WHOLE, Views
from trainer.objective.losses import SegmentationLoss

Progress = Callable[[int, int], None]  # (images of this host so far, all images of this host)

_NAME_BYTES = 1024  # of a key: the limit for names of objects in a bucket


class EvaluationError(UserError, ValueError):
    """A model, a split and settings that do not fit together; the message says how to fix it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The result of a model on a split. With several hosts, `filenames` and `confusions` are those of this host.

    Attributes:
      split: name of the split.
      labels: the table of the C classes.
      filenames: of the N images, in stored order.
      confusions: int64[N, C, C], one matrix for each image; rows are the truth.
      confusion: int64[C, C], the exact sum over the images of all hosts.
      loss: mean cross entropy of the valid pixels of all hosts, in nats, for any training loss; NaN if no pixel is
        valid.
      views: what the model saw of each image; see `predict_logits`.
    """

    split: str
    labels: LabelTable
    filenames: tuple[str, ...]
    confusions: np.ndarray
    confusion: np.ndarray
    loss: float
    views: Views

    @functools.cached_property
    def scores(self) -> Scores:
        """The scores of all hosts."""
        return Scores(confusion=self.confusion, labels=self.labels)

    @functools.cached_property
    def image_scores(self) -> tuple[Scores, ...]:
        """The scores of each image of this host."""
        return tuple(Scores(confusion=counts, labels=self.labels) for counts in self.confusions)

    @functools.cached_property
    def intervals(self) -> Intervals:
        """95 % confidence intervals, over the images of this host."""
        return bootstrap_interval(self.confusions, seed=0)


def evaluate(
    model: keras.Model,
    split: Split,
    *,
    batch: int,
    strategy: tf.distribute.Strategy,
    views: Views = WHOLE,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Evaluates `model` once; see `Evaluator`."""
    return Evaluator(model, split, batch=batch, strategy=strategy, views=views)(on_progress)


class EvaluationStoppedError(Exception):
    """An evaluation was asked to stop, on this host or on another one."""


class Evaluator:
    """Evaluates `model` on `split`, with its current weights at each call. Only the first call traces the graph.

    Create the model in the scope of the strategy. With several hosts, all must make the same calls; each reads its own
    shards: see `share_of`.

    Args:
      batch: images on each replica at a time; 1 for images of several sizes. The result does not depend on it.
      views: see `predict_logits`.

    Raises:
      EvaluationError: the model does not have an output for each class, or takes images of one size only and a scale
        is not 1.
      DatasetError: there are fewer shards than hosts.
    """

    def __init__(
        self,
        model: keras.Model,
        split: Split,
        *,
        batch: int,
        strategy: tf.distribute.Strategy,
        views: Views = WHOLE,
    ) -> None:
        _check(model, split, views.scales)
        self._model = model
        self._split = split
        self._batch = batch if split.manifest.pixels.uniform else 1
        self._strategy = strategy
        self._views = views
        self._labels = split.manifest.labels
        self._images = 0  # of this host
        self._steps = 0
        self._iterator: Iterator[Any] | None = None
        self._batches = strategy.distribute_datasets_from_function(self._read)
        signature = [self._batches.element_spec, tf.TensorSpec([], tf.bool)]
        self._step = tf.function(self._evaluate_batches, input_signature=signature, autograph=False)

    def __call__(
        self, on_progress: Progress | None = None, is_asked_to_stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """Evaluates the split.

        Raises:
          EvaluationStoppedError: `is_asked_to_stop` returned true on one of the hosts; all of them raise it.
          tf.errors.DataLossError: a record is damaged; `trainer.data.corrupt.diagnosis` finds it.
        """
        classes = self._labels.num_classes
        total, losses = np.zeros((classes, classes), np.int64), np.zeros(2)
        rows: dict[int, tuple[str, np.ndarray]] = {}
        for batches in self._one_pass():
            counts, step_total, step_losses, stops = self._step(batches, tf.constant(is_asked_to_stop()))
            if stops:
                raise EvaluationStoppedError
            total += step_total.numpy()
            losses += step_losses.numpy()
            positions, names, counts = map(self._gather, (batches["position"], batches["name"], counts))
            rows |= {
                int(position): (bytes(name).rstrip(b"\0").decode(errors="replace"), count)
                for position, name, count in zip(positions, names, counts, strict=True)
                if position >= 0
            }
            if on_progress is not None:
                on_progress(len(rows), self._images)
        ordered = [rows[position] for position in sorted(rows)]
        return Evaluation(
            split=_name_of(self._split),
            labels=self._labels,
            filenames=tuple(name for name, _ in ordered),
            confusions=np.stack([count for _, count in ordered]),
            confusion=total,
            loss=float(losses[0] / losses[1]) if losses[1] else math.nan,
            views=self._views,
        )

    def _one_pass(self) -> Iterator[Any]:
        """The batches of the split, once. Unless this is broken off, its iterator goes on with the next pass.

        A new one for each pass would have to be ended, which may take long (`trainer.data.pipeline`): the part of it
        that copies batches to devices is TensorFlow's own, and is always tuned.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            iterator = iter(self._batches)
        for _ in range(self._steps):
            yield next(iterator)
        self._iterator = iterator

    @tf.autograph.experimental.do_not_convert
    def _read(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The images of this host, pass after pass, as batches for its replicas. In a pass, all replicas of all hosts
        get the same number.

        File names are bytes padded with zeros, since accelerators can't hold strings.
        """
        pipelines = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // pipelines
        share = share_of(self._split, pipelines, context.input_pipeline_id)
        self._images = share.examples
        self._steps = steps_of_epoch(self._split, pipelines, self._batch * replicas)

        def pick(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            name = tf.io.decode_raw(example["filename"], tf.uint8, fixed_length=_NAME_BYTES)
            return {"name": name, **{key: example[key] for key in ("image", "mask", "position")}}

        # Endless: otherwise, several hosts would agree before each batch on whether there is one more.
        return evaluation_batches(share, self._batch, self._steps * replicas).map(pick).repeat()

    def _evaluate_batches(self, batches: dict[str, Any], stop: tf.Tensor) -> tuple[Any, ...]:
        """A batch for each replica -> the counts int64[batch, C, C] of each, and sums over the replicas of all hosts:
        counts int64[C, C], losses float32[2], and the number of replicas that were asked to stop.
        """
        counts, *parts = self._strategy.run(self._evaluate_batch, args=(batches["image"], batches["mask"], stop))
        total, losses, stops = (self._strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in parts)
        return counts, total, losses, stops

    def _evaluate_batch(self, images: tf.Tensor, mask: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One replica -> counts int64[batch, C, C], their sum, [sum of losses, sum of weights], `stop` as 0 or 1."""
        logits = predict_logits(self._model, images, self._views)
        counts = confusions(mask, tf.argmax(logits, axis=-1, output_type=tf.int32), self._labels.num_classes)
        losses = tf.stack(SegmentationLoss()(mask, [logits]))
        return counts, tf.reduce_sum(counts, axis=0), losses, tf.cast(stop, tf.int32)

    def _gather(self, values: Any) -> np.ndarray:
        """The concatenated values of the replicas of this host."""
        return np.concatenate([part.numpy() for part in self._strategy.experimental_local_results(values)])


def renormalized(model: keras.Model, description: Description, manifest: Manifest) -> keras.Model:
    """A model for images that are normalized as in `manifest`, if that differs from what `model` was trained on."""
    scale, offset = manifest.moments.normalization.change_to(description.normalization)
    if (scale == 1).all() and (offset == 0).all():
        return model
    images = keras.Input(model.input_shape[1:], name="images")
    rescaled = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(images)
    return keras.Model(images, model(rescaled))


def _check(model: keras.Model, split: Split, scales: tuple[float, ...]) -> None:
    classes, channels = split.manifest.labels.num_classes, model.outputs[0].shape[-1]
    if channels != classes:
        raise EvaluationError(
            f"the model has {channels} classes, but {split.folder} has {classes}: use the data set that the model was "
            "trained on, or one built with the same --labels"
        )
    height, width = model.input_shape[1:3]
    if (height, width) != (None, None) and set(scales) != {1}:
        raise EvaluationError(
            f"the model takes images of {height}x{width} only, so scales {list(scales)} are not possible: use scale 1"
        )


def _name_of(split: Split) -> str:
    """The name of the split in the manifest."""
    mine = split.shards[0].file
    return next(name for name, shards in split.manifest.splits.items() if mine in {shard.file for shard in shards})
