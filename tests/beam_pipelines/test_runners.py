"""What becomes of a pipeline that its runner does not bring to an end."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from beam_pipelines import runners
from beam_pipelines.errors import BuildError, without_worker_tracebacks
from beam_pipelines.options import parse_build, pipeline_options
from beam_pipelines.verify import main as verify
from tests.support.builds import PROJECT, make_uneven, run_module
from tests.support.handmade import write_dataset

PROCESSES = ("--runner=FnApiRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.mark.parametrize(
    ("cores", "pairs", "pair_seconds", "mode"),
    [
        *((cores, 10**6, 0.030, "multi_threading") for cores in (1, 2, 8, 16)),
        (64, 10**6, 0.030, "multi_processing"),
        (64, 3475, 0.030, "multi_threading"),  # done before processes have started
        (64, 10**6, 1.0, "multi_threading"),  # of pictures that large the lock is held for next to nothing
        (2, 10**6, 0.003, "multi_processing"),
        (8, 10**6, 0.003, "multi_processing"),
        (8, 700, 0.003, "multi_threading"),
        (8, 10**6, 0.0001, "multi_processing"),
        (1, 10**6, 0.0001, "multi_threading"),
    ],
)
def test_processes_run_where_threads_would_wait_for_the_lock(cores, pairs, pair_seconds, mode) -> None:
    assert runners.running_mode(cores, pairs, pair_seconds) == mode


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ([], "multi_processing"),
        (["--runner=FnApiRunner"], "multi_processing"),
        (["--direct_num_workers=3"], "multi_threading"),
        (["--direct_running_mode=in_memory"], "in_memory"),
        (["--runner=PrismRunner"], "in_memory"),  # Beam's default, which Prism does not read
    ],
)
def test_what_the_user_says_of_workers_holds(given, mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "cores", lambda: 64)
    arguments = parse_build(given).beam_args
    options = pipeline_options(arguments)
    runners.choose_mode(options, arguments, pairs=10**6, pair_seconds=0.03)
    assert options.view_as(DirectOptions).direct_running_mode == mode


def pipeline_of(work: Callable[[int], object], *options: str) -> beam.Pipeline:
    pipeline = beam.Pipeline(options=PipelineOptions(options or ["--runner=FnApiRunner"]))
    pipeline | beam.Create([1]) | beam.Map(work) | beam.Reshuffle()
    return pipeline


def fails_twice(attempts: Path) -> None:
    with open(attempts, "a+") as file:
        file.write("x")
    if attempts.stat().st_size < 3:
        raise ValueError("not yet")


def test_a_failed_run_is_followed_by_another_while_shards_get_done(tmp_path: Path) -> None:
    attempts, said = tmp_path / "attempts", list[str]()
    pipeline = pipeline_of(lambda _: fails_twice(attempts))
    runners.run_to_end(pipeline, itertools.count().__next__, said.append)
    assert attempts.read_text() == "xxx"
    assert len(said) == 2
    assert all("not yet" in reason for reason in said)


def test_a_run_that_got_nothing_done_is_the_last_and_its_error_is_raised(tmp_path: Path) -> None:
    attempts, said = tmp_path / "attempts", list[str]()
    with pytest.raises(ValueError, match="not yet"):
        runners.run_to_end(pipeline_of(lambda _: fails_twice(attempts)), lambda: 7, said.append)
    assert (attempts.read_text(), said) == ("x", [])


def test_a_folder_that_can_not_be_read_any_more_does_not_hide_the_error(tmp_path: Path) -> None:
    looks = iter([7])
    with pytest.raises(ValueError, match="not yet"):
        runners.run_to_end(pipeline_of(lambda _: fails_twice(tmp_path / "attempts")), looks.__next__, print)


class Deaf(PipelineResult):
    """A job that is lost from sight in `state`, and takes no canceling."""

    def wait_until_finish(self, duration: int | None = None) -> str:
        raise ValueError("lost from sight")

    def cancel(self) -> None:
        raise OSError("nobody answers\nat all")


class DeafRunner(PipelineRunner):
    def __init__(self, state: str) -> None:
        super().__init__()
        self._state = state

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        return Deaf(self._state)


@pytest.mark.parametrize(
    ("options", "state", "warned"),
    [
        (["--runner=DataflowRunner"], PipelineState.RUNNING, True),
        (["--runner=PrismRunner", "--job_endpoint=far:1"], PipelineState.RUNNING, True),
        (["--runner=FlinkRunner", "--flink_master=far:1"], PipelineState.RUNNING, True),
        (["--runner=flink", "--flink_master=far:1"], PipelineState.RUNNING, True),
        (["--runner=FlinkRunner", "--flink_master=far:1"], PipelineState.FAILED, False),
        (["--runner=FlinkRunner", "--flink_master=[local]"], PipelineState.RUNNING, False),
        (["--runner=FnApiRunner"], PipelineState.RUNNING, False),
    ],
)
def test_a_remote_job_that_can_not_be_canceled_is_told(
    options: list[str], state: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = beam.Pipeline(runner=DeafRunner(state), options=PipelineOptions(options))
    with pytest.raises(ValueError, match="lost from sight"):
        runners.run_to_end(pipeline, lambda: 0, print)
    told = "warning: the job could not be canceled (nobody answers): it may still write; cancel it in the cluster\n"
    assert capsys.readouterr().err == (told if warned else "")


def test_what_no_other_run_can_fix_is_raised_at_once(tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise BuildError("the disk is full")

    said = list[str]()
    with pytest.raises(BuildError, match="the disk is full"):
        runners.run_to_end(pipeline_of(refuse), itertools.count().__next__, said.append)
    assert not said


def test_a_worker_that_dies_over_and_over_is_a_sentence() -> None:
    with (
        pytest.raises(BuildError, match="a worker process died before it finished another shard"),
        without_worker_tracebacks(False),
    ):
        runners.run_to_end(pipeline_of(lambda _: os._exit(9), *PROCESSES), lambda: 0, lambda _: None)


@pytest.fixture
def workers_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they connect."""
    dies = "import os, sys\nif any('sdk_worker_main' in part for part in sys.orig_argv):\n    os._exit(9)\n"
    (tmp_path / "sitecustomize.py").write_text(dies)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.parametrize("slow", [0, 1])
def test_a_worker_that_connects_after_another_died_is_told_to_end(
    slow: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = "import os, time\nworker = os.environ.get('WORKER_ID', '')\nif worker and int(worker[-1]) % 2 == {}:\n"
    (tmp_path / "sitecustomize.py").write_text(f"{waits.format(slow)}    time.sleep(8)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with (
        pytest.raises(BuildError, match="a worker process died before it finished another shard"),
        without_worker_tracebacks(False),
    ):
        runners.run_to_end(pipeline_of(lambda _: os._exit(9), *PROCESSES), lambda: 0, lambda _: None)


@pytest.mark.usefixtures("workers_die")
def test_a_worker_that_dies_before_it_connects_is_a_sentence() -> None:
    with (
        pytest.raises(BuildError, match="a worker process died before it finished another shard"),
        without_worker_tracebacks(False),
    ):
        runners.run_to_end(pipeline_of(str, *PROCESSES), lambda: 0, lambda _: None)


@pytest.mark.usefixtures("workers_die")
def test_a_verification_whose_worker_dies_before_it_connects_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify([str(write_dataset(tmp_path / "dataset", "raw_uint8", (1,))), *PROCESSES]) == 2
    assert capsys.readouterr().err == (
        "error: a worker process died; it may have been killed, or run out of memory. Fewer workers need less memory; "
        "run the same command again\n"
    )


@pytest.mark.parametrize("verbose", [True, False])
def test_the_log_of_beam_is_shown_if_that_is_wanted(verbose: bool) -> None:
    code = (
        "import logging; from beam_pipelines import runners\n"
        "log = lambda _: logging.getLogger('apache_beam.runners').info('a bundle is done') or 0\n"
        f"raise SystemExit(runners.guarded(log, verbose={verbose}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stderr == ("apache_beam.runners: a bundle is done\n" if verbose else "")


def test_an_error_of_the_system_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def write(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/dev/full")

    assert runners.guarded(write, verbose=False) == 1
    told = "error: /dev/full: No space left on device; free some space and run the same command again\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("runner", "what", "option"),
    [("PrismRunner", "Prism", "--prism_location"), ("FlinkRunner", "Flink's job server", "--flink_job_server_jar")],
)
def test_a_runner_that_can_not_be_downloaded_is_a_sentence(runner: str, what: str, option: str, tmp_path: Path) -> None:
    source = make_uneven(tmp_path / "in", train=1, val=1)
    nowhere = {"https_proxy": "http://127.0.0.1:1", "HOME": str(tmp_path)}  # nor in Beam's cache
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", "--labels=camvid11", "--image_size=native")
    done = run_module("build", *arguments, f"--runner={runner}", env=os.environ | nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {what} could not be downloaded from https://")
    assert done.stderr.endswith(f"run `make runners`, or name a local copy with {option}\n")
    assert done.stderr.count("\n") == 1
