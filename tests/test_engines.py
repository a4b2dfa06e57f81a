"""What becomes of a pipeline that its engine does not bring to an end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import engines
from beam_pipelines.errors import BuildError, without_worker_tracebacks
from tests.conftest import make_uneven, run_module

PROCESSES = ("--runner=FnApiRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing")


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
    engines.run_to_end(pipeline, itertools.count().__next__, said.append)
    assert attempts.read_text() == "xxx"
    assert len(said) == 2
    assert all("not yet" in reason for reason in said)


def test_a_run_that_got_nothing_done_is_the_last_and_its_error_is_raised(tmp_path: Path) -> None:
    attempts, said = tmp_path / "attempts", list[str]()
    with pytest.raises(ValueError, match="not yet"):
        engines.run_to_end(pipeline_of(lambda _: fails_twice(attempts)), lambda: 7, said.append)
    assert (attempts.read_text(), said) == ("x", [])


def test_what_no_other_run_can_mend_is_raised_at_once(tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise BuildError("the disk is full")

    said = list[str]()
    with pytest.raises(BuildError, match="the disk is full"):
        engines.run_to_end(pipeline_of(refuse), itertools.count().__next__, said.append)
    assert not said


def test_a_worker_that_dies_over_and_over_is_a_sentence() -> None:
    with (
        pytest.raises(BuildError, match="a worker process died before it had finished one more shard"),
        without_worker_tracebacks(False),
    ):
        engines.run_to_end(pipeline_of(lambda _: os._exit(9), *PROCESSES), lambda: 0, lambda _: None)


@pytest.mark.parametrize(
    ("runner", "what", "option"),
    [("PrismRunner", "Prism", "--prism_location"), ("FlinkRunner", "Flink's job server", "--flink_job_server_jar")],
)
def test_an_engine_that_can_not_be_had_is_a_sentence(runner: str, what: str, option: str, tmp_path: Path) -> None:
    source = make_uneven(tmp_path / "in", train=1, val=1)
    nowhere = {"https_proxy": "http://127.0.0.1:1", "HOME": str(tmp_path)}  # nor in Beam's cache
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", "--labels=camvid11", "--image_size=native")
    done = run_module("build", *arguments, f"--runner={runner}", env=os.environ | nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {what} can't be had from https://")
    assert done.stderr.endswith(f"`make engines` brings it where it can, and {option} names it\n")
    assert done.stderr.count("\n") == 1
