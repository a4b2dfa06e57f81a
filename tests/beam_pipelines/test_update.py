"""`--update` gives the data set that a build from scratch would give, and harms nothing on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.index import Index, file_name
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.record import Record
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards import ownership
from beam_pipelines.verify import main as verify
from tests.support.builds import PROJECT, build, make_flat, published
from tests.support.killed_builds import killed

pytestmark = pytest.mark.usefixtures("without_transform")

BROKEN = "images/train/train_0009.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which one is broken."""
    folder = make_flat(tmp_path_factory.mktemp("pictures") / "in")
    (folder / BROKEN).write_bytes(b"no image")
    return folder


@dataclass
class Made:
    """A data set of pictures that may be changed, in the folder `in` of the working directory."""

    source: Path
    output: Path
    encoding: str = "uint8"

    def arguments(self, output: Path | None = None) -> list[str]:
        options = ["--labels=camvid11", "--image_size=32x64", "--shards=train=4,val=2", "--max_rejects=50%"]
        return ["--input=in", f"--output={output or self.output}", f"--image_encoding={self.encoding}", *options]

    def build(self, *more: str) -> int:
        return build(*self.arguments(), *more)

    @property
    def manifest(self) -> Manifest:
        return Manifest.from_json((self.output / "dataset.json").read_text())

    def files(self) -> list[str]:
        return [shard.file for shards in self.manifest.splits.values() for shard in shards]

    def states(self, pattern: str) -> dict[str, tuple[int, int, int]]:
        """File -> what changes if it is written again."""
        found = {path: path.stat() for path in self.output.glob(pattern) if path.is_file()}
        below = {str(path.relative_to(self.output)): state for path, state in found.items()}
        return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in below.items()}

    def records(self) -> dict[str, Record]:
        return {found.filename: found for file in self.files() for found in self._read(file)}

    def _read(self, file: str) -> Iterator[Record]:
        with (self.output / file).open("rb") as opened:
            for serialized in tfrecord.read_records(opened, file):
                yield record.decode(serialized)

    def indexed(self) -> dict[str, Any]:
        """What the indexes tell of each example."""
        paths = [self.output / file_name(file) for file in self.files()]
        found = [Index.from_bytes(path.read_bytes(), str(path)) for path in paths]
        return {example.key: example for index in found for example in index.examples}


@pytest.fixture(scope="module")
def finished(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, without_transform: None
) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("finished")

    def of(encoding: str) -> Path:
        made = Made(pictures, folder / encoding, encoding)
        if not made.output.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(pictures.parent)
                assert made.build() == 0
        return made.output

    return of


@pytest.fixture
def make(
    finished: Callable[[str], Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Made]:
    """A finished data set, and its pictures, to change."""
    monkeypatch.chdir(tmp_path)

    def of(encoding: str = "uint8") -> Made:
        made = Made(pictures, finished(encoding), encoding)
        shutil.copytree(pictures, tmp_path / "in")  # with the times of the files
        return Made(tmp_path / "in", Path(shutil.copytree(made.output, tmp_path / "out")), encoding)

    return of


def change(source: Path) -> None:
    """Adds one pair, changes one mask and one image, removes one of each split, and mends the broken one."""
    rng = np.random.default_rng(7)
    for name in ("images/train/new.png", BROKEN, "images/train/train_0003.png"):
        Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(source / name)
    for name in ("masks/train/new.png", "masks/val/val_0001.png"):
        Image.fromarray(np.full((32, 64), 5, np.uint8)).save(source / name)
    for name in ("train/train_0005.png", "val/val_0002.png"):
        (source / "images" / name).unlink()
        (source / "masks" / name).unlink()


@pytest.mark.parametrize("encoding", ["uint8", "float32", "float16", "png"])
def test_an_update_gives_what_a_build_from_scratch_gives(
    make: Callable[..., Made], tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(encoding)
    before, files = made.manifest, made.states("*.tfrecord")
    assert before.rejected == {"not_an_image": 1}
    change(made.source)
    assert made.build("--update") == 0
    printed = capsys.readouterr().out
    for line in ("1 pair added: train/new", "3 pairs changed: ", "2 pairs removed: "):
        assert line in printed
    scratch = Made(made.source, tmp_path / "scratch", encoding)
    assert scratch.build() == 0
    now, new = made.manifest, scratch.manifest
    for name in ("fingerprint", "pixels", "labels", "moments", "class_pixels", "ignored_pixels", "rejected"):
        assert getattr(now, name) == getattr(new, name), name
    assert now.moments != before.moments
    assert made.records() == scratch.records()
    assert made.indexed() == scratch.indexed()
    assert verify([str(made.output)]) == 0

    (update,) = now.updates
    assert (update.added, update.changed, update.removed, update.again) == (1, 3, 2, 0)
    assert {*update.shards} == {*made.files()} - files.keys()
    assert {*now.superseded} == files.keys() - {*made.files()}
    after = made.states("*.tfrecord")
    assert {name: after[name] for name in files} == files  # those that a reader may have open, too
    kept = {*made.files()} & files.keys()
    assert bool(kept) == (encoding in ("uint8", "png"))


def test_an_untouched_split_is_normalized_again_only_if_the_moments_change(make: Callable[..., Made]) -> None:
    made = make("float32")
    before = {*made.files()}
    Image.fromarray(np.full((32, 64), 5, np.uint8)).save(made.source / "masks" / "val" / "val_0001.png")
    assert made.build("--update") == 0
    gone = before - {*made.files()}
    assert len(gone) == 1  # the shard of the changed mask
    assert min(gone).startswith("val-")
    assert verify([str(made.output)]) == 0


def test_a_call_without_update_tells_what_has_changed(
    make: Callable[..., Made], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    assert made.build() == 0
    assert "its input has changed" not in capsys.readouterr().out
    for mask in (made.source / "masks" / "train").iterdir():
        mask.touch()
    state = (made.output / "dataset.json").read_bytes()
    assert made.build() == 0
    printed = capsys.readouterr().out
    assert "is already complete" in printed
    assert "its input has changed since; --update brings this in:\n  12 pairs changed: train/train_00" in printed
    assert (made.output / "dataset.json").read_bytes() == state
    shutil.rmtree(made.source)
    assert made.build() == 0
    assert "its input can't be compared with it: " in capsys.readouterr().out


def test_a_refused_update_leaves_the_lists_of_the_data_set_before(
    make: Callable[..., Made], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    before = (made.output / "rejected.jsonl").read_bytes()
    (made.source / "images" / "train" / "train_0002.png").write_bytes(b"no image")
    shutil.copy(made.source / "images" / "train" / "train_0001.png", made.source / "images" / "val" / "val_0001.png")
    assert made.build("--update", "--max_rejects=7%") == 1
    told = capsys.readouterr().err
    assert f"{made.output}/_build/rejected.jsonl lists each with its reason" in told
    assert made.build("--update", "--max_leaks=1%") == 1
    assert f"{made.output}/_build/duplicates.jsonl lists each pair" in capsys.readouterr().err
    assert (made.output / "rejected.jsonl").read_bytes() == before
    assert not (made.output / "duplicates.jsonl").exists()
    shutil.copytree(made.output, tmp_path / "refused")
    assert made.build("--update") == 0
    assert (made.output / "rejected.jsonl").read_bytes() != before
    assert (made.output / "duplicates.jsonl").exists()
    assert not (made.output / "_build").exists()
    restored = Made(made.source, tmp_path / "refused")
    for name in ("images/train/train_0002.png", "images/val/val_0001.png"):
        shutil.copy2(pictures / name, made.source / name)
    assert restored.build("--update") == 0
    assert (restored.output / "rejected.jsonl").read_bytes() == before
    assert not (restored.output / "duplicates.jsonl").exists()
    assert restored.build("--overwrite") == 0


def test_changes_of_what_is_rejected_alone_are_brought_in(make: Callable[..., Made], tmp_path: Path) -> None:
    """A broken picture that is gone, and a new one without a mask."""
    made = make("float32")
    (made.source / BROKEN).unlink()
    (made.source / BROKEN.replace("images", "masks")).unlink()
    shutil.copy(made.source / "images" / "train" / "train_0001.png", made.source / "images" / "train" / "lonely.png")
    before = made.manifest
    assert made.build("--update") == 0
    assert made.manifest.rejected == {"missing_mask": 1}
    assert (made.manifest.splits, made.manifest.updates) == (before.splits, ())
    scratch = Made(made.source, tmp_path / "scratch", "float32")
    assert scratch.build() == 0
    assert (made.output / "rejected.jsonl").read_bytes() == (scratch.output / "rejected.jsonl").read_bytes()
    (made.source / "images" / "train" / "lonely.png").unlink()
    assert made.build("--update") == 0
    assert made.manifest.rejected == {}


def test_the_numbers_of_shards_do_not_run_away(make: Callable[..., Made]) -> None:
    """The broken picture makes an update of every call."""
    made = make("float32")
    for _ in range(2):
        assert made.build("--update") == 0
    change(made.source)
    assert made.build("--update") == 0
    numbers = {int(name.split("-")[1]) for name in made.files() if name.startswith("train")}
    assert max(numbers) < 4 + 4 + 2
    assert verify([str(made.output)]) == 0


def test_the_lease_is_held_after_tidying_up(make: Callable[..., Made]) -> None:
    made = make()
    change(made.source)
    with killed("beam_pipelines.shards.ownership.finish"):
        assert made.build("--update") == 130
    (made.source / "images" / "train" / "train_0001.png").unlink()
    held = []

    def look(*_: object, **__: object) -> None:
        held.append((made.output / "_build" / "lease").exists())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_pipelines.builder._check_space", look)
        assert made.build("--update") == 0
    assert held == [True]


def test_a_kill_while_build_is_deleted_costs_nothing(make: Callable[..., Made]) -> None:
    """Of the files that an update was stopped with, only the digest of a manifest that was never written is left."""
    made = make("float32")
    before = made.states("*.tfrecord")
    kept = made.source / "images" / "train" / "train_0003.png"
    kept.rename(made.source / "kept.bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_pipelines.files.workspace.Workspace.write", _only_the_digest(Workspace.write))
        assert made.build("--update") == 1
    assert (made.output / "_build" / "published.json").exists()
    (made.source / "kept.bin").rename(kept)
    remove, finish = storage.remove, ownership.finish

    def die(root: str, names: Any) -> None:
        remove(root, names)
        if "_build/published.json" in names:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "finish", lambda *args: (patch.setattr(storage, "remove", die), finish(*args)))
        assert made.build("--update") == 130
    assert not (made.output / "_build" / "published.json").exists()
    assert made.build("--update") == 0
    assert {name: made.states("*.tfrecord")[name] for name in before} == before


@pytest.mark.parametrize("kept", range(3, 7))
@pytest.mark.parametrize("is_published", [True, False])
def test_a_kill_in_the_last_step_leaves_lists_and_plan_of_the_data_set(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, kept: int, is_published: bool
) -> None:
    """After `kept` deletions of the last step, of an update that is published, or that was refused and is needless.

    The first two are of tokens and temporary files, which a build does not need to go on.
    """
    made = make("float32")
    for kind in ("images", "masks"):
        (made.source / BROKEN.replace("images", kind)).unlink()  # else it is tried again
    assert made.build("--update") == 0
    picture = made.source / "images" / "train" / "train_0003.png"
    if is_published:
        shutil.copy(picture, made.source / "images" / "val" / "lonely.png")
    else:
        shutil.copy2(picture, made.source / "whole.bin")
        picture.write_bytes(b"no image")
        assert made.build("--update", "--max_rejects=1%") == 1
        shutil.move(made.source / "whole.bin", picture)
    remove, calls = storage.remove, []

    def die(root: str, names: Any) -> None:
        remove(root, names)
        calls.append(names)
        if len(calls) == kept:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        finish = ownership.finish
        patch.setattr(ownership, "finish", lambda *args: (patch.setattr(storage, "remove", die), finish(*args)))
        assert made.build("--update") == 130
    assert made.build("--update") == 0
    listed = [json.loads(line)["reason"] for line in (made.output / "rejected.jsonl").read_text().splitlines()]
    assert sorted(listed) == sorted(made.manifest.rejected)
    assert sorted(listed) == (["missing_mask"] if is_published else [])
    planned = [json.loads(line) for line in (made.output / "plan.jsonl").read_text().splitlines()[:-1]]
    assert {_shard_of(line) for line in planned} >= {*made.files()}
    change(made.source)
    assert made.build("--update") == 0
    assert verify([str(made.output)]) == 0


def _shard_of(line: list[Any]) -> str:
    split, index, count = line[:3]
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def _only_the_digest(write: Callable[..., None]) -> Callable[..., None]:
    def die(place: Workspace, path: str, data: bytes) -> None:
        if path == place.manifest:
            raise OSError("stopped")
        write(place, path, data)

    return die


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"half"])
def test_a_damaged_list_of_what_was_before_starts_the_update_anew(
    make: Callable[..., Made], damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    change(made.source)
    with killed("beam_pipelines.builder.execute"):
        assert made.build("--update") == 130
    (made.output / "_build" / "previous.json").write_bytes(damage)
    assert made.build("--update") == 0
    assert "previous.json was damaged, and is written again" in capsys.readouterr().out
    assert len(made.manifest.updates) == 1
    assert verify([str(made.output)]) == 0


def test_a_build_from_scratch_is_no_update(make: Callable[..., Made]) -> None:
    """Not even after an update that was killed, if the data set is gone."""
    made = make()
    change(made.source)
    with killed("beam_pipelines.shards.ownership.finish"):
        assert made.build("--update") == 130
    (made.output / "dataset.json").unlink()
    assert made.build("--update") == 0
    assert (made.manifest.updates, made.manifest.superseded) == ((), ())
    assert verify([str(made.output)]) == 0


def test_nothing_to_do_changes_nothing(make: Callable[..., Made], capsys: pytest.CaptureFixture[str]) -> None:
    """The broken picture is tried again, and is still broken."""
    made = make()
    change(made.source)
    assert made.build("--update") == 0
    states = made.states("**/*")
    capsys.readouterr()
    assert made.build("--update") == 0
    assert f"{made.output} is up to date" in capsys.readouterr().out
    assert made.states("**/*") == states


def test_a_picture_that_is_still_broken_gives_no_shard(make: Callable[..., Made]) -> None:
    made = make("float32")
    before = made.manifest
    assert made.build("--update") == 0
    assert made.manifest.splits == before.splits
    assert made.manifest.updates == ()
    assert made.manifest.rejected == before.rejected
    assert verify([str(made.output)]) == 0


def test_the_next_update_deletes_what_the_last_one_replaced_and_nothing_else(make: Callable[..., Made]) -> None:
    made = make()
    mine = ("notes.txt", "train-00009-of-00004.tfrecord.bak", "index/mine.txt")
    for name in mine:
        (made.output / name).write_text("mine")
    change(made.source)
    assert made.build("--update") == 0
    superseded = made.manifest.superseded
    assert all((made.output / name).exists() for name in superseded)
    (made.source / "images" / "train" / "train_0001.png").unlink()
    assert made.build("--update") == 0
    assert not [name for name in (*superseded, *map(file_name, superseded)) if (made.output / name).exists()]
    there = {path.name for path in made.output.glob("*.tfrecord")}
    assert there == {*made.files(), *made.manifest.superseded}
    assert len(made.manifest.updates) == 2
    assert [(made.output / name).read_text() for name in mine] == ["mine"] * 3
    assert made.build("--overwrite") == 0
    assert {path.name for path in made.output.glob("*.tfrecord")} == {*made.files()}
    assert [(made.output / name).read_text() for name in mine] == ["mine"] * 3


def test_a_reader_of_the_data_set_before_finishes_its_epoch(make: Callable[..., Made]) -> None:
    from trainer.data.dataset import open_dataset

    made = make("float32")
    expected = made.manifest.examples("train")
    examples = iter(open_dataset(str(made.output), "train"))
    next(examples)
    change(made.source)
    assert made.build("--update") == 0
    assert 1 + sum(1 for _ in examples) == expected


KILLED_AT = {
    "nothing written yet": "beam_pipelines.builder.write_previous",
    "a record copied": "beam_pipelines.shards.stage.mask_of",
    "shards staged": "beam_pipelines.shards.finish.Normalizer",
    "all but the manifest": "beam_pipelines.shards.publish.publish_manifest",
    "only the digest of the manifest": "beam_pipelines.files.workspace.Workspace.write",
    "published": "beam_pipelines.metadata.libraries.write_files",
    "plan not kept": "beam_pipelines.tidying._keep_plan",
}
_DIES = """
import os, pkgutil, signal, sys
from beam_pipelines.build import main
owner, _, name = sys.argv[1].rpartition(".")
owner = pkgutil.resolve_name(owner)
before = getattr(owner, name)

def die(*args, **kwargs):
    if name == "write" and not args[1].endswith("/dataset.json"):
        return before(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, die)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("moment", KILLED_AT)
def test_a_killed_update_leaves_a_whole_data_set_and_goes_on(
    make: Callable[..., Made], tmp_path: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make("float32")
    undisturbed = Made(made.source, Path(shutil.copytree(made.output, tmp_path / "undisturbed")), "float32")
    before = made.manifest
    change(made.source)
    assert undisturbed.build("--update") == 0
    command = [sys.executable, "-c", _DIES, KILLED_AT[moment], *made.arguments(), "--update", "--no_transform_fn"]
    settings: dict[str, Any] = {
        "env": os.environ | {"PYTHONPATH": str(PROJECT)},
        "capture_output": True,
        "check": False,
    }
    killed = subprocess.run([*command, "--direct_num_workers=1"], **settings)
    assert killed.returncode == -signal.SIGKILL
    is_published = moment in ("published", "plan not kept")
    assert (made.manifest == before) != is_published
    assert verify([str(made.output)]) == 0
    if not is_published and moment != "nothing written yet":
        capsys.readouterr()
        assert made.build() == 0
        assert "an update of it was begun and is not published: --update goes on" in capsys.readouterr().out
    assert made.build("--update") == 0
    assert published(made.output) == published(undisturbed.output)
    assert not (made.output / "_build").exists()
    assert made.build("--update") == 0


def test_an_update_that_has_become_needless_is_cleaned_up(make: Callable[..., Made], tmp_path: Path) -> None:
    made = make()
    (made.source / BROKEN).unlink()  # else it is tried again
    (made.source / "masks" / "train" / "train_0009.png").unlink()
    assert made.build("--update") == 0
    before = made.states("**/*")
    kept = tmp_path / "kept.png"
    (made.source / "images" / "train" / "train_0003.png").rename(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_pipelines.graph.publish", _stop)
        assert made.build("--update") == 1
    kept.rename(made.source / "images" / "train" / "train_0003.png")
    assert made.build("--update") == 0
    assert made.states("**/*") == before


def _stop(*_: object, **__: object) -> None:
    raise OSError("stopped")


def _forget_indexes(output: Path) -> None:
    value = json.loads((output / "dataset.json").read_text())
    del value["additions"]["indexed"]
    (output / "dataset.json").write_text(json.dumps(value))
    (output / "plan.jsonl").unlink()
    for folder in ("index", "card"):
        shutil.rmtree(output / folder)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "an earlier version": (_forget_indexes, "was built by a version that kept no list of its pairs"),
    "no plan": (lambda output: (output / "plan.jsonl").unlink(), "plan.jsonl does not exist"),
    "a cut plan": (lambda output: os.truncate(output / "plan.jsonl", 300), "plan.jsonl is damaged (line 1: "),
    "another plan": (
        lambda output: (output / "plan.jsonl").write_bytes(
            (output / "plan.jsonl").read_bytes().replace(b"train_0003", b"train_0004")
        ),
        "plan.jsonl is damaged",
    ),
    "no index": (lambda output: shutil.rmtree(output / "index"), "does not exist: restore index/"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_an_update_of_what_can_not_be_updated_is_refused(
    make: Callable[..., Made], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    spoil, problem = REFUSED[damage]
    spoil(made.output)
    state = (made.output / "dataset.json").read_bytes()
    change(made.source)
    capsys.readouterr()
    assert made.build("--update") == 1
    told = capsys.readouterr().err
    assert problem in told
    assert "--overwrite" in told
    assert (made.output / "dataset.json").read_bytes() == state
    assert made.build("--overwrite") == 0
    assert verify([str(made.output)]) == 0


def test_masks_that_are_read_in_another_way_are_refused(
    make: Callable[..., Made], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    colors = np.zeros((32, 64, 3), np.uint8)
    colors[:] = (128, 64, 128)  # the road of camvid11
    for mask in (made.source / "masks" / "train").iterdir():
        Image.fromarray(colors).save(mask)
    assert made.build("--update") == 1
    assert (
        "the masks are read as ids and levels and colors now, and were read as ids and levels when"
        in capsys.readouterr().err
    )


def test_update_begins_a_data_set_that_does_not_exist_yet(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)
    made = Made(pictures, tmp_path / "out")
    assert made.build("--update") == 0
    assert made.manifest.updates == ()


def test_a_file_for_a_library_that_was_edited_is_kept(
    make: Callable[..., Made], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    mine = (made.output / "croissant.json").read_text().replace('"name"', '"license": "mine", "name"', 1)
    (made.output / "croissant.json").write_text(mine)
    other = (made.output / "dataset_info.json").read_text()
    change(made.source)
    assert made.build("--update") == 0
    assert "croissant.json was changed since it was written, and is not updated" in capsys.readouterr().out
    assert (made.output / "croissant.json").read_text() == mine
    assert (made.output / "dataset_info.json").read_text() != other


@pytest.mark.parametrize("moment", ["tidying._keep_plan", "shards.ownership.finish"])
def test_patterns_of_names_follow_an_update(
    make: Callable[..., Made], tmp_path: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    more = make_flat(tmp_path / "more", train=1, val=0, seed=7)
    for kind in ("images", "masks"):
        (more / kind / "train").rename(made.source / kind / "train" / "below")
    capsys.readouterr()
    with killed(f"beam_pipelines.{moment}"):
        assert made.build("--update") == 130
    assert made.build("--update") == 0
    assert "was changed since" not in capsys.readouterr().out
    described = json.loads((made.output / "croissant.json").read_text())
    (files,) = [each for each in described["distribution"] if each["@id"] == "train_image_files"]
    assert files["includes"] == ["images/train/*.png", "images/train/*/*.png"]
