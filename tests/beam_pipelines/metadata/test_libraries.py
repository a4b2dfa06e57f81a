"""The files for other libraries are a build's own: completed, kept and deleted like its shards, and nobody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines.contract.seal import unsealed
from beam_pipelines.files.names import METADATA_FILES
from beam_pipelines.metadata import libraries, tfds
from beam_pipelines.verify import main as verify
from tests.support.builds import build, make_flat, no_transform
from tests.support.killed_builds import DAMAGES, command, killed

NAMES = [METADATA_FILES, *libraries.names()]
USERS = "notes.txt"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with no_transform():
        yield make_flat(tmp_path_factory.mktemp("in"), train=4, val=2)


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert build(*arguments(source, output)) == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of the finished data set, with a file of the user's."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / USERS).write_text("mine")
    capsys.readouterr()
    return folder


def arguments(source: Path, output: Path) -> tuple[str, ...]:
    return (*command(source, output, "png"), "--mask_encoding=png")


def metadata(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}


def test_a_build_lists_what_it_writes(finished: Path) -> None:
    listed = json.loads(unsealed((finished / METADATA_FILES).read_bytes()) or "")
    assert [METADATA_FILES, *listed] == NAMES
    assert metadata(finished).keys() == {*NAMES}


def test_verify_accepts_a_data_set_with_and_without_them(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify([str(output), "--direct_num_workers=1"]) == 0
    for name in NAMES:
        (output / name).unlink()
    assert verify([str(output), "--direct_num_workers=1"]) == 0
    assert capsys.readouterr().out.count("every check passed") == 2


@pytest.mark.parametrize("missing", [NAMES, [METADATA_FILES], [tfds.INFO]], ids=["all", "list", "one"])
def test_the_same_command_completes_a_data_set_of_an_earlier_version(
    finished: Path, output: Path, source: Path, capsys: pytest.CaptureFixture[str], missing: list[str]
) -> None:
    for name in missing:
        (output / name).unlink()
    shards = {path: path.stat().st_mtime_ns for path in [*output.glob("*.tfrecord"), output / "dataset.json"]}
    assert build(*arguments(source, output)) == 0
    assert "is already complete" in capsys.readouterr().out
    assert metadata(output) == metadata(finished)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert not (output / "_build").exists()


def test_what_the_user_has_changed_since_is_kept(output: Path, source: Path) -> None:
    changed = json.loads((output / tfds.INFO).read_text()) | {"citation": "mine"}
    (output / tfds.INFO).write_text(json.dumps(changed))
    (output / tfds.FEATURES).unlink()
    assert build(*arguments(source, output)) == 0
    assert json.loads((output / tfds.INFO).read_text()) == changed
    assert (output / tfds.FEATURES).exists()


def test_a_finished_data_set_is_left_alone(output: Path, source: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert build(*arguments(source, output)) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


@pytest.mark.parametrize("name", [tfds.FEATURES, METADATA_FILES])
def test_a_new_build_refuses_a_file_of_the_user(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("mine")
    assert build(*arguments(source, tmp_path)) == 1
    assert f"holds {name}, which the build would overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_finished_data_set_works_without_the_files_that_a_file_of_the_user_stands_for(
    finished: Path, output: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        (output / name).unlink()
    (output / tfds.FEATURES).write_text("mine")
    note = (
        f"no files for TensorFlow Datasets are written: no build wrote {tfds.FEATURES}: move that away, and run the "
        "same command again"
    )
    for _ in range(2):
        assert build(*arguments(source, output)) == 0
        out = capsys.readouterr().out.replace("\n", " ")
        assert note in out
        assert "is already complete" in out
        assert metadata(output)[tfds.FEATURES] == b"mine"
        assert not (output / tfds.INFO).exists()
    (output / tfds.FEATURES).unlink()
    assert build(*arguments(source, output)) == 0
    assert metadata(output) == metadata(finished)


def test_a_damaged_list_has_to_be_moved(
    finished: Path, output: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = output / METADATA_FILES
    path.write_bytes(DAMAGES["cut"](path.read_bytes()))
    assert build(*arguments(source, output)) == 1
    assert f"holds {METADATA_FILES}, which the build would overwrite" in capsys.readouterr().err
    path.unlink()
    assert build(*arguments(source, output)) == 0
    assert metadata(output) == metadata(finished)


@pytest.mark.parametrize("when", ["metadata.libraries.write_metadata_list", "shards.ownership.finish"])
def test_a_killed_build_writes_what_is_missing_or_damaged(
    finished: Path, source: Path, tmp_path: Path, when: str
) -> None:
    with killed(f"beam_pipelines.{when}"):
        assert build(*arguments(source, tmp_path)) == 130
    (tmp_path / tfds.INFO).write_bytes(b"")
    (tmp_path / tfds.FEATURES).unlink()
    assert build(*arguments(source, tmp_path)) == 0
    assert metadata(tmp_path) == metadata(finished)
    assert not (tmp_path / "_build").exists()


def test_overwrite_deletes_them(output: Path, source: Path, tmp_path: Path) -> None:
    assert build(*arguments(source, output), "--mask_encoding=uint8", "--overwrite") == 0
    assert not (output / tfds.CLASS_NAMES).exists()
    assert (output / USERS).read_text() == "mine"
    assert "labeled_image" not in (output / tfds.FEATURES).read_text()
