"""The counters of a run, which checkpoints save beside the weights."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import LabelTable
from trainer.evaluation.metrics import Scores
from trainer.training.steps import Updates


class State:
    """The counters as variables.

    Attributes:
      step: number of updates so far.
      epoch_end: the last step at which the end of an epoch was handled.
      best: mean IoU of the best model so far, from 0 to 1; -1 before the first.
      stopped: 1 if a callback ended the training.
      losses: float64[2], sum and number of the losses since the last row of the log.
      confusion: int64[C, C] since the last row of the log; rows are the truth.
    """

    def __init__(self, num_classes: int) -> None:
        self.step = tf.Variable(0, dtype=tf.int64)
        self.epoch_end = tf.Variable(0, dtype=tf.int64)
        self.best = tf.Variable(-1.0, dtype=tf.float64)
        self.stopped = tf.Variable(0, dtype=tf.int64)
        self.losses = tf.Variable([0.0, 0.0], dtype=tf.float64)
        self.confusion = tf.Variable(tf.zeros([num_classes, num_classes], tf.int64))

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.step, self.epoch_end, self.best, self.stopped, self.losses, self.confusion]

    def add(self, updates: Updates) -> None:
        self.step.assign_add(len(updates.losses))
        self.losses.assign_add([updates.losses.sum(dtype=np.float64), len(updates.losses)])
        self.confusion.assign_add(updates.confusion)

    def take_log(self, labels: LabelTable) -> tuple[float, float]:
        """-> mean loss and mean IoU since the previous call."""
        loss, count = self.losses.numpy()
        scores = Scores(confusion=self.confusion.numpy(), labels=labels)
        self.losses.assign(tf.zeros_like(self.losses))
        self.confusion.assign(tf.zeros_like(self.confusion))
        return float(loss / max(count, 1)), scores.mean_iou
