"""The plan of a run: when it logs, saves, evaluates and ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The intervals of a run in updates, except `evaluate_epochs` (epochs) and `global_batch` (images).

    `steps_per_call` is None for calls that take about a second.
    """

    total_steps: int
    steps_per_epoch: int
    evaluate_epochs: int
    checkpoint_steps: int
    log_steps: int
    steps_per_call: int | None
    global_batch: int

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends after `step` updates; the last one may be shorter."""
        return step == self.total_steps or (step > 0 and step % self.steps_per_epoch == 0)

    def evaluates(self, step: int) -> bool:
        return step == self.total_steps or (step > 0 and step % (self.evaluate_epochs * self.steps_per_epoch) == 0)

    def saves(self, step: int) -> bool:
        return self.evaluates(step) or step % self.checkpoint_steps == 0

    def logs(self, step: int) -> bool:
        return self.ends_epoch(step) or step % self.log_steps == 0

    def updates_to_next_event(self, step: int) -> int:
        """Updates until the next evaluation, checkpoint or log line; 0 only at the end of the run."""
        every = (self.steps_per_epoch, self.checkpoint_steps, self.log_steps)
        return min(self.total_steps - step, *(interval - step % interval for interval in every))
