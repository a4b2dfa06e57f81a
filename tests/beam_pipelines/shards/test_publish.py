"""What was damaged since it was written is not published, and the same command makes it again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from tests.support.builds import build, make_flat
from tests.support.killed_builds import DAMAGES, FIRST
from tests.support.late_workers import begin, coming_back, command, everything, paint

pytestmark = pytest.mark.usefixtures("without_transform")


@contextlib.contextmanager
def damaged_before_publishing(path: str) -> Iterator[list[bytes]]:
    """-> what was there before."""
    sound: list[bytes] = []

    def damage() -> None:
        sound.append(storage.read_bytes(path) or b"")
        storage.write(path, DAMAGES["flipped"](sound[0]))

    with coming_back("staged", damage):
        yield sound


def test_other_bytes_of_the_same_length_are_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    arguments, path = command(source, output, "float32"), Workspace(str(output)).index(FIRST)
    with damaged_before_publishing(path) as sound:
        assert build(*arguments) == 1
    assert capsys.readouterr().err == (
        f"error: {path} has other bytes, and {Path(path).stat().st_size:,} bytes were written: another program changed "
        "the folder; run the same command again\n"
    )
    assert not (output / "dataset.json").exists()
    assert build(*arguments) == 0
    assert Path(path).read_bytes() == sound[0]


def test_an_index_that_is_damaged_in_an_update_is_written_again(tmp_path: Path) -> None:
    """That of a shard which is normalized again, and has no receipt of its staging."""
    source, output, alone = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out", tmp_path / "alone"
    assert build(*command(source, output, "float32")) == 0
    shutil.copytree(output, alone)
    paint(source, "added", 8)
    with damaged_before_publishing(Workspace(str(output)).index("train-00002-of-00002.tfrecord")):
        assert build(*command(source, output, "float32", "--update")) == 1
    for folder in (output, alone):
        assert build(*command(source, folder, "float32", "--update")) == 0
    assert everything(output) == everything(alone)


def test_lists_of_an_update_that_was_stopped_are_not_those_of_another_build(tmp_path: Path) -> None:
    source, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    arguments = command(source, output, "uint8")
    assert build(*arguments) == 0
    whole = everything(output)
    paint(source, "added", 8)
    place = begin(*arguments, "--update").place
    for path in place.refused:
        place.write(path, b"what the update has found\n")
    for folder in ("images", "masks"):
        (source / folder / "train" / "added.png").unlink()
    Path(place.manifest).write_bytes(DAMAGES["cut"](Path(place.manifest).read_bytes()))
    assert build(*arguments) == 0
    assert everything(output) == whole


def test_in_a_bucket_the_checksums_of_shards_are_compared(
    tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/damaged/out"
    arguments, path = command(make_flat(tmp_path / "in", train=4, val=2), output, "uint8"), f"{output}/{FIRST}"
    with damaged_before_publishing(path) as sound:
        assert build(*arguments) == 1
    assert f"{FIRST} has other bytes, and" in capsys.readouterr().err
    assert not storage.exists(f"{output}/dataset.json")
    assert build(*arguments) == 0
    assert f"building again what an earlier run left damaged (other bytes 1): {FIRST}" in capsys.readouterr().out
    assert storage.read_bytes(path) == sound[0]
