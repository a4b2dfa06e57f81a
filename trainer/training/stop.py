"""How a run is asked to stop: by signals."""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopSignal:
    """SIGTERM and Ctrl-C ask to stop; after one of them Ctrl-C ends the process at once."""

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
