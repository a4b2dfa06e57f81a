"""The plan of a run: when it logs, saves, evaluates and ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Extension:
    """Where a finished run was made longer.

    Attributes:
      total: number of updates that it had before.
      at: the step at which it went on.
      iterations: the optimizer's count of updates there; in float16 it skips updates that overflow.
    """

    total: int
    at: int
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The intervals of a run in updates, except `evaluate_epochs` (epochs) and `global_batch` (images).

    `steps_per_call` is None for calls that take about a second. `extended` has an entry each time that the finished run
    was made longer.
    """

    total_steps: int
    steps_per_epoch: int
    evaluate_epochs: int
    checkpoint_steps: int
    log_steps: int
    steps_per_call: int | None
    global_batch: int
    extended: tuple[Extension, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """The steps at which the run ended each time; a damaged checkpoint may have it pass them again."""
        return (*(each.at for each in self.extended), self.total_steps)

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends after `step` updates; the last one may be shorter."""
        return step in self.ends or (step > 0 and step % self.steps_per_epoch == 0)

    def evaluates(self, step: int) -> bool:
        return step in self.ends or (step > 0 and step % (self.evaluate_epochs * self.steps_per_epoch) == 0)

    def saves(self, step: int) -> bool:
        return self.evaluates(step) or step % self.checkpoint_steps == 0

    def logs(self, step: int) -> bool:
        return self.ends_epoch(step) or step % self.log_steps == 0

    def updates_to_next_event(self, step: int) -> int:
        """Updates until the next evaluation, checkpoint or log line; 0 only at the end of the run."""
        every = (self.steps_per_epoch, self.checkpoint_steps, self.log_steps)
        earlier = (each.at - step for each in self.extended if each.at > step)
        return min(self.total_steps - step, *earlier, *(interval - step % interval for interval in every))
