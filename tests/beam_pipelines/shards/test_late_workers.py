"""Workers of a build that come back when another one has taken the folder: they write nothing into it any more."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from pathlib import Path

import pytest

from beam_pipelines.errors import BuildError, ReplacedBuildError
from beam_pipelines.files.workspace import Workspace, read_manifest
from beam_pipelines.graph import StageShardFn
from beam_pipelines.shards import ownership
from beam_pipelines.shards.plan import list_shards
from tests.support.builds import build, digests, download, make_flat
from tests.support.faulty_storage import Front
from tests.support.killed_builds import FIRST, killed
from tests.support.late_workers import (
    Worker,
    begin,
    coming_back,
    command,
    cut_off,
    everything,
    paint,
    paused_everywhere,
)
from tests.support.matrix import standing_for

pytestmark = pytest.mark.usefixtures("without_transform")

KINDS = ("other recipe", "changed input", "update")
ENCODINGS = ("float32", "uint8", "png")
MOMENTS = ("begun", "staged", "published")
EACH_ONCE = [
    ("other recipe", "uint8", "begun"),
    ("other recipe", "float32", "published"),
    ("changed input", "png", "staged"),
    ("update", "float32", "begun"),
]


class Scenes:
    """A build that was begun in `output`, and another one that is to take the folder from it."""

    def __init__(self, folder: Path, kind: str, encoding: str) -> None:
        self.output, self._alone = folder / "out", folder / "alone"
        source = make_flat(folder / "in", train=4, val=2)
        self._source, self._encoding, self._more = source, encoding, ["--update"] if kind == "update" else []
        if kind == "update":
            assert build(*command(source, self.output, encoding)) == 0
            shutil.copytree(self.output, self._alone)
            paint(source, "train_0001", 7)
            paint(source, "added", 8)
        self.begun = begin(*self._command(self.output, size="8x16" if kind == "other recipe" else "16x32"))
        if kind == "other recipe":
            self._more.append("--overwrite")
        else:
            paint(source, "train_0002", 9)
            paint(source, "added", 10)

    def _command(self, output: Path, size: str = "16x32") -> tuple[str, ...]:
        return command(self._source, output, self._encoding, *self._more, size=size)

    def build(self) -> int:
        return build(*self._command(self.output))

    def undisturbed(self) -> dict[str, str]:
        assert build(*self._command(self._alone)) == 0
        return everything(self._alone)


@pytest.mark.parametrize(
    ("kind", "encoding", "moment"), standing_for(EACH_ONCE, itertools.product(KINDS, ENCODINGS, MOMENTS))
)
def test_workers_that_come_back_change_nothing(tmp_path: Path, kind: str, encoding: str, moment: str) -> None:
    """Each was paused amid its pictures, or after it had seen that it may write, and before it did that."""
    scenes, told = Scenes(tmp_path, kind, encoding), list[tuple[Worker, BaseException | None]]()

    def come_back() -> None:
        told.extend((worker, worker.go_on()) for worker in workers)
        for plan in scenes.begun.plans:
            with pytest.raises(ReplacedBuildError):
                scenes.begun.stage(plan)

    with cut_off():
        workers = scenes.begun.workers()
        with coming_back(moment, come_back):
            assert scenes.build() == 0
    assert len(told) == len(workers) >= 10
    for worker, error in told:
        if error is None and worker.is_at_its_beginning:
            continue  # it found that what it was to write is there
        assert isinstance(error, ReplacedBuildError), error
        assert re.match(f"another build has taken {scenes.output}, or has cleared it up, since this one", str(error))
    assert everything(scenes.output) == scenes.undisturbed()


def test_a_whole_job_that_nobody_canceled_changes_nothing(tmp_path: Path) -> None:
    """It runs as the other build begins, and reads that one's plan."""
    scenes, told = Scenes(tmp_path, "other recipe", "uint8"), list[object]()

    def run() -> None:
        with pytest.raises(Exception, match="ReplacedBuildError: another build has taken") as caught:
            scenes.begun.pipeline.run().wait_until_finish()
        told.append(caught.value)

    with coming_back("begun", run):
        assert scenes.build() == 0
    assert told
    assert everything(scenes.output) == scenes.undisturbed()


def test_a_worker_of_the_build_itself_writes_nothing_when_that_has_ended(tmp_path: Path) -> None:
    source, output, workers = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out", list[Worker]()

    def be_late() -> None:
        (token,) = (output / "_build" / "token").iterdir()
        place = Workspace(str(output), token.name)
        workers.append(Worker(lambda _: place.write(place.final(FIRST), b"late"), looks=1))

    with cut_off(), coming_back("staged", be_late):
        assert build(*command(source, output, "uint8")) == 0
    before = everything(output)
    assert [type(worker.go_on()) for worker in workers] == [ReplacedBuildError]
    assert everything(output) == before


def test_a_worker_that_finds_the_plan_of_another_build_is_told_why(tmp_path: Path) -> None:
    scenes = Scenes(tmp_path, "changed input", "uint8")
    work, references = StageShardFn(scenes.begun.recipe, scenes.begun.place), list_shards(scenes.begun.place.plan)
    last = list(references)[-1]
    scenes.begun.place.write(scenes.begun.place.plan, b"[]\n")
    with pytest.raises(BuildError, match="run the same command again, which writes the plan again"):
        next(work.process(last))
    ownership.take(Workspace(str(scenes.output)))
    with pytest.raises(ReplacedBuildError):
        next(work.process(last))


def test_an_update_with_nothing_to_do_does_not_clear_up_one_that_published_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one knows a picture that has gone again, and publishes while this one looks for pictures."""
    source, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    arguments = command(source, output, "uint8")
    assert build(*arguments) == 0
    paint(source, "added", 8)
    begun = begin(*arguments, "--update")
    staged = [begun.stage(plan) for plan in begun.plans]
    moments = begun.moments_of(staged)
    written = [begun.finish(shard, moments) for shard in staged]
    for folder in ("images", "masks"):
        (source / folder / "train" / "added.png").unlink()
    with coming_back("planned", lambda: begun.publish(staged, written, moments)):
        assert build(*arguments, "--update") == 1
    assert f"another build has written {output}/dataset.json meanwhile; run the same command" in capsys.readouterr().err
    assert build(*arguments, "--update") == 0
    manifest = read_manifest(Workspace(str(output)))
    assert manifest is not None
    assert [(update.added, update.removed) for update in manifest.updates] == [(1, 0), (0, 1)]
    assert not (output / "_build").exists()


def test_what_a_late_worker_would_delete_stays(tmp_path: Path) -> None:
    """The list of duplicates, if it found none, and the receipt of a staged shard that it can't read."""
    of_late, path = ownership.take(Workspace(str(tmp_path))), tmp_path / "duplicates.jsonl"
    of_late.delete(str(path))
    of_late.write(str(path), b"late")
    of_late.delete(str(path))
    assert not path.exists()
    place = ownership.take(Workspace(str(tmp_path)))
    place.write(str(path), b"ours")
    with pytest.raises(ReplacedBuildError):
        of_late.delete(str(path))
    assert path.read_bytes() == b"ours"


def test_an_error_of_a_build_that_has_its_folder_stays_what_it_was(tmp_path: Path) -> None:
    place = ownership.take(Workspace(str(tmp_path)))
    (tmp_path / "dataset.json").mkdir()
    with pytest.raises(BuildError, match="directory") as caught:
        place.write(place.manifest, b"{}")
    assert type(caught.value) is BuildError
    ownership.take(Workspace(str(tmp_path)))
    with pytest.raises(ReplacedBuildError):
        place.write(place.manifest, b"{}")


def die_amid(path: str, place: Workspace) -> None:
    """Leaves what a worker leaves that is killed while it writes a file."""
    folder = Path(place.root, "_build", "temporary")
    before = {*folder.rglob("*.tmp")}
    with contextlib.suppress(KeyError), place.writing(path) as file:
        file.write(b"half of it")
        file.flush()
        (temporary,) = {*folder.rglob("*.tmp")} - before
        raise KeyError
    temporary.write_bytes(b"half of it")


def test_what_a_worker_leaves_that_died_neither_stays_nor_stops_a_build(tmp_path: Path) -> None:
    """It died when the build that had taken its folder had ended, and had deleted `_build`."""
    source, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    arguments, place = command(source, output, "uint8"), Workspace(str(output))
    assert build(*arguments) == 0
    whole = everything(output)
    for option in ("--overwrite", "--update"):
        for path in (place.final(FIRST), place.index(FIRST), place.staged_receipt(FIRST)):
            die_amid(path, place)
        assert len([*(output / "_build").rglob("*.tmp")]) == 3
        assert build(*arguments) == 0, "it is complete"
        assert build(*arguments, option) == 0
        assert everything(output) == whole
        assert not (output / "_build").exists()


def test_a_build_that_was_killed_as_it_took_the_folder_goes_on(tmp_path: Path) -> None:
    """When it had deleted the token of the build before, and when it had a token of its own."""
    source, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    begun = begin(*command(source, output, "uint8"))
    staged = [begun.stage(plan).shard.file for plan in begun.plans]
    before = {file: (output / file).stat().st_mtime_ns for file in staged}
    for moment, tokens in (("files.workspace.Workspace.write", 0), ("builder._prepare", 1)):
        with killed(f"beam_pipelines.{moment}"):
            assert build(*command(source, output, "uint8")) == 130
        assert len([*(output / "_build").glob("token/*")]) == tokens
    assert build(*command(source, output, "uint8")) == 0
    assert {file: (output / file).stat().st_mtime_ns for file in staged} == before
    assert not (output / "_build").exists()


@pytest.mark.parametrize("name", ["mine.tmp", "temporary/mine.tmp", "token/mine", "temporary/a.0123456789abc.tmp"])
def test_files_of_others_in_its_place_are_no_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source, path = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out" / "_build" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert build(*command(source, tmp_path / "out", "uint8")) == 1
    assert f"_build/{name}" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_in_a_bucket_workers_that_come_back_change_nothing(tmp_path: Path, bucket: str, front: Front) -> None:
    source, output = make_flat(tmp_path / "in", train=4, val=2), f"{bucket}/late/out"
    begun = begin(*command(source, output, "uint8", size="8x16"))
    with cut_off():
        workers = paused_everywhere(lambda _: begun.stage(begun.plans[0]))
        asked = len(front.lines)
        begun.stage(begun.plans[1])
        lines = front.lines[asked:]
        assert build(*command(source, output, "uint8", "--overwrite")) == 0
        errors = [worker.go_on() for worker in workers]
    assert len(errors) == 4
    assert all(isinstance(error, ReplacedBuildError) for error in errors), errors
    assert build(*command(source, tmp_path / "alone", "uint8")) == 0
    made, alone = download(output, tmp_path / "made"), tmp_path / "alone"
    assert everything(made).keys() == everything(alone).keys()
    assert digests(made) == digests(alone)
    looks = [line for line in lines if "/_build/token/" in line]
    assert len(looks) == 4, "before the work, and for each of three files"
