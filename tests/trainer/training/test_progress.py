from __future__ import annotations

import io
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from trainer.training import progress
from trainer.training.progress import ShowProgress

VALUES = {"loss": 0.51234, "mean_iou": 0.1239, "learning_rate": 0.0123, "images_per_second": 8.54}
SHOWN = "loss 0.5123, IoU 0.124, learning rate 0.012, 8.5 img/s"
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Clock:
    """Takes the place of the module `time` in trainer.training.progress: seconds pass as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def show(first: int, total: int, **options: Any) -> tuple[ShowProgress, io.StringIO]:
    file = io.StringIO()
    return ShowProgress(Console(file=file, width=120, **options), first=first, total=total), file


def update(shown: ShowProgress, step: int) -> None:
    shown.on_train_batch_end(0, {"step": step, **VALUES})


def test_without_a_terminal_there_is_a_line_now_and_then(clock: Clock):
    shown, file = show(0, 1300)
    shown.on_train_begin()
    said: list[str] = []
    for step in range(1, 100):  # one each second; the first compiles and takes a minute
        clock.now += 60 if step == 1 else 1
        update(shown, step)
        said = file.getvalue().splitlines()
        assert len(said) == max(0, step - 2) // 20 + (step > 1), step
    shown.on_train_end()
    assert said[0] == f"step 2 of 1,300: {SHOWN}, 21:38 left"
    assert said[1] == f"step 22 of 1,300: {SHOWN}, 21:18 left"


def test_what_takes_long_before_the_first_update_is_told_once(clock: Clock):
    shown, file = show(0, 1300)
    shown.on_train_begin()
    assert file.getvalue() == "", "a run that is complete builds nothing"
    for step in (1, 2, 3):
        shown.on_train_batch_begin(step - 1)
        update(shown, step)
    shown.on_train_end()
    assert file.getvalue() == "building the graph of the update: about half a minute for large models\n"


def test_the_first_call_has_no_pace(clock: Clock):
    assert progress._line({**VALUES, "images_per_second": None}) == "loss 0.5123, IoU 0.124, learning rate 0.012"


def test_the_time_that_is_left_is_that_of_updates(clock: Clock):
    """5 s for each of them, whatever compiling and evaluation take."""
    shown, file = show(10, 2000)
    shown.on_train_begin()
    shown.on_test_begin()  # that of an epoch which ended when the run was stopped
    clock.now += 500
    shown.on_test_end()
    clock.now += 90
    update(shown, 12)
    shown.on_test_begin()
    clock.now += 300
    shown.on_test_end()
    clock.now += 20
    update(shown, 16)
    shown.on_train_end()
    assert file.getvalue() == f"step 16 of 2,000: {SHOWN}, 2:45:20 left\n"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7384, "2:03:04")])
def test_durations_are_written_as_on_a_clock(seconds: float, text: str):
    assert progress._duration(seconds) == text


def bar(file: io.StringIO) -> str:
    return CONTROLS.sub("", file.getvalue())


def wait_for(file: io.StringIO, text: str) -> None:
    """The bar is drawn ten times a second."""
    end = time.monotonic() + 20
    while text not in bar(file):
        assert time.monotonic() < end, bar(file)
        time.sleep(0.02)


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    shown, file = show(10, 40, force_terminal=True)
    shown.on_train_begin()
    shown.on_train_batch_begin(0)
    wait_for(file, "10/40 compiling")
    update(shown, 20)
    wait_for(file, f"20/40 {SHOWN}")
    shown.on_test_begin()
    wait_for(file, "evaluate")
    shown.on_test_end()
    update(shown, 40)
    shown.on_train_end()
    drawn = bar(file)
    assert drawn.count("building the graph of the update") == 1
    assert re.search(rf"train +━+ +40/40 {re.escape(SHOWN)} +\d:\d\d:\d\d", drawn)
    assert "step 40 of 40" not in drawn
    assert drawn.rpartition("evaluate")[2].lstrip(" ━╸╺").startswith("20/40")
