"""The one loop for all strategies: when to update, evaluate, log, save and stop. A run is a function of its step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable
from trainer.evaluation.evaluator import EvaluationStoppedError
from trainer.evaluation.metrics import Scores
from trainer.training.checkpoints import Checkpoints
from trainer.training.journal import Journal, Row
from trainer.training.plan import Plan
from trainer.training.steps import TrainSteps, Updates

_CALL_SECONDS = 1.0  # of a call of several updates: a bar that moves, and a stop that is heard in time


class NotFiniteError(UserError, RuntimeError):
    """The loss, a gradient or a weight was NaN or infinite; the message says where, and what is left."""


class State:
    """What of a run, beside its weights, goes into a checkpoint.

    step: updates done. epoch_end: the last step whose epoch's end was dealt with. best: mean IoU of the best model so
    far, -1 before the first. stopped: 1 when a callback ended the training. The losses and the confusion are of the
    updates since the last row of the log.
    """

    def __init__(self, num_classes: int) -> None:
        self.step = tf.Variable(0, dtype=tf.int64)
        self.epoch_end = tf.Variable(0, dtype=tf.int64)
        self.best = tf.Variable(-1.0, dtype=tf.float64)
        self.stopped = tf.Variable(0, dtype=tf.int64)
        self.losses = tf.Variable([0.0, 0.0], dtype=tf.float64)  # their sum and number
        self.confusion = tf.Variable(tf.zeros([num_classes, num_classes], tf.int64))

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.step, self.epoch_end, self.best, self.stopped, self.losses, self.confusion]

    def add(self, updates: Updates) -> None:
        self.step.assign_add(len(updates.losses))
        self.losses.assign_add([updates.losses.sum(dtype=np.float64), len(updates.losses)])
        self.confusion.assign_add(updates.confusion)

    def take_log(self, labels: LabelTable) -> tuple[float, float]:
        """-> mean loss and mean IoU since the last time; starts anew."""
        loss, count = self.losses.numpy()
        scores = Scores(confusion=self.confusion.numpy(), labels=labels)
        self.losses.assign(tf.zeros_like(self.losses))
        self.confusion.assign(tf.zeros_like(self.confusion))
        return float(loss / max(count, 1)), scores.mean_iou


class StopSignal:
    """SIGTERM and Ctrl-C ask to stop; after one of them Ctrl-C ends the process as ever."""

    number: int | None = None

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        # Not by `print`: what is being written when a signal comes can't be written to from its handler.
        os.write(2, f"\n{signal.Signals(number).name}: saving, then stopping\n".encode())
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(kw_only=True)
class Loop:
    """Trains to the end of `plan`, or until it is asked to stop.

    Attributes:
      batches_from: step -> the distributed batches from there on.
      evaluate: called at the ends of epochs with the step, and a function that says whether to stop at once by raising
        EvaluationStoppedError; returns Keras' logs ("val_...").
      files_of: step -> names of the shards that its batch came from.
      journal: None on all hosts but the chief.
    """

    plan: Plan
    state: State
    steps: TrainSteps
    labels: LabelTable
    learning_rate: Callable[[int], float]
    batches_from: Callable[[int], Iterable[Any]]
    evaluate: Callable[[int, Callable[[], bool]], dict[str, float]]
    files_of: Callable[[int], list[str]]
    checkpoints: Checkpoints
    journal: Journal | None
    callbacks: keras.callbacks.CallbackList
    model: keras.Model

    def run(self, stop: StopSignal) -> bool:
        """-> whether it came to the end. If not, the state was saved.

        Raises:
          NotFiniteError: training diverged.
        """
        self.callbacks.on_train_begin()
        try:
            return self._run(stop)
        finally:
            self.callbacks.on_train_end()

    def _run(self, stop: StopSignal) -> bool:
        step = int(self.state.step)
        batches = iter(self.batches_from(step))
        pace = _Pace(self.plan)
        while True:
            try:
                self._end_epoch(step, stop)
            except EvaluationStoppedError:  # it comes first when the run goes on
                self._save(step)
                return False
            if step >= self.plan.total_steps or self.state.stopped:
                return True
            if step % self.plan.steps_per_epoch == 0:
                self.callbacks.on_epoch_begin(step // self.plan.steps_per_epoch)
            updates = self._update(batches, step, pace, stop)
            step = int(self.state.step)
            if updates.stop:
                self._save(step)
                return False
            if self.plan.saves(step) and not self.plan.evaluates(step):
                self._save(step)

    def _save(self, step: int) -> None:
        """The log first: what a checkpoint is past will not be logged again.

        Raises:
          NotFiniteError: the last update has broken what would be saved; the next would be the first to show it.
        """
        if not self.checkpoints.is_finite():
            raise self._not_finite(step - 1)
        if self.journal is not None:
            self.journal.flush(now=True)
        self.checkpoints.save(step)

    def _update(self, batches: Iterator[Any], step: int, pace: _Pace, stop: StopSignal) -> Updates:
        count = pace.count(self.plan.updates_to_next_event(step))
        self.callbacks.on_train_batch_begin(step % self.plan.steps_per_epoch)
        with pace:
            updates = self.steps(batches, count, stop=stop.number is not None, seconds=pace.seconds)
        pace.took(count, updates.seconds)
        if not updates.finite.all():
            raise self._not_finite(step + int(np.argmin(updates.finite)))
        self.state.add(updates)
        self._report(step + count, updates, pace)
        return updates

    def _report(self, step: int, updates: Updates, pace: _Pace) -> None:
        shown = {
            "step": step,
            "loss": float(updates.losses.mean()),
            "mean_iou": Scores(confusion=self.state.confusion.numpy(), labels=self.labels).mean_iou,
            "learning_rate": self.learning_rate(step - 1),
            "images_per_second": pace.images_per_second,
        }
        self.callbacks.on_train_batch_end((step - 1) % self.plan.steps_per_epoch, shown)
        if not self.plan.logs(step):
            return
        loss, mean_iou = self.state.take_log(self.labels)
        if self.journal is not None:
            self.journal.add(
                Row(
                    step=step,
                    epoch=step / self.plan.steps_per_epoch,
                    split="train",
                    loss=loss,
                    mean_iou=None if np.isnan(mean_iou) else mean_iou,
                    learning_rate=shown["learning_rate"],
                    images_per_second=shown["images_per_second"],
                )
            )
            self.journal.flush()

    def _end_epoch(self, step: int, stop: StopSignal) -> None:
        """Deals with the end of an epoch once, also where a stop came before or in its evaluation."""
        if not self.plan.ends_epoch(step) or int(self.state.epoch_end) == step:
            return
        logs = self._evaluate(step, stop) if self.plan.evaluates(step) else {}
        self.callbacks.on_epoch_end((step - 1) // self.plan.steps_per_epoch, logs)
        is_stopped = bool(getattr(self.model, "stop_training", False))
        if is_stopped and not self.plan.evaluates(step):
            self._evaluate(step, stop)
        self.state.epoch_end.assign(step)
        self.state.stopped.assign(int(is_stopped))
        if self.plan.saves(step) or is_stopped:
            self._save(step)

    def _evaluate(self, step: int, stop: StopSignal) -> dict[str, float]:
        self.callbacks.on_test_begin()
        logs = self.evaluate(step, lambda: stop.number is not None)
        self.callbacks.on_test_end(logs)
        return logs

    def _not_finite(self, step: int) -> NotFiniteError:
        newest = self.checkpoints.newest_step
        kept = "no checkpoint was saved yet" if newest is None else f"the checkpoint of step {newest} is kept"
        return NotFiniteError(
            f"step {step + 1}: the loss, a gradient or a weight is NaN or infinite, at a learning rate of "
            f"{self.learning_rate(step):g}; the images came from {', '.join(self.files_of(step))}. "
            f"{kept}. With another --output try a lower --learning_rate, --warmup=0.05 or --clip_norm=1, and bfloat16 "
            "instead of float16"
        )


class _Pace:
    """How many updates to take in a call, and how fast they are. Entered around a call."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._calls = 0
        self._agreed = 0.0  # seconds of an update, over all hosts
        self.seconds = 0.0  # the same on this host in the last call; 0 is not known
        self.images_per_second: float | None = None

    def count(self, most: int) -> int:
        """The same on all hosts."""
        if self._plan.steps_per_call is not None:
            return min(most, self._plan.steps_per_call)
        return min(most, max(1, int(_CALL_SECONDS / self._agreed))) if self._agreed else 1

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._elapsed = time.monotonic() - self._started

    def took(self, count: int, agreed: float) -> None:
        """The first call compiles: it says nothing of the pace."""
        self._calls += 1
        self._agreed = agreed
        if self._calls > 1:
            self.images_per_second = self._plan.global_batch * count / self._elapsed
            self.seconds = self._elapsed / count
