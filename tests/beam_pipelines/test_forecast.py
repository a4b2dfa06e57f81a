"""What `--plan` foretells of epochs and of time, from numbers that are given."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.report import duration, print_forecast
from beam_pipelines.shards.estimate import Estimate


def pairs(split: str, count: int) -> list[Pair]:
    return [Pair(f"{split}/{index}", split, "a.png", "a.png", "b.png", 1) for index in range(count)]


def lines(chosen: dict[str, Sequence[Pair]], pair_seconds: float, cores: int) -> list[str]:
    printed = io.StringIO()
    print_forecast(chosen, Estimate({}, 0.0, pair_seconds), cores, Console(file=printed, width=200))
    return printed.getvalue().splitlines()


def test_the_steps_are_those_of_train_and_the_time_is_that_of_every_split() -> None:
    assert lines({"train": pairs("train", 2975), "val": pairs("val", 500)}, 0.05, cores=2) == [
        "steps in an epoch of train: a batch of 4 makes 744, 8 makes 372, 16 makes 186, 32 makes 93",
        "the pipeline takes about 87 s on this machine: 50 ms for a pair, 2 cores",
    ]


def test_without_a_split_to_train_on_there_are_no_steps() -> None:
    assert lines({"val": pairs("val", 500)}, 0.05, cores=1) == [
        "the pipeline takes about 25 s on this machine: 50 ms for a pair, 1 core"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.01, "1 s"), (119, "119 s"), (120, "2 min"), (7170, "120 min"), (7200, "2.0 h")]
)
def test_a_duration_is_as_rough_as_the_estimate(seconds: float, text: str) -> None:
    assert duration(seconds) == text
