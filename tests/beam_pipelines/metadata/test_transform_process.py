"""The process that makes transform_fn may start before there is a data set; it ends in any case."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from beam_pipelines import builder, tidying
from beam_pipelines.contract import png
from beam_pipelines.errors import BuildError, ReplacedBuildError
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata.transform_process import TransformProcess
from beam_pipelines.options import parse_build
from beam_pipelines.shards import ownership
from tests.support.builds import build, make_flat

NAME = "beam_pipelines.metadata.transform_fn"
OPTIONS = ("--labels=camvid11", "--image_size=16x32")


def waiting() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if NAME in child.cmdline()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat")
    source = make_flat(folder / "in", train=2, val=1)
    assert build(f"--input={source}", f"--output={folder / 'out'}", *OPTIONS, "--no_transform_fn") == 0
    return folder / "out"


@pytest.mark.slow
def test_one_that_was_killed_while_it_waited_is_started_again(dataset: Path) -> None:
    place = Workspace(str(dataset))
    with TransformProcess(place) as transform:
        transform.start()
        (early,) = waiting()
        early.kill()
        transform.write()
        assert not waiting()
    assert (dataset / "transform_fn" / "saved_model.pb").is_file()
    assert not Path(place.scratch).exists()


def test_one_that_is_not_needed_ends_and_leaves_nothing(tmp_path: Path) -> None:
    place = Workspace(str(tmp_path))
    with TransformProcess(place) as transform:
        transform.start()
        assert waiting()
    assert not waiting()
    assert not Path(place.scratch).exists()


@pytest.mark.slow
def test_what_it_can_not_write_is_told_with_its_reason(tmp_path: Path) -> None:
    place = Workspace(str(tmp_path))  # without a data set
    with TransformProcess(place) as transform, pytest.raises(BuildError, match=r"exited with 1: AssertionError"):
        transform.write()
    assert not waiting()


@pytest.mark.slow
def test_it_writes_nothing_when_another_build_has_taken_the_folder(dataset: Path, tmp_path: Path) -> None:
    folder = Workspace(str(shutil.copytree(dataset, tmp_path / "out")))
    place, _ = ownership.take(folder), ownership.take(folder)
    there = {*Path(place.root).rglob("*")}
    with TransformProcess(place) as transform, pytest.raises(ReplacedBuildError):
        transform.write()
    assert {*Path(place.root).rglob("*")} <= there


@pytest.mark.parametrize(
    ("options", "seconds", "early"),
    [
        ((), 5.0, True),
        ((), 500.0, False),  # TensorFlow's memory would be held for long
        (("--no_transform_fn",), 5.0, False),
        (("--image_size=native",), 5.0, False),  # images may differ in size, which no graph takes
        (("--update",), 5.0, False),
        (("--runner=PrismRunner",), 5.0, False),
    ],
    ids=str,
)
def test_it_starts_with_the_pipeline_of_a_short_build(options, seconds, early) -> None:
    settings = parse_build(["--input=in", "--output=out", *OPTIONS, *options])
    assert tidying.begins_early(settings, seconds) == early


def test_a_build_whose_pipeline_fails_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[psutil.Process] = []

    def fail(*_: object) -> None:
        seen.extend(waiting())
        raise BuildError("the disk is full")

    monkeypatch.setattr(builder, "execute", fail)
    source = make_flat(tmp_path / "in", train=2, val=1)
    assert build(f"--input={source}", f"--output={tmp_path / 'out'}", *OPTIONS) == 1
    assert len(seen) == 1
    assert not waiting()


def test_the_output_names_the_decoder(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dataset.parent / "in"
    assert build(f"--input={source}", f"--output={tmp_path}", *OPTIONS, "--no_transform_fn", "--verbose") == 0
    printed = capsys.readouterr().out
    name = png.decoder()
    assert f"PNG files of RGB are decoded by {name}" in printed
    assert f"img/s, PNG by {name})" in printed
