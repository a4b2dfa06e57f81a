"""A Keras callback that shows the progress of a run: a bar in a terminal, else a line every 20 seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.console import LINE_SECONDS

_BUILDING = "building the graph of the update: about half a minute for large models"


class ShowProgress(keras.callbacks.Callback):
    """Shows loss, mean IoU, learning rate, images per second and the remaining time.

    Keras counts batches from 0 in each epoch, and `params["steps"]` is their number; `logs["step"]` is the number of
    updates so far.
    """

    def __init__(self, console: Console, *, first: int, total: int) -> None:
        super().__init__()
        self._console, self._total = console, total
        self._first: int | None = None  # the step after the first call, which compiles the graph and is not measured
        self._started = self._said = time.monotonic()
        self._paused = 0.0  # seconds that evaluations took
        self._evaluation_started = 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("train", total=total, completed=first, values="compiling")

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.start()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._first is None:
            self._console.print(_BUILDING, highlight=False)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = dict(logs or {})
        step, text = int(values["step"]), _line(values)
        self._bar.update(self._task, completed=step, values=text)
        now = time.monotonic()
        if self._first is None:
            self._first, self._started, self._paused = step, now, 0.0
        elif self._bar.disable and now - self._said >= LINE_SECONDS:
            self._said = now
            left = (now - self._started - self._paused) / (step - self._first) * (self._total - step)
            self._console.print(f"step {step:,} of {self._total:,}: {text}, {_duration(left)} left", highlight=False)

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._evaluation_started = time.monotonic()
        self._bar.update(self._task, description="evaluate")

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._paused += time.monotonic() - self._evaluation_started
        self._bar.update(self._task, description="train")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.stop()


def _line(values: Mapping[str, Any]) -> str:
    """The values as text; without images per second after the first call, which compiles the graph."""
    pace = values["images_per_second"]
    return f"loss {values['loss']:.4f}, IoU {values['mean_iou']:.3f}, learning rate {values['learning_rate']:.2g}" + (
        "" if pace is None else f", {pace:.1f} img/s"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
