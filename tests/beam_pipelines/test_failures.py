"""What stops a build: one clear sentence, an exit code, no traceback, nothing half-published."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.builds import BESIDE_SHARDS, PROJECT, build, digests, make_uneven, published, run_module
from tests.support.small_disks import NoRightToMountError, small_disk

ARGUMENTS = ("--labels=camvid11", "--image_size=native", "--image_encoding=uint8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"))


def fails(captured: Any, *wanted: str) -> None:
    """What went to stderr is one sentence with all that is `wanted`."""
    is_sentence(captured.err)
    for text in wanted:
        assert text in captured.err


def is_sentence(errors: str) -> None:
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_finished_data_set_is_complete_to_its_recipe_and_refused_to_another(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", *ARGUMENTS)
    assert build(*arguments) == 0
    before = everything(tmp_path)
    capsys.readouterr()

    assert build(*arguments) == 0
    assert f"{tmp_path} is already complete; --overwrite builds it again" in capsys.readouterr().out
    assert everything(tmp_path) == before

    assert build(*arguments, "--seed=3", "--mask_encoding=png") == 1
    fails(
        capsys.readouterr(),
        f"{tmp_path} holds a finished data set of another recipe",
        "seed: 0, not 3",
        "mask_encoding: uint8, not png",
        "choose another --output, or --overwrite to delete it first",
    )
    assert everything(tmp_path) == before


def test_overwrite_replaces_the_data_set_and_leaves_what_is_not_its_own(source: Path, tmp_path: Path) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", *ARGUMENTS)
    assert build(*arguments, "--shards=train=6,val=2") == 0
    strange = ("notes.txt", "mine/train-00000-of-00006.tfrecord", "scores.tfrecord", "train.tfrecord.gz")
    for name in strange:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "transform_fn").mkdir()
    (tmp_path / "transform_fn" / "mine.pb").write_text("mine")
    assert build(*arguments, "--shards=train=2,val=1", "--overwrite") == 0
    assert [(tmp_path / name).read_text() for name in strange] == ["mine"] * 4
    assert {path.name for path in tmp_path.iterdir()} == {
        *BESIDE_SHARDS,
        "mine",
        "notes.txt",
        "scores.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
        "train.tfrecord.gz",
        "transform_fn",
        "val-00000-of-00001.tfrecord",
    }
    assert [path.name for path in (tmp_path / "transform_fn").iterdir()] == ["mine.pb"]


def test_a_half_finished_build_of_another_recipe_is_refused_and_overwritten_on_demand(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make_uneven(tmp_path / "in")
    for path in sorted((bad / "images" / "train").iterdir())[:3]:
        path.write_bytes(b"")
    arguments = (f"--input={bad}", f"--output={tmp_path / 'out'}", *ARGUMENTS)
    assert build(*arguments) == 1
    before = everything(tmp_path / "out")
    capsys.readouterr()
    assert build(*arguments, "--image_encoding=float16") == 1
    fails(
        capsys.readouterr(),
        "holds an unfinished build of another recipe (image_encoding: uint8, not float16)",
        "finish it with its own command",
    )
    assert everything(tmp_path / "out") == before
    options = ("--image_encoding=float16", "--overwrite", "--max_rejects=50%")
    assert build(*arguments, *options) == 0


def test_a_label_table_with_other_rows_is_another_recipe(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, output = tmp_path / "table.yaml", tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", f"--labels={table}", *ARGUMENTS[1:])
    table.write_text("classes: [{name: all, ids: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}]\nignore: [11]\n")
    assert build(*arguments) == 0
    table.write_text("classes: [{name: all, ids: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]}]\nignore: [10]\n")
    assert build(*arguments) == 1
    fails(capsys.readouterr(), "another recipe (the label table has other rows)")


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "beam_pipelines.build", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_of_two_builds_at_once_the_second_is_refused_and_the_first_ends_well(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", *ARGUMENTS)
    with started(*arguments) as first:
        lease = tmp_path / "_build" / "lease"
        while not (lease.exists() and lease.read_text()):
            assert first.poll() is None, first.communicate()
            time.sleep(0.001)
        os.kill(first.pid, 19)  # SIGSTOP: however fast it is, it is still there when the second one comes
        try:
            assert build(*arguments, "--overwrite") == 1
        finally:
            os.kill(first.pid, 18)
        fails(
            capsys.readouterr(),
            f"another build is writing to {tmp_path} ",
            f'"process": {first.pid}',
            "wait for it to end, or choose another --output",
        )
        _, errors = first.communicate()
    assert (first.returncode, errors) == (0, "")
    assert build(f"--input={source}", f"--output={tmp_path}-other", *ARGUMENTS) == 0
    assert published(tmp_path) == published(Path(f"{tmp_path}-other"))


def test_the_claim_of_a_killed_build_does_not_outlive_it(source: Path, tmp_path: Path) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", *ARGUMENTS)
    with started(*arguments) as first:
        while not (tmp_path / "_build" / "lease").exists():
            time.sleep(0.001)
        first.kill()
    assert build(*arguments) == 0


def test_too_little_space_is_told_before_the_work(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], full_soon: Path
) -> None:
    pictures = make_uneven(tmp_path / "in", train=40, val=4, size=(128, 256))
    output = full_soon / "out"
    arguments = (f"--input={pictures}", f"--output={output}", "--labels=camvid11", "--image_size=native")
    assert build(*arguments) == 1
    fails(
        capsys.readouterr(),
        f"{output}: the build needs about",
        "and the disk has",
        "free some space, or choose --image_encoding=float16, uint8 or png",
    )
    assert not list(output.rglob("*.tfrecord*"))
    assert not (output / "dataset.json").exists()


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    with contextlib.ExitStack() as mounted:
        try:
            folder = mounted.enter_context(small_disk(tmp_path / "disk", 4 * 2**20))
        except NoRightToMountError as error:
            pytest.skip(str(error))
        yield folder


def test_the_space_for_card_and_transform_fn_is_needed_too(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", "--image_size=8x16", "--image_encoding=png")
    options = ("--labels=camvid11", "--aspect=stretch")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    assert build(*arguments, *options) == 1
    fails(capsys.readouterr(), "the build needs about 1.", "the disk has 1.50 MB free; free some space")
    assert build(*arguments, *options, "--no_transform_fn") == 0


def test_a_disk_that_is_full_when_transform_fn_is_written_is_told(
    tmp_path: Path, full_soon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = make_uneven(tmp_path / "in", train=4, val=4, size=(32, 64))
    output, ballast = full_soon / "out", full_soon / "ballast"
    arguments = (f"--input={pictures}", f"--output={output}", "--labels=camvid11", "--image_size=16x32")
    assert build(*arguments, "--aspect=stretch", "--no_transform_fn") == 0
    ballast.write_bytes(bytes(shutil.disk_usage(full_soon).free - 60_000))
    capsys.readouterr()
    assert build(*arguments, "--aspect=stretch") == 1
    fails(
        capsys.readouterr(),
        "the data set is complete, but writing its transform_fn failed: ",
        "No space left on device; free some space",
        "run the same command again",
    )
    ballast.unlink()
    assert build(*arguments, "--aspect=stretch") == 0
    assert (output / "transform_fn").exists()


def test_a_disk_that_fills_up_ends_the_build_and_the_same_command_goes_on_when_there_is_space(
    tmp_path: Path, full_soon: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space goes to someone else while the build runs: the check at its start can't foresee that."""
    pictures = make_uneven(tmp_path / "in", train=24, val=4, size=(96, 160))
    output, ballast = full_soon / "out", full_soon / "ballast"
    arguments = (f"--input={pictures}", f"--output={output}", *ARGUMENTS, "--shards=train=8,val=2")
    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.builder._check_space", lambda *_: ballast.write_bytes(bytes(3_300_000)))
        assert build(*arguments) == 1
    captured = capsys.readouterr()
    fails(
        captured,
        f"cannot write {output}/",
        "No space left on device; free some space",
        "finished shards are kept, run the same command again",
    )
    assert not (output / "dataset.json").exists()
    assert not [path for path in output.glob("*.tfrecord") if not (output / "_build").exists()]
    whole = digests(output)
    ballast.unlink()
    assert build(*arguments) == 0
    assert whole.items() <= digests(output).items()
    assert build(*arguments[:1], f"--output={tmp_path / 'out'}", *arguments[2:]) == 0
    assert published(output) == published(tmp_path / "out")


def test_a_file_size_limit_is_told(source: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = run_module(
        "build", f"--input={source}", f"--output={tmp_path}", *ARGUMENTS, "--shards=train=1,val=1", preexec_fn=limit
    )
    assert done.returncode == 1
    is_sentence(done.stderr)
    assert (
        "File too large; the file size limit (ulimit -f) is reached: raise it, or lower --shard_size_mb" in done.stderr
    )
    assert not (tmp_path / "dataset.json").exists()
    assert not list(tmp_path.glob("train*"))
    assert build(f"--input={source}", f"--output={tmp_path}", *ARGUMENTS, "--shards=train=1,val=1") == 0


def test_a_build_that_fails_early_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    """In finding the pairs: an output that did not exist does not exist afterwards, and an empty one is empty."""
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "new" / "out"):
        assert build(f"--input={tmp_path / 'nowhere'}", f"--output={output}") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_overwrite_deletes_nothing_where_the_disk_is_too_small(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", *ARGUMENTS)
    assert build(*arguments) == 0
    before = everything(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    assert build(*arguments, "--overwrite", "--seed=3", "--max_pairs=100", "--image_size=256x512") == 1
    fails(capsys.readouterr(), "the build needs about", "free some space")
    assert everything(tmp_path) == before


def test_an_output_below_a_file_or_in_proc_is_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert build(f"--input={source}", f"--output={tmp_path / 'file' / 'out'}", *ARGUMENTS) == 1
    fails(capsys.readouterr(), "cannot write", "a part of the path is a file: choose another folder")
    assert build(f"--input={source}", "--output=/proc/dataset", *ARGUMENTS) == 1
    fails(capsys.readouterr(), "cannot write /proc/dataset")


def test_a_folder_without_permission_is_told(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    command = [sys.executable, "-m", "beam_pipelines.build", f"--input={source}", f"--output={folder}", *ARGUMENTS]
    if os.access(folder, os.W_OK):  # root: without the right to pass over permissions
        right = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={right}", f"--inh-caps={right}", *command]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    is_sentence(done.stderr)
    told = f"cannot write {folder}/_build: Permission denied; choose another folder, or ask for permission to"
    assert told in done.stderr
    assert not list(folder.iterdir())


def test_an_input_that_is_not_there_or_has_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert build(f"--input={tmp_path / 'nowhere'}", f"--output={output}") == 1
    fails(capsys.readouterr(), f"{tmp_path / 'nowhere'} does not exist")
    (tmp_path / "empty").mkdir()
    assert build(f"--input={tmp_path / 'empty'}", f"--output={output}") == 1
    fails(capsys.readouterr(), "empty has no known layout. It has no files. Known are Cityscapes; ")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    assert build(f"--input={tmp_path / 'cut.zip'}", f"--output={output}") == 1
    fails(capsys.readouterr(), "is not a zip archive, or is truncated", "download it again")
    assert not (output / "dataset.json").exists()


def without_account() -> dict[str, str]:
    """An environment in which no Google account can be found, not even that of a machine in the cloud."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_"))}
    return kept | {"CLOUDSDK_CONFIG": "/nonexistent", "NO_GCE_CHECK": "true"}


def test_a_bucket_without_an_account_is_told(source: Path) -> None:
    output = "--output=gs://no-such-bucket/out"
    done = run_module("build", f"--input={source}", output, *ARGUMENTS, env=without_account())
    assert done.returncode == 1
    is_sentence(done.stderr)
    assert "gs://no-such-bucket/out: no Google account is set up; log in with `gcloud auth" in done.stderr


def test_a_manifest_that_is_not_one_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"--input={source}", f"--output={tmp_path}", *ARGUMENTS)
    (tmp_path / "dataset.json").write_text(json.dumps({"format_version": 99}))
    assert build(*arguments) == 1
    fails(capsys.readouterr(), "has format version 99 and this code reads 1", "--overwrite deletes it and builds again")
    assert build(*arguments, "--overwrite") == 0
