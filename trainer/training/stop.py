"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopSignal:
    """SIGTERM and Ctrl-C ask the run to stop; `number` is the signal. After that, Ctrl-C interrupts at once."""

    number: int | None = None

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        # Not `print`: a handler can't write to a stream that is being written to.
        os.write(2, f"\n{signal.Signals(number).name}: saving, then stopping\n".encode())
        signal.signal(signal.SIGINT, signal.default_int_handler)
