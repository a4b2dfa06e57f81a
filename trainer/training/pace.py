"""The number of updates in a call of the graph, and their speed."""

from __future__ import annotations

import time

from trainer.training.plan import Plan

_CALL_SECONDS = 1.0  # of a call: short enough to show progress and to notice signals


class Pace:
    """Measures calls: a context manager around each call."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._calls = 0
        self._agreed = 0.0  # seconds per update, the mean of all hosts; 0 is unknown
        self.seconds = 0.0  # seconds per update of the last call on this host; 0 is unknown
        self.images_per_second: float | None = None

    def count(self, most: int) -> int:
        """The number of updates in the next call, at most `most`; the same on all hosts."""
        if self._plan.steps_per_call is not None:
            return min(most, self._plan.steps_per_call)
        return min(most, max(1, int(_CALL_SECONDS / self._agreed))) if self._agreed else 1

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._elapsed = time.monotonic() - self._started

    def took(self, count: int, agreed: float) -> None:
        """Takes note of a call of `count` updates. The first call is not measured, since it compiles the graph."""
        self._calls += 1
        self._agreed = agreed
        if self._calls > 1:
            self.images_per_second = self._plan.global_batch * count / self._elapsed
            self.seconds = self._elapsed / count
