"""Scores a model on a split: each image exactly once, on any number of replicas and hosts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.data.batches import evaluation_batches
from trainer.data.dataset import Split, share_of, steps_of_epoch
from trainer.evaluation.calibration import bins_of_levels
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.measures import measure
from trainer.evaluation.results import ImageResults
from trainer.evaluation.sizes import segmenter_of
from trainer.inference.logits import logarithm
from trainer.inference.model_file import Description
from trainer.inference.segmenter import most_probable
from trainer.inference.views import WHOLE, Views, shown
from trainer.inference.windows import check_window, own_size
from trainer.objective.losses import SegmentationLoss

Progress = Callable[[int, int], None]  # (images of this host so far, all images of this host)
Take = Callable[[str, np.ndarray], None]  # (file name of an image, its predicted train ids uint8[H, W])

_NAME_BYTES = 1024  # of a key: the limit for names of objects in a bucket


class EvaluationError(UserError, ValueError):
    """A model, a split and settings that do not fit together; the message says how to fix it."""


def evaluate(
    model: keras.Model,
    split: Split,
    *,
    batch: int,
    strategy: tf.distribute.Strategy,
    views: Views = WHOLE,
    description: Description | None = None,
    take: Take | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Evaluates `model` once; see `Evaluator`."""
    evaluator = Evaluator(model, split, batch=batch, strategy=strategy, views=views, description=description, take=take)
    return evaluator(on_progress)


class EvaluationStoppedError(Exception):
    """An evaluation was asked to stop, on this host or on another one."""


class Evaluator:
    """Evaluates `model` on `split`, with its current weights at each call. Only the first call traces the graph.

    Create the model in the scope of the strategy. With several hosts, all must make the same calls; each reads its own
    shards: see `share_of`.

    Args:
      batch: images on each replica at a time; 1 for images of several sizes. The result does not depend on it.
      views: what the model sees of each image; see `predict_logits`.
      description: of a model that was trained on another data set; see `trainer.evaluation.sizes`.
      take: gets the prediction of each image of this host.

    Raises:
      EvaluationError: the model does not have an output for each class, or takes images of one size only and a scale
        is not 1.
      ViewsError: the model does not take windows of this size, or an image would have too many.
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
        description: Description | None = None,
        take: Take | None = None,
    ) -> None:
        _check(model, split, views)
        self._segmenter = segmenter_of(model, split.manifest, description, views)
        self._split = split
        self._batch = batch if split.manifest.pixels.uniform else 1
        self._strategy = strategy
        self._views = views
        self._take = take
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
        rows: dict[int, tuple[str, dict[str, Any]]] = {}
        for batches in self._one_pass():
            for images in self._strategy.experimental_local_results(batches["image"]):
                self._views.check_windows(images.shape[1:3])
            found, step_total, step_losses, stops = self._step(batches, tf.constant(is_asked_to_stop()))
            if stops:
                raise EvaluationStoppedError
            total += step_total.numpy()
            losses += step_losses.numpy()
            rows |= self._rows(batches, found)
            if on_progress is not None:
                on_progress(len(rows), self._images)
        names, measured = zip(*(rows[position] for position in sorted(rows)), strict=True)
        return Evaluation(
            split=_name_of(self._split),
            labels=self._labels,
            images=ImageResults.of_rows(names, measured),
            confusion=total,
            loss=float(losses[0] / losses[1]) if losses[1] else math.nan,
            views=self._views,
        )

    def _rows(self, batches: dict[str, Any], found: dict[str, Any]) -> dict[int, tuple[str, dict[str, Any]]]:
        """The images of this host in a step: position -> (file name, what was measured)."""
        positions, names = self._gather(batches["position"]), self._gather(batches["name"])
        columns = {key: self._listed(values) for key, values in found.items()}
        columns["calibration"] = [bins_of_levels(levels) for levels in columns.pop("levels")]  # a 67th of their size
        rows = {
            int(position): (
                bytes(name).rstrip(b"\0").decode(errors="replace"),
                {key: values[place] for key, values in columns.items()},
            )
            for place, (position, name) in enumerate(zip(positions, names, strict=True))
            if position >= 0
        }
        if self._take is not None:
            for name, measured in rows.values():
                self._take(name, measured.pop("prediction"))
        return rows

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
        """A batch for each replica -> what `measure` finds of each, and sums over the replicas of all hosts: counts
        int64[C, C], losses float32[2], and the number of replicas that were asked to stop.
        """
        found, *parts = self._strategy.run(self._evaluate_batch, args=(batches["image"], batches["mask"], stop))
        total, losses, stops = (self._strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in parts)
        return found, total, losses, stops

    def _evaluate_batch(
        self, pixels: tf.Tensor, mask: tf.Tensor, stop: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
        """One replica -> what `measure` finds, the sum of the counts, [sum of losses, sum of weights], `stop` as 0 or
        1.
        """
        probabilities = self._segmenter.probabilities_of_size(pixels)
        found = measure(mask, probabilities, pixels)
        if self._take is not None:
            found["prediction"] = tf.cast(most_probable(probabilities), tf.uint8)
        losses = tf.stack(SegmentationLoss()(mask, [logarithm(probabilities)]))
        return found, tf.reduce_sum(found["confusions"], axis=0), losses, tf.cast(stop, tf.int32)

    def _gather(self, values: Any) -> np.ndarray:
        """The concatenated values of the replicas of this host."""
        return np.stack(self._listed(values))

    def _listed(self, values: Any) -> list[np.ndarray]:
        """The values of each image of this host, which may differ in size between replicas."""
        return [each for part in self._strategy.experimental_local_results(values) for each in part.numpy()]


def _check(model: keras.Model, split: Split, views: Views) -> None:
    classes, channels = split.manifest.labels.num_classes, model.outputs[0].shape[-1]
    if channels != classes:
        raise EvaluationError(
            f"the model has {channels} classes, but {split.folder} has {classes}: use the data set that the model was "
            "trained on, or one built with the same --labels"
        )
    check_window(model, views)
    own = own_size(model)
    if own != (None, None) and views.window is None and set(views.scales) != {1}:
        raise EvaluationError(
            f"the model takes images of {shown(own)} only, so scales {list(views.scales)} are not possible: use scale "
            "1, or a --window of that size"
        )


def _name_of(split: Split) -> str:
    """The name of the split in the manifest."""
    mine = split.shards[0].file
    return next(name for name, shards in split.manifest.splits.items() if mine in {shard.file for shard in shards})
