"""The training loop, the same for all strategies: when to update, evaluate, log, save and stop.

The state of a run depends only on its step, so that it can resume at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from beam_pipelines.contract.errors import UserError
from trainer.evaluation.evaluator import EvaluationStoppedError
from trainer.evaluation.metrics import Scores
from trainer.tracking.follower import Follower
from trainer.training.checkpoints import Checkpoints
from trainer.training.drawn import DrawnClasses
from trainer.training.inputs import Inputs
from trainer.training.journal import Journal, Row
from trainer.training.learner import Learner
from trainer.training.pace import Pace
from trainer.training.state import BY_CALLBACK, BY_PATIENCE, State
from trainer.training.steps import TrainSteps, Updates
from trainer.training.stop import StopSignal
from trainer.training.validation import Validation


class NotFiniteError(UserError, RuntimeError):
    """The loss, a gradient or a weight is not finite; the message names the step and the checkpoint that is kept."""


@dataclass(kw_only=True)
class Loop:
    """Trains to the end of the plan, or until it is asked to stop.

    Attributes:
      steps: takes the updates of `learner`.
      learning_rate: number of updates so far -> learning rate of the next one.
      evaluate: called at the end of epochs; raises EvaluationStoppedError to stop.
      checkpoints: of the learner and `state`.
      follower: of the journal.
      drawn: prints which classes were drawn, if it is not None.
    """

    inputs: Inputs
    learner: Learner
    steps: TrainSteps
    state: State
    learning_rate: Callable[[int], float]
    evaluate: Validation
    checkpoints: Checkpoints
    journal: Journal
    callbacks: keras.callbacks.CallbackList
    follower: Follower
    drawn: DrawnClasses | None = None

    def __post_init__(self) -> None:
        self._plan = self.inputs.plan
        self._labels = self.inputs.train.manifest.labels

    def run(self, stop: StopSignal) -> bool:
        """Trains. -> whether it reached the end of the plan; if not, it was stopped, and the state is saved.

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
        self.follow(step)
        batches = iter(self.inputs.batches_from(step))
        pace = Pace(self._plan)
        while True:
            try:
                self._end_epoch(step, stop)
            except EvaluationStoppedError:  # a resumed run begins with this evaluation
                self._save(step)
                return False
            if step >= self._plan.total_steps or self.state.stopped:
                return True
            if step % self._plan.steps_per_epoch == 0:
                self.callbacks.on_epoch_begin(step // self._plan.steps_per_epoch)
            updates = self._update(batches, step, pace, stop)
            step = int(self.state.step)
            if updates.stop:
                self._save(step)
                return False
            if self._plan.saves(step) and not self._plan.evaluates(step):
                self._save(step)

    def _save(self, step: int) -> None:
        """Saves a checkpoint, after the log: a resumed run does not log the steps before it again.

        Raises:
          NotFiniteError: a value to be saved is not finite.
        """
        if not self.checkpoints.is_finite():
            raise self._not_finite(step - 1)
        self.journal.flush(now=True)
        self.checkpoints.save(step)
        self.follow(step)

    def follow(self, step: int) -> None:
        """Hands over the rows that are final at a checkpoint: those of `step` only if its evaluation is among them."""
        is_whole = not self._plan.ends_epoch(step) or int(self.state.epoch_end) == step
        self.follower.follow([row for row in self.journal.rows if row["step"] < step + is_whole])

    def _update(self, batches: Iterator[Any], step: int, pace: Pace, stop: StopSignal) -> Updates:
        count = pace.count(self._plan.updates_to_next_event(step))
        self.callbacks.on_train_batch_begin(step % self._plan.steps_per_epoch)
        with pace:
            updates = self.steps(batches, count, stop=stop.number is not None, seconds=pace.seconds)
        pace.took(count, updates.seconds)
        if not updates.finite.all():
            raise self._not_finite(step + int(np.argmin(updates.finite)))
        self.state.add(updates)
        self._report(step + count, updates, pace)
        return updates

    def _report(self, step: int, updates: Updates, pace: Pace) -> None:
        shown = {
            "step": step,
            "loss": float(updates.losses.mean()),
            "mean_iou": Scores(confusion=self.state.confusion.numpy(), labels=self._labels).mean_iou,
            "learning_rate": self.learning_rate(step - 1),
            "images_per_second": pace.images_per_second,
        }
        self.callbacks.on_train_batch_end((step - 1) % self._plan.steps_per_epoch, shown)
        if not self._plan.logs(step):
            return
        loss, mean_iou = self.state.take_log(self._labels)
        self.journal.add(
            Row(
                step=step,
                epoch=step / self._plan.steps_per_epoch,
                split="train",
                loss=loss,
                mean_iou=None if np.isnan(mean_iou) else mean_iou,
                learning_rate=shown["learning_rate"],
                images_per_second=shown["images_per_second"],
            )
        )
        self.journal.flush()

    def _end_epoch(self, step: int, stop: StopSignal) -> None:
        """Handles the end of an epoch exactly once, also if the run was stopped before or during the evaluation."""
        if not self._plan.ends_epoch(step) or int(self.state.epoch_end) == step:
            return
        if self.drawn is not None:
            self.drawn.show(self.state.epoch_confusion.numpy())
        logs = self._evaluate(step, stop) if self._plan.evaluates(step) else {}
        self.callbacks.on_epoch_end((step - 1) // self._plan.steps_per_epoch, self._epoch_logs(step) | logs)
        stopped = self._ends_early(step)
        if stopped and not self._plan.evaluates(step):
            self._evaluate(step, stop)
        self.state.end_epoch(step, stopped)
        if step in self._plan.ends:
            self.state.go_on()
        if self._plan.saves(step) or stopped:
            self._save(step)

    def _epoch_logs(self, step: int) -> dict[str, float]:
        """Keras logs of the updates of the epoch, the same on all hosts."""
        loss, mean_iou = self.state.epoch_means(self._labels)
        return {"loss": loss, "mean_iou": mean_iou, "learning_rate": self.learning_rate(step - 1)}

    def _ends_early(self, step: int) -> int:
        """What ends the training before its last update, as in `State.stopped`; 0 if nothing does."""
        if step in self._plan.ends:
            return 0
        if getattr(self.learner.model, "stop_training", False):
            return BY_CALLBACK
        patience = self.inputs.config.reporting.patience
        is_over = patience and self._plan.evaluates(step) and int(self.state.since_best) >= patience
        return BY_PATIENCE if is_over else 0

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
            f"{self.learning_rate(step):g}; the images came from {', '.join(self.inputs.files_of(step))}. "
            f"{kept}. With another --output, try a lower --learning_rate, --warmup=0.05, --clip_norm=1, or bfloat16 "
            "instead of float16"
        )
