"""Files appear whole or not at all, locally and in a bucket; and a whole build from a bucket into a bucket."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO

import pytest

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import lease, refusals, storage
from beam_pipelines.files.reader import FileReader
from beam_pipelines.files.refusals import LOGIN
from beam_pipelines.metadata.libraries import LIBRARIES
from beam_pipelines.rejects import BadInputError
from beam_pipelines.verify import main as verify
from tests.support.builds import build, digests, download, make_flat, make_uneven, published, run_module, upload

ARGUMENTS = ("--labels=camvid11", "--image_size=native", "--shards=train=4,val=2")


@pytest.fixture(params=["local", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "data [1] *")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/data [1]"


def test_a_file_is_written_read_listed_measured_and_deleted(folder: str) -> None:
    path = storage.join(folder, "a", "b.txt")
    assert storage.read_text(path) is None
    assert storage.size_of(path) is None
    assert storage.sizes(folder) == {}
    storage.write(path, b"street")
    storage.write(storage.join(folder, "c"), b"")
    assert storage.read_text(path) == "street"
    assert storage.size_of(path) == 6
    assert storage.exists(path)
    assert storage.sizes(folder) == dict(storage.list_files(folder)) == {"a/b.txt": 6, "c": 0}
    storage.write(path, b"other")
    assert storage.read_text(path) == "other"
    storage.delete([path, storage.join(folder, "nothing")])
    assert storage.sizes(folder) == {"c": 0}


def test_listed_files_are_removed_with_the_folders_that_are_empty_then_and_nothing_beside_them(folder: str) -> None:
    for name in ("_build/plan", "_build/staged/x", "_build/staged/mine", "_builder/y", "_build.txt", "gone/z"):
        storage.write(storage.join(folder, name), b"1")
    storage.remove(folder, ["_build/plan", "_build/staged/x", "_build", "gone/z", "nothing"])
    assert sorted(storage.sizes(folder)) == ["_build.txt", "_build/staged/mine", "_builder/y"]
    if storage.is_local(folder):
        assert not Path(folder, "gone").exists()


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    storage.write(str(elsewhere / "x"), b"mine")
    root.mkdir()
    (root / "folder").symlink_to(elsewhere)
    (root / "file").symlink_to(elsewhere / "x")
    storage.remove(str(root), ["folder/x", "folder", "file"])
    assert (root / "folder" / "x").read_bytes() == (root / "file").read_bytes() == b"mine"


def test_an_error_while_writing_leaves_what_was_there(folder: str) -> None:
    path = storage.join(folder, "file")

    def write_half(error: BaseException) -> None:
        with storage.writing(path) as file:
            file.write(b"half")
            raise error

    for error in (ValueError("stop"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write_half(error)
        assert storage.sizes(folder) == {}
    storage.write(path, b"whole")
    with pytest.raises(ValueError, match="stop"):
        write_half(ValueError("stop"))
    assert storage.sizes(folder) == {"file": 5}
    with pytest.raises(BuildError, match=r"cannot write .*file: No space left on device; free some space"):
        write_half(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert storage.read_text(path) == "whole"
    assert storage.sizes(folder) == {"file": 5}


def test_while_it_is_written_a_file_does_not_have_its_name(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with storage.writing(str(path)) as file:
        file.write(b"street")
        file.flush()
        assert not path.exists()
        (temporary,) = path.parent.iterdir()
        assert temporary.name.startswith("file.")
        assert storage.final_name(temporary.name) == "file"
    assert storage.final_name("file") is None
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_paths_are_joined() -> None:
    assert storage.join("gs://b/d/", "x", "y") == "gs://b/d/x/y"
    assert storage.join("out", "x") == "out/x"
    assert storage.is_local("out")
    assert not storage.is_local("gs://b")


def test_a_broken_link_is_listed_and_named_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "picture.png").symlink_to(tmp_path / "nowhere")
    assert storage.sizes(str(tmp_path)) == {"picture.png": 0}
    with pytest.raises(BadInputError) as caught:
        FileReader(100).read(str(tmp_path / "picture.png"))
    assert (caught.value.stage, caught.value.reason) == ("read", "unreadable")


def test_an_object_that_is_not_there_is_one_bad_file(bucket: str) -> None:
    with pytest.raises(BadInputError) as caught:
        FileReader(100).read(f"{bucket}/nothing.png")
    assert (caught.value.stage, caught.value.reason) == ("read", "unreadable")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def uploaded(source: Path, bucket: str) -> str:
    upload(source, f"{bucket}/input")
    return f"{bucket}/input"


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("encoding", ["float32", "png"])
def test_a_build_from_a_bucket_into_a_bucket_is_the_local_one(
    source: Path, uploaded: str, bucket: str, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output, local = f"{bucket}/out-{encoding}", tmp_path / "local"
    options = (*ARGUMENTS, f"--image_encoding={encoding}")
    assert build(f"--input={uploaded}", f"--output={output}", *options) == 0
    assert build(f"--input={source}", f"--output={local}", *options) == 0
    assert sorted(storage.sizes(output)) == names_below(local)
    shards, manifest, others = published(download(output, tmp_path / "remote"))
    local_shards, local_manifest, local_others = published(local)
    assert others.keys() == local_others.keys()
    for files in (others, local_others):
        del files["card/index.html"]  # it shows the recipe
    assert (shards, others) == (local_shards, local_others)
    for value in (manifest, local_manifest):
        del value["fingerprint"], value["recipe"]["input"]
    assert manifest == local_manifest
    capsys.readouterr()
    assert verify([output]) == 0
    assert "all records read, every check passed" in capsys.readouterr().out
    assert sorted(storage.sizes(output)) == names_below(local)
    assert build(f"--input={uploaded}", f"--output={output}", *options) == 0
    assert "is already complete" in capsys.readouterr().out


def test_an_update_in_a_bucket_is_the_local_one(bucket: str, tmp_path: Path) -> None:
    source, output, local = make_flat(tmp_path / "in", train=6, val=2), f"{bucket}/updated", tmp_path / "local"
    options = (f"--input={source}", "--labels=camvid11", "--image_size=32x64", "--shards=train=2,val=1")
    for place in (output, local):
        assert build(*options, f"--output={place}", "--no_transform_fn") == 0
    (source / "images" / "train" / "train_0002.png").unlink()
    (source / "masks" / "train" / "train_0002.png").unlink()
    for place in (output, local):
        assert build(*options, f"--output={place}", "--no_transform_fn", "--update") == 0
    assert published(download(output, tmp_path / "remote")) == published(local)
    assert sorted(storage.sizes(output)) == names_below(local)
    assert verify([output]) == 0


def test_the_command_line_does_it_with_the_transform(bucket: str, tmp_path: Path) -> None:
    source, output = make_flat(tmp_path / "in", train=4, val=1), f"{bucket}/out-command"
    arguments = ("--labels=camvid11", "--image_size=32x64")
    done = run_module("build", f"--input={source}", f"--output={output}", *arguments)
    assert done.returncode == 0, done.stderr
    assert {"transform_fn/saved_model.pb", "dataset.json"} <= storage.sizes(output).keys()
    for library in LIBRARIES:
        manifest = Manifest.from_json(storage.read_text(f"{output}/dataset.json") or "")
        for name, text in library.texts(manifest, f"{output}/plan.jsonl").items():
            assert storage.read_text(f"{output}/{name}") == text
    assert not [name for name in storage.sizes(output) if name.startswith("_") or name.endswith(".tmp")]


def test_in_a_bucket_bad_pairs_stop_the_build_and_the_same_command_goes_on(
    source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, output = f"{bucket}/input-bad", f"{bucket}/out-bad"
    upload(source, inputs)
    storage.write(f"{inputs}/images/train/train_0003.png", b"no picture")
    arguments = (f"--input={inputs}", f"--output={output}", *ARGUMENTS)
    assert build(*arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: 1 of 17 pairs were rejected")
    assert errors.count("\n") == 1
    assert f"{output}/rejected.jsonl lists each" in errors
    staged = [name for name in storage.sizes(output) if name.startswith("_build/")]
    assert staged
    assert build(*arguments, "--max_rejects=6%") == 0
    assert not [name for name in storage.sizes(output) if name.startswith("_build")]
    assert len(digests(download(output, tmp_path / "remote"))) == 6
    assert build(*arguments, "--max_rejects=6%", "--overwrite", "--seed=9") == 0
    assert verify([output]) == 0


def test_in_a_bucket_a_second_build_at_once_is_refused(
    uploaded: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/out-twice"
    arguments = (f"--input={uploaded}", f"--output={output}", *ARGUMENTS)
    with lease.hold(f"{output}/_build/lease"):
        assert build(*arguments) == 1
        errors = capsys.readouterr().err
        assert errors.startswith(f"error: another build is writing to {output} (")
        assert f'"process": {os.getpid()}' in errors
        assert "if that one was killed, run the same command again in " in errors
        assert errors.count("\n") == 1
        assert sorted(storage.sizes(output)) == ["_build/lease"]
    assert storage.sizes(output) == {}
    assert build(*arguments) == 0


def test_a_clock_that_is_fast_takes_no_lease_in_a_bucket(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = f"{bucket}/out-fast/_build/lease", time.time
    with lease.hold(path):
        monkeypatch.setattr(time, "time", lambda: clock() + 2 * lease.LAPSE_SECONDS)
        with pytest.raises(BuildError, match=r"another build is writing to .*, last seen \d s ago; "), lease.hold(path):
            pass


def test_a_lease_that_its_holder_deletes_while_another_build_comes_is_not_held_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, deleted = tmp_path / "_build" / "lease", fcntl.flock, list[int]()

    def lock_late(file: IO[str], how: int) -> None:
        """The build before ends between the opening and the locking."""
        if not deleted:
            deleted.append(path.stat().st_ino)
            shutil.rmtree(path.parent)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with lease.hold(str(path)):
        assert f'"process": {os.getpid()}' in path.read_text()
        with pytest.raises(BuildError, match="another build is writing to"), lease.hold(str(path)):
            pass
    assert deleted


def test_a_lease_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(lease, "_owner", refuse)
        wanted = f"^cannot write {tmp_path}/out/_build: No space left on device; "
        with pytest.raises(BuildError, match=wanted), lease.hold(f"{tmp_path}/out/_build/lease"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    wanted = f"^cannot write {tmp_path}/_build: No locks available; "
    with pytest.raises(BuildError, match=wanted), lease.hold(f"{tmp_path}/_build/lease"):
        pass


def test_a_local_file_whose_server_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr("beam_pipelines.files.reader.open_raw", refuse)
    with pytest.raises(BuildError, match=f"^{tmp_path}/a.png can't be read: Stale file handle; fix this and run"):
        FileReader(100).read(f"{tmp_path}/a.png")


def test_a_bucket_that_does_not_exist_is_told(source: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        (f"--input={source}", "--output=gs://nobody/out"),
        ("--input=gs://nobody/in", f"--output={bucket}/out-nobody"),
    ):
        assert build(*arguments, *ARGUMENTS) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert "gs://nobody/" in errors
        assert errors.count("\n") == 1


CODES = [code for row in refusals.REFUSALS for code in row.codes]


def test_every_code_stands_once_in_the_table_of_refusals() -> None:
    assert len(set(CODES)) == len(CODES)


@pytest.mark.parametrize("code", [*CODES, errno.EBUSY])
def test_what_storage_refuses_is_told_with_its_cure(code: int) -> None:
    error = OSError(code, "no")
    row = refusals.refusal_of(error)
    written = str(refusals.cannot_write("x", error))
    assert written.startswith(f"cannot write x: no; {row.write}")
    assert ("finished shards are kept" in written) == row.resumes
    assert str(refusals.cannot_read("x", error, "listed")) == f"x can't be listed: no; {row.read}"
    assert row.read
    assert row.write


def test_a_status_that_is_not_in_the_table_is_worth_another_try_later() -> None:
    assert refusals.refusal_of_status(503).read == "run the same command again later"
    assert refusals.refusal_of_status(401).read == LOGIN
