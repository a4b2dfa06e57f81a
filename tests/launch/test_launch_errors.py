"""How every command of the launch ends: one line, and the exit code of the case."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from beam_pipelines.contract.errors import Stopped
from beam_pipelines.errors import BuildError
from launch import start
from launch.dataflow import __main__ as dataflow
from launch.doctor import __main__ as doctor
from launch.errors import LaunchError, command, missing_packages
from launch.pipeline import __main__ as pipeline
from launch.vertex import __main__ as vertex
from tests.support.builds import PROJECT

MAINS = {
    "dataflow": dataflow.main,
    "doctor": doctor.main,
    "pipeline": pipeline.main,
    "vertex": vertex.main,
    "start": start.install,
}


def fail_with(error: BaseException, *arguments: str) -> int:
    @command
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    return main(arguments)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LaunchError("the bucket is gone; create it"), "the bucket is gone; create it"),
        (BuildError("1 of 17 pairs were rejected"), "1 of 17 pairs were rejected"),
        (RuntimeError("Traceback\n  x\nbeam_pipelines.errors.BuildError: bad pair [while running 'S']"), "bad pair"),
        (FileNotFoundError(2, "No such file or directory", "a.zip"), "a.zip: No such file or directory; fix this"),
        (OSError("no route to host"), "no route to host; fix this and run the same command again"),
        (ZeroDivisionError("division by zero"), "internal error, ZeroDivisionError: division by zero; please report"),
        (ZeroDivisionError(), "internal error, ZeroDivisionError; please report it with the traceback that --verbose"),
    ],
)  # fmt: skip
def test_an_error_is_one_line(error: Exception, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(error) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1


def test_only_verbose_shows_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(ZeroDivisionError("x"), "--verbose") == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):")
    assert told.splitlines()[-1].startswith("error: internal error, ZeroDivisionError: x; ")


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("name", ["dataflow", "doctor", "vertex"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_one_line_from_the_first_moment(name: str, number: signal.Signals) -> None:
    place = ["--project=street", "--region=europe-west4", "--output=gs://street/run"]
    place += (
        [] if name == "doctor" else ["--dataset=gs://street/data" if name == "vertex" else "--input=gs://street/in"]
    )
    command = [sys.executable, "-m", f"launch.{name}", *place]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not listens(process.pid):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (128 + number, "stopped\n")


def listens(process: int) -> bool:
    """Whether the process handles SIGHUP, the last one that it learns to handle."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def test_a_signal_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(Stopped(signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "stopped\n"


def test_wrong_arguments_stay_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        fail_with(SystemExit(2))
    assert stopped.value.code == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_is_one_line(unbuffered: str) -> None:
    """As with `| head -1`; buffered output is written only at the end."""
    place = ("--project=street", "--region=europe-west4", "--output=gs://street/run", "--dataset=gs://street/data")
    program = [sys.executable, "-m", "launch.vertex", *place, "--container=p/r/trainer:1", "--dry_run"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        program, cwd=PROJECT, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: Broken pipe; fix this and run the same command again"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", MAINS)
def test_every_command_is_wrapped(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> object:
        raise LaunchError("stop here")

    monkeypatch.setattr("launch.start.requirements_of" if name == "start" else f"launch.{name}.options.parse", fail)
    assert MAINS[name]([]) == 1
    assert capsys.readouterr().err == "error: stop here\n"


def test_a_missing_package_names_the_extra() -> None:
    with (
        pytest.raises(
            LaunchError, match=r"^a required package is not installed \(No module named 'nowhere'\): pip inst"
        ),
        missing_packages("pipelines"),
    ):
        importlib.import_module("nowhere")


def test_dataflow_without_beam_says_what_to_install() -> None:
    place = "'--project=street', '--region=us-central1', '--input=gs://street/in', '--output=gs://street/out'"
    program = "import sys; sys.modules['apache_beam'] = None; from launch.dataflow.__main__ import main; "
    program += f"sys.exit(main([{place}]))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a required package is not installed (")
    assert done.stderr.endswith("): pip install '.[pipelines]'\n")
