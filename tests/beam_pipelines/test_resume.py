"""Killed builds go on where they stopped, and end with the bytes of builds that nothing disturbed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.metadata.libraries import names
from tests.support.builds import BESIDE_SHARDS, PROJECT, build, make_flat, make_uneven, published, run_module

# One thread and small shards: there are many moments to be killed at.
SLOWLY = ("--labels=camvid11", "--image_size=native", "--shards=train=40,val=8", "--direct_num_workers=1")
States = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"), train=160, val=32, size=(96, 160))


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    done: dict[str, object] = {}

    def of(encoding: str) -> object:
        if encoding not in done:
            output = tmp_path_factory.mktemp("undisturbed")
            assert build(f"--input={source}", f"--output={output}", f"--image_encoding={encoding}", *SLOWLY) == 0
            done[encoding] = published(output)
        return done[encoding]

    return of


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A build in a process (and a process group) of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "beam_pipelines.build", *map(str, arguments)]
    pipes: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def stop_when(process: subprocess.Popen[str], reached: Callable[[], bool], by: signal.Signals = signal.SIGKILL) -> None:
    while not reached():
        assert process.poll() is None, f"the build ended before it could be stopped: {process.communicate()}"
        time.sleep(0.001)
    os.killpg(process.pid, by)
    process.wait()


def states(folder: Path, pattern: str) -> States:
    """Name -> inode and time of change of the files: equal only where nothing was written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob(pattern)}


def receipts(output: Path, kind: str) -> list[str]:
    return [path.name.removesuffix(".json") for path in (output / "_build" / kind).glob("*.json")]


def assert_clean(output: Path) -> None:
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]
    assert not (output / "_build").exists()
    kept = {path.name for path in output.iterdir() if path.suffix != ".tfrecord"}
    assert kept <= {*BESIDE_SHARDS, "transform_fn", "transformed_metadata", *names()}


@pytest.mark.parametrize(
    ("encoding", "kind", "count"),
    [("float32", "staged", 1), ("float32", "staged", 25), ("float32", "finished", 1), ("uint8", "staged", 20)],
    ids=["first staged shard", "half staged", "first finished shard", "half of uint8"],
)
def test_a_killed_build_goes_on_with_what_it_has(
    source: Path, tmp_path: Path, undisturbed: Callable[[str], object], encoding: str, kind: str, count: int
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", f"--image_encoding={encoding}", *SLOWLY)
    with started(*arguments) as process:
        stop_when(process, lambda: len(receipts(tmp_path, kind)) >= count)
    assert not (tmp_path / "dataset.json").exists()
    staged, finished = set(receipts(tmp_path, "staged")), set(receipts(tmp_path, "finished"))
    assert len(staged) < 48 or kind == "finished"
    assert len(finished) < 48
    whole = finished if encoding == "float32" else staged
    before = {name: state for name, state in states(tmp_path, "*.tfrecord").items() if name in whole}
    assert len(before) == len(whole)

    with Watch(tmp_path / "_build" / "staged") as watch:
        assert build(*arguments) == 0
    after = states(tmp_path, "*.tfrecord")
    assert {name: after[name] for name in before} == before
    assert not staged & watch.written
    assert published(tmp_path) == undisturbed(encoding)
    assert_clean(tmp_path)


class Watch:
    """Names of the shards whose receipts are written into `folder` while the block runs, as Linux's inotify tells."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.written = folder, set[str]()

    def __enter__(self) -> Watch:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK)
        moved_to = 0x80
        assert libc.inotify_add_watch(self._file, bytes(self._folder), moved_to) >= 0
        return self

    def __exit__(self, *_: object) -> None:
        with os.fdopen(self._file, "rb", buffering=0) as events:
            while data := events.read(1 << 16):
                while data:  # struct inotify_event: watch, mask, cookie, length, name
                    length = int.from_bytes(data[12:16], sys.byteorder)
                    name = data[16 : 16 + length].rstrip(b"\0").decode()
                    self.written |= {name.removesuffix(".json")} if name.endswith(".json") else set()
                    data = data[16 + length :]


def test_the_watch_sees_what_is_written(tmp_path: Path) -> None:
    with Watch(tmp_path) as watch:
        (tmp_path / "new.tmp").write_text("")
        (tmp_path / "new.tmp").rename(tmp_path / "train-0.tfrecord.json")
    assert watch.written == {"train-0.tfrecord"}


def test_a_build_that_was_killed_after_publishing_is_tidied_up(tmp_path: Path) -> None:
    source, output = make_flat(tmp_path / "in"), tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=32x64")
    with started(*arguments) as process:
        stop_when(process, (output / "dataset.json").exists)
    assert (output / "_build").exists()
    assert not (output / "transform_fn").exists()
    manifest = (output / "dataset.json").read_bytes()
    before = states(output, "*.tfrecord")
    done = run_module("build", *arguments)
    assert done.returncode == 0, done.stderr
    assert "is already complete" in done.stdout
    assert (output / "dataset.json").read_bytes() == manifest
    assert states(output, "*.tfrecord") == before
    assert (output / "transform_fn" / "saved_model.pb").exists()
    assert_clean(output)


def test_a_build_that_was_killed_before_it_deleted_its_lease_is_tidied_up(tmp_path: Path) -> None:
    """Its last deed: nothing else tells of that build."""
    source, output = make_uneven(tmp_path / "in", train=4, val=2), tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=native")
    assert build(*arguments) == 0
    before = states(output, "*")
    (output / "_build").mkdir()
    (output / "_build" / "lease").touch()
    assert build(*arguments) == 0
    assert not (output / "_build").exists()
    assert states(output, "*") == before


@pytest.mark.parametrize(("kind", "encoding"), [("staged", "uint8"), ("finished", "float32")])
def test_a_picture_that_changes_meanwhile_gives_the_data_set_of_the_new_pictures(
    source: Path, tmp_path: Path, kind: str, encoding: str
) -> None:
    changing, output, fresh = tmp_path / "in", tmp_path / "out", tmp_path / "fresh"
    shutil.copytree(source, changing)
    arguments = (f"--input={changing}", f"--image_encoding={encoding}", *SLOWLY)
    with started(f"--output={output}", *arguments) as process:
        stop_when(process, lambda: len(receipts(output, kind)) >= 24)
    picture = changing / "images" / "train" / "train_0007.png"
    size = picture.stat().st_size
    Image.fromarray(np.full((96, 160, 3), 200, np.uint8)).save(picture)
    assert picture.stat().st_size != size
    (changing / "images" / "val" / "val_0003.png").unlink()
    (changing / "masks" / "val" / "val_0003.png").unlink()
    for folder in (output, fresh):
        assert build(f"--output={folder}", *arguments) == 0
    assert published(output) == published(fresh)
    assert_clean(output)


def test_ctrl_c_stops_with_a_sentence_and_the_build_can_go_on(
    source: Path, tmp_path: Path, undisturbed: Callable[[str], object]
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", "--image_encoding=uint8", *SLOWLY)
    with started(*arguments) as process:
        stop_when(process, lambda: len(receipts(tmp_path, "staged")) >= 3, by=signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "stopped; run the same command again to continue\n"
    assert not (tmp_path / "dataset.json").exists()
    assert build(*arguments) == 0
    assert published(tmp_path) == undisturbed("uint8")
    assert_clean(tmp_path)
