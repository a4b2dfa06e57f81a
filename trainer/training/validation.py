"""Validation at the end of epochs: scores the validation split and saves the best model so far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from rich.console import Console

from trainer.data.batches import evaluation_batches
from trainer.data.dataset import Split
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.metrics import METRICS
from trainer.inference.model_file import BEST, Description, save_model
from trainer.models import as_list
from trainer.training.inputs import Inputs
from trainer.training.journal import Journal, Row
from trainer.training.learner import Learner
from trainer.training.state import State

_PICTURES = 3


@dataclass(kw_only=True)
class Validation:
    """Scores the model, or the averages of its weights if there are any, and saves it if it is the best so far.

    Without a validation split, the newest model is saved. All hosts must call it; only the chief writes.
    """

    inputs: Inputs
    learner: Learner
    state: State
    journal: Journal
    console: Console

    def __post_init__(self) -> None:
        inputs, self._model = self.inputs, self.learner.model
        self._evaluator: Evaluator | None = None
        if inputs.val is not None:
            batch = inputs.batches.per_replica
            self._evaluator = Evaluator(self._model, inputs.val, batch=batch, strategy=inputs.strategy)
        self._has_graph = False
        self.scored: dict[int, Evaluation] = {}  # that of the best model, by its step, if this process made it
        self._predict = tf.function(
            lambda images: tf.argmax(as_list(self._model(images, training=False))[0], -1),
            input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)],
            autograph=False,
        )

    def __call__(self, step: int, is_asked_to_stop: Callable[[], bool]) -> dict[str, float]:
        """-> {"val_loss": ..., "val_mean_iou": ...}, or {} without a validation split.

        Raises:
          EvaluationStoppedError: it was asked to stop; nothing was saved or logged.
        """
        averages = self.learner.averages
        averaged: AbstractContextManager[None] = averages.applied() if averages else contextlib.nullcontext()
        with averaged:
            if self._evaluator is None:
                self._keep(step, None)
                return {}
            evaluation = self._evaluator(is_asked_to_stop=is_asked_to_stop)
            mean_iou = evaluation.scores.mean_iou  # NaN if the split has no valid pixels
            is_best = mean_iou > float(self.state.best)
            if self.state.take_score(mean_iou, step):
                self._keep(step, None if math.isnan(mean_iou) else mean_iou)
                if self.inputs.config.cluster.workers == 1:  # or else it has the images of this host only
                    self.scored = {step: evaluation}
            self._write(evaluation, step, is_best)
        return {"val_loss": evaluation.loss, "val_mean_iou": mean_iou}

    def _keep(self, step: int, mean_iou: float | None) -> None:
        config = self.inputs.config
        if config.cluster.is_chief:
            description = Description.of(config.model.name, self.inputs.train.manifest, step=step, mean_iou=mean_iou)
            save_model(f"{config.places.output}/{BEST}", self._model, description)

    def _write(self, evaluation: Evaluation, step: int, is_best: bool) -> None:
        if self.inputs.val is None or not self.inputs.config.cluster.is_chief:
            return
        epoch, scores = step / self.inputs.plan.steps_per_epoch, evaluation.scores
        values = scores.to_json()
        row = Row(
            step=step,
            epoch=epoch,
            split="val",
            loss=evaluation.loss if math.isfinite(evaluation.loss) else None,
            mean_iou=values["mean_iou"],
            class_iou=values["class_iou"],
        )
        self.journal.add(row)
        others = [metric.name for metric in METRICS if metric.name not in vars(row)]
        scored = {name: values[name] for name in others if values[name] is not None}
        self.journal.add_scores(scored, "val", step)
        self.journal.add_pictures(self._pictures(self.inputs.val), step)
        if not self._has_graph:
            self._has_graph = True
            self.journal.add_graph(self._predict.get_concrete_function().graph)
        self.journal.flush(now=True)
        if values["mean_iou"] is not None:
            self.journal.report_metric(scores.mean_iou, step)
        self.console.print(
            f"epoch {epoch:.4g}, step {step:,}: validation mean IoU {scores.mean_iou:.4f}"
            + (", the best" if is_best else ""),
            highlight=False,
        )

    def _pictures(self, split: Split) -> np.ndarray:
        """uint8[N, H, 3 W, 3]: the first images of the same size, with truth and prediction beside them."""
        palette = split.manifest.labels.palette
        shift, factor = split.manifest.moments.normalization.shift_and_factor()
        pictures = []
        for example in evaluation_batches(split, 1).take(_PICTURES):
            image = example["image"][0].numpy()
            ids = self._predict((tf.cast(example["image"], tf.float32) - shift) * factor)[0].numpy()
            pictures.append(np.concatenate([image, palette[example["mask"][0].numpy()], palette[ids]], axis=1))
        same = [picture for picture in pictures if picture.shape == pictures[0].shape]
        return np.stack(same)
