"""The counters of a run, which checkpoints save beside the weights."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import LabelTable
from trainer.evaluation.metrics import Scores
from trainer.training.steps import Updates

BY_CALLBACK, BY_PATIENCE = 1, 2  # what ended the training early
ADDED = "progress"  # the group of variables that earlier checkpoints lack


class State:
    """The counters as variables.

    Attributes:
      step: number of updates so far.
      epoch_end: the last step at which the end of an epoch was handled.
      best: mean IoU of the best model so far, from 0 to 1; -1 before the first.
      stopped: what ended the training early, `BY_CALLBACK` or `BY_PATIENCE`; 0 if nothing did.
      losses: float64[2], sum and number of the losses since the last row of the log.
      confusion: int64[C, C] since the last row of the log; rows are the truth.
      best_step: step of the best model so far; 0 before the first.
      since_best: number of evaluations since then.
      epoch_losses, epoch_confusion: like `losses` and `confusion`, since the end of the last epoch.
    """

    def __init__(self, num_classes: int) -> None:
        self.step = tf.Variable(0, dtype=tf.int64)
        self.epoch_end = tf.Variable(0, dtype=tf.int64)
        self.best = tf.Variable(-1.0, dtype=tf.float64)
        self.stopped = tf.Variable(0, dtype=tf.int64)
        self.losses = tf.Variable([0.0, 0.0], dtype=tf.float64)
        self.confusion = tf.Variable(tf.zeros([num_classes, num_classes], tf.int64))
        self.best_step = tf.Variable(0, dtype=tf.int64)
        self.since_best = tf.Variable(0, dtype=tf.int64)
        self.epoch_losses = tf.Variable([0.0, 0.0], dtype=tf.float64)
        self.epoch_confusion = tf.Variable(tf.zeros([num_classes, num_classes], tf.int64))

    @property
    def variables(self) -> dict[str, list[tf.Variable]]:
        """The variables that a checkpoint saves, by group."""
        return {
            "state": [self.step, self.epoch_end, self.best, self.stopped, self.losses, self.confusion],
            ADDED: [self.best_step, self.since_best, self.epoch_losses, self.epoch_confusion],
        }

    def add(self, updates: Updates) -> None:
        self.step.assign_add(len(updates.losses))
        for losses, confusion in ((self.losses, self.confusion), (self.epoch_losses, self.epoch_confusion)):
            losses.assign_add([updates.losses.sum(dtype=np.float64), len(updates.losses)])
            confusion.assign_add(updates.confusion)

    def take_log(self, labels: LabelTable) -> tuple[float, float]:
        """-> mean loss and mean IoU since the previous call."""
        return _take(self.losses, self.confusion, labels)

    def end_epoch(self, step: int, stopped: int) -> None:
        """Takes note that the end of an epoch was handled, and whether it ended the training."""
        self.epoch_end.assign(step)
        self.stopped.assign(stopped)
        for sums in (self.epoch_losses, self.epoch_confusion):
            sums.assign(tf.zeros_like(sums))

    def epoch_means(self, labels: LabelTable) -> tuple[float, float]:
        """-> mean loss and mean IoU since the end of the last epoch; 0 and NaN if there were no updates."""
        return _means(self.epoch_losses, self.epoch_confusion, labels)

    def take_score(self, mean_iou: float, step: int) -> bool:
        """Takes note of an evaluation. -> whether its model is to be kept: the best so far, or the first."""
        is_kept = mean_iou > float(self.best) or float(self.best) < 0
        if is_kept:
            self.best.assign(0.0 if math.isnan(mean_iou) else mean_iou)
            self.best_step.assign(step)
        self.since_best.assign(0 if is_kept else self.since_best + 1)
        return is_kept

    def go_on(self) -> None:
        """Forgets what ended the training early."""
        self.stopped.assign(0)
        self.since_best.assign(0)

    @property
    def why_stopped(self) -> str | None:
        """What ended the training early, as a part of a sentence; None if nothing did."""
        if int(self.stopped) != BY_PATIENCE:
            return "a callback asked for it" if int(self.stopped) else None
        count, step = int(self.since_best), int(self.best_step)
        waited = f" for {count:,} evaluation{'s' * (count > 1)}" if count else ""  # the best model may have been lost
        at = f" at step {step:,}" if step else ""  # checkpoints of an earlier version do not have it
        return f"no better validation mean IoU{waited} (best {float(self.best):.4f}{at})"


def _take(losses: tf.Variable, confusion: tf.Variable, labels: LabelTable) -> tuple[float, float]:
    """The means since the sums were set to 0, which it does again."""
    means = _means(losses, confusion, labels)
    losses.assign(tf.zeros_like(losses))
    confusion.assign(tf.zeros_like(confusion))
    return means


def _means(losses: tf.Variable, confusion: tf.Variable, labels: LabelTable) -> tuple[float, float]:
    loss, count = losses.numpy()
    return float(loss / max(count, 1)), Scores(confusion=confusion.numpy(), labels=labels).mean_iou
