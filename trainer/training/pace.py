"""How many updates to take in a call of the graph, and how fast they are."""

from __future__ import annotations

import time

from trainer.training.plan import Plan

_CALL_SECONDS = 1.0  # of a call of several updates: the bar moves, and a signal is noticed in time


class Pace:
    """Entered around a call."""

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
        """The first call compiles, so it is not measured."""
        self._calls += 1
        self._agreed = agreed
        if self._calls > 1:
            self.images_per_second = self._plan.global_batch * count / self._elapsed
            self.seconds = self._elapsed / count
