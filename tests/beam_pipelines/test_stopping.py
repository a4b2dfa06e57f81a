"""Signals at every moment of a command: one line, the exit code, no process and no file left, and it can continue."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.builds import PROJECT, build, make_flat, make_uneven, published, run_module
from tests.support.matrix import standing_for

LINE = "stopped; run the same command again to continue\n"
ENDED = "stopped\n"  # there is nothing to continue
MARKER = "STREET_SCENES_TEST"
OPTIONS = ("--labels=camvid11", "--image_size=native", "--shards=train=16,val=4", "--runner=FnApiRunner")
MODES = {
    "threads": ("--direct_num_workers=2", "--direct_running_mode=multi_threading"),
    "processes": ("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Command:
    """A command in a session of its own; all that it starts carries a marker in its environment."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.temporary, self.mark = folder / "tmp", f"{folder}"
        self.temporary.mkdir(exist_ok=True)
        environment = os.environ | {"TMPDIR": str(self.temporary), MARKER: self.mark}
        pipes: dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
        }
        command = [sys.executable, "-m", *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes)

    def left(self) -> list[psutil.Process]:
        """The living processes that carry the marker."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARKER) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children(self, text: str) -> list[psutil.Process]:
        """Those of them whose command line has `text`, but for the command itself."""
        found = []
        for process in self.left():
            with contextlib.suppress(psutil.Error):
                if process.pid != self.process.pid and text in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def wait_for(self, reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            assert self.process.poll() is None, f"it ended before: {self.process.communicate()}"
            assert time.monotonic() < deadline, "the moment does not come"
            time.sleep(0.001)

    def listens(self) -> bool:
        """Whether SIGTERM is caught."""
        (caught,) = (
            line.split()[1]
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            if line.startswith("SigCgt")
        )
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def assert_stopped_by(self, number: int, line: str = LINE) -> None:
        _, errors = self.process.communicate(timeout=10)
        assert (self.process.returncode, errors) == (128 + number, line)
        assert not self.left()
        assert not list(self.temporary.iterdir())


@contextlib.contextmanager
def started(folder: Path, *arguments: object) -> Iterator[Command]:
    command = Command(folder, *arguments)
    try:
        yield command
    finally:
        for process in command.left():
            with contextlib.suppress(psutil.Error):
                process.kill()
        command.process.communicate()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"), train=80, val=16, size=(96, 160))


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert build(f"--input={source}", f"--output={output}", *OPTIONS) == 0
    return output


def count(output: Path, kind: str) -> int:
    return len(list((output / "_build" / kind).glob("*.json")))


MOMENTS: dict[str, Callable[[Command, Path], object]] = {
    "importing": lambda command, _: command.listens(),
    "listing": lambda _, output: (output / "_build" / "lease").exists(),
    "planned": lambda _, output: (output / "_build" / "plan.jsonl").exists(),
    "workers start": lambda command, _: command.children("sdk_worker_main"),
    "staging": lambda _, output: count(output, "staged") >= 3,
    "finishing": lambda _, output: count(output, "finished") >= 1,
    "published": lambda _, output: (output / "dataset.json").exists(),
}
IN_PROCESSES = ("workers start", "staging", "finishing", "published")
CASES = [  # every moment in its modes, by each of the signals in turn; and each signal where it used to hang
    *((moment, SIGNALS[turn % 3], "threads") for turn, moment in enumerate(MOMENTS) if moment != "workers start"),
    *((moment, SIGNALS[turn % 3], "processes") for turn, moment in enumerate(IN_PROCESSES)),
    *(("staging", number, "processes") for number in (signal.SIGINT, signal.SIGHUP)),
]
EACH_MOMENT = [case for case in CASES if (case[0] in IN_PROCESSES[:2]) == (case[2] == "processes")][:7]


@pytest.mark.parametrize(("moment", "number", "mode"), standing_for(EACH_MOMENT, CASES))
def test_a_signal_stops_a_build_at_every_moment(
    moment: str, number: signal.Signals, mode: str, source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", *OPTIONS)
    with started(tmp_path, "beam_pipelines.build", *arguments, *MODES[mode]) as command:
        command.wait_for(lambda: MOMENTS[moment](command, output))
        command.process.send_signal(number)
        command.assert_stopped_by(number)
    assert build(*arguments) == 0
    assert published(output) == published(undisturbed)
    assert not (output / "_build").exists()


@pytest.mark.parametrize("number", standing_for([signal.SIGINT], SIGNALS))
def test_a_terminal_sends_its_signals_to_all_processes_and_more_than_once(
    number: signal.Signals, source: Path, tmp_path: Path
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", *OPTIONS)
    with started(tmp_path, "beam_pipelines.build", *arguments, *MODES["processes"]) as command:
        command.wait_for(lambda: count(tmp_path / "out", "staged") >= 3)
        for _ in range(3):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.process.pid, number)
            time.sleep(0.005)
        command.assert_stopped_by(number)


def test_a_plan_has_nothing_to_continue(tmp_path: Path) -> None:
    with started(tmp_path, "beam_pipelines.build", f"--output={tmp_path / 'out'}", "--plan") as command:
        command.wait_for(lambda: command.children("sample_scenes.drawing"))
        os.killpg(command.process.pid, signal.SIGINT)
        command.assert_stopped_by(signal.SIGINT, ENDED)


@pytest.mark.parametrize("number", standing_for([signal.SIGHUP, signal.SIGKILL], [*SIGNALS, signal.SIGKILL]))
def test_a_signal_stops_the_drawing_of_scenes(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "beam_pipelines.build", f"--output={tmp_path / 'out'}") as command:
        command.wait_for(lambda: command.children("sample_scenes.drawing"))
        if number == signal.SIGKILL:
            command.process.send_signal(number)
            assert_all_end(command)
        else:
            os.killpg(command.process.pid, number)
            command.assert_stopped_by(number)


def assert_all_end(command: Command) -> None:
    deadline = time.monotonic() + 10
    while left := command.left():
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.parametrize("number", standing_for([signal.SIGTERM], [*SIGNALS, signal.SIGKILL]))
def test_a_signal_stops_the_making_of_transform_fn(number: signal.Signals, tmp_path: Path) -> None:
    source, output = make_flat(tmp_path / "in"), tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=32x64")
    with started(tmp_path, "beam_pipelines.build", *arguments) as command:
        command.wait_for(lambda: command.children("beam_pipelines.metadata.transform_fn"))
        time.sleep(1)  # among its imports
        command.process.send_signal(number)
        if number == signal.SIGKILL:
            assert_all_end(command)
            assert (output / "_build").exists()
        else:
            command.assert_stopped_by(number)
    if number == signal.SIGKILL:
        assert run_module("build", *arguments).returncode == 0
        assert (output / "transform_fn" / "saved_model.pb").exists()
        assert not (output / "_build").exists()


def test_the_workers_of_a_killed_build_end_by_themselves(source: Path, tmp_path: Path) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", *OPTIONS)
    with started(tmp_path, "beam_pipelines.build", *arguments, *MODES["processes"]) as command:
        command.wait_for(lambda: count(tmp_path / "out", "staged") >= 3)
        assert command.children("sdk_worker_main")
        command.process.kill()
        assert_all_end(command)


@pytest.mark.parametrize(
    ("mode", "number"),
    standing_for([("threads", signal.SIGTERM), ("processes", signal.SIGINT)], itertools.product(MODES, SIGNALS)),
)
def test_a_signal_stops_a_verification(number: signal.Signals, mode: str, undisturbed: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for path in undisturbed.iterdir():
        (dataset / path.name).symlink_to(path)
    waits = dataset / "train-00003-of-00016.tfrecord"
    waits.unlink()
    os.mkfifo(waits)  # it lets its reader wait
    with started(tmp_path, "beam_pipelines.verify", dataset, "--runner=FnApiRunner", *MODES[mode]) as command:
        if mode == "processes":
            command.wait_for(lambda: command.children("sdk_worker_main"))
        else:
            command.wait_for(lambda: list(command.temporary.glob("*/*")))
        command.process.send_signal(number)
        command.assert_stopped_by(number, ENDED)


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import os, signal; from beam_pipelines import stopping\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "stopping.command(lambda: os.kill(os.getpid(), signal.SIGHUP) or 7)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 7
