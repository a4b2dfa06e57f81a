"""What a run does at the end of epochs: scores the validation split, and keeps the best model so far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from trainer.data import dataset
from trainer.data.dataset import Split
from trainer.evaluation.evaluator import Evaluation, Evaluator
from trainer.evaluation.metrics import METRICS
from trainer.inference.model_file import Description, save_model
from trainer.models import as_list
from trainer.objective.ema import WeightAverages
from trainer.training.journal import Journal, Row
from trainer.training.loop import State

_PICTURES = 3


@dataclass(kw_only=True)
class Validation:
    """Called with the step. With averages it is they that are scored and kept.

    Without a split the newest model is kept. `journal` is None on all hosts but the chief, which alone writes.
    """

    model: keras.Model
    averages: WeightAverages | None
    state: State
    split: Split | None
    train: Split
    strategy: tf.distribute.Strategy
    batch: int
    name: str
    path: str
    journal: Journal | None
    steps_per_epoch: int
    console: Console

    def __post_init__(self) -> None:
        self._evaluator: Evaluator | None = None
        if self.split is not None:
            self._evaluator = Evaluator(self.model, self.split, batch=self.batch, strategy=self.strategy)
        self._has_graph = False
        self._predict = tf.function(
            lambda images: tf.argmax(as_list(self.model(images, training=False))[0], -1),
            input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)],
        )

    def __call__(self, step: int, is_asked_to_stop: Callable[[], bool]) -> dict[str, float]:
        """-> {"val_loss": ..., "val_mean_iou": ...}, or nothing without a split.

        Raises:
          EvaluationStoppedError: it was asked to stop, and nothing was kept or written.
        """
        averaged: AbstractContextManager[None] = self.averages.applied() if self.averages else contextlib.nullcontext()
        with averaged:
            if self._evaluator is None:
                self._keep(step, None)
                return {}
            evaluation = self._evaluator(is_asked_to_stop=is_asked_to_stop)
            mean_iou = evaluation.scores.mean_iou  # NaN where the split has no valid pixel
            is_best = mean_iou > float(self.state.best)
            if is_best or float(self.state.best) < 0:
                self.state.best.assign(0.0 if math.isnan(mean_iou) else mean_iou)
                self._keep(step, None if math.isnan(mean_iou) else mean_iou)
            self._write(evaluation, step, is_best)
        return {"val_loss": evaluation.loss, "val_mean_iou": mean_iou}

    def _keep(self, step: int, mean_iou: float | None) -> None:
        if self.journal is not None:
            description = Description.of(self.name, self.train.manifest, step=step, mean_iou=mean_iou)
            save_model(self.path, self.model, description)

    def _write(self, evaluation: Evaluation, step: int, is_best: bool) -> None:
        if self.journal is None or self.split is None:
            return
        epoch, scores = step / self.steps_per_epoch, evaluation.scores
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
        self.journal.add_pictures(self._pictures(self.split), step)
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
        """uint8[N, H, 3 W, 3]: the first images that have one size, their truth and prediction."""
        palette = split.manifest.labels.palette
        pictures = []
        for example in dataset.evaluation_batches(split, 1).take(_PICTURES):
            image = split.manifest.moments.normalization.to_pixels(example["image"][0].numpy())
            ids = self._predict(example["image"])[0].numpy()
            pictures.append(np.concatenate([image, palette[example["mask"][0].numpy()], palette[ids]], axis=1))
        same = [picture for picture in pictures if picture.shape == pictures[0].shape]
        return np.stack(same)
