"""What an earlier run left: damage is noticed and made again, and nothing that is not ours is touched."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builds import build, make_uneven, published
from tests.support.killed_builds import DAMAGES, FIRST, SECOND, VAL, command, killed
from tests.support.matrix import standing_for

LEFT = {  # name -> encoding, whether it was published, the files that are damaged
    "lists": ("float32", False, ["_build/recipe.json", "_build/pairing.jsonl", "_build/journal.json"]),
    "plan": ("float32", False, ["_build/plan.jsonl", f"_build/staged/{FIRST}", f"_build/staged/{SECOND}.json", VAL]),
    "finished": ("float32", False, [f"_build/finished/{FIRST}.json", f"_build/staged/{VAL}", SECOND]),
    "final": ("uint8", False, [FIRST, f"_build/staged/{VAL}.json"]),
    "manifest": ("uint8", True, ["dataset.json"]),
    "published": ("uint8", True, ["_build/published.json", FIRST]),
}
EACH_ONCE = [
    ("lists", "not UTF-8"),
    ("plan", "cut"),
    ("finished", "NULs"),
    ("final", "flipped"),
    ("manifest", "cut"),
    ("published", "empty"),
    ("published", "flipped"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_uneven(tmp_path_factory.mktemp("in"), train=4, val=2)
    (folder / "masks" / "val" / "val_0001.png").unlink()  # so that the pairing has a line
    return folder


@pytest.fixture(scope="module")
def left(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """-> (what a build left that was killed after the manifest, what an undisturbed one published)."""
    done: dict[str, tuple[Path, Path]] = {}

    def of(encoding: str) -> tuple[Path, Path]:
        if encoding not in done:
            folders = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("whole")
            with killed("beam_pipelines.shards.ownership.finish"):
                assert build(*command(source, folders[0], encoding)) == 130
            assert build(*command(source, folders[1], encoding)) == 0
            done[encoding] = folders
        return done[encoding]

    return of


@pytest.mark.parametrize(("kind", "damage"), standing_for(EACH_ONCE, itertools.product(LEFT, DAMAGES)))
def test_a_damaged_leftover_is_made_again(
    left: Callable[[str], tuple[Path, Path]],
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    damage: str,
) -> None:
    encoding, was_published, files = LEFT[kind]
    before, whole = left(encoding)
    output = tmp_path / "out"
    shutil.copytree(before, output)
    if not was_published:
        (output / "dataset.json").unlink()
    for file in files:
        path = output / file
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    capsys.readouterr()
    assert build(*command(source, output, encoding)) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for file in files:
        if not file.endswith("published.json"):
            assert re.search(rf"(building|writing) .*{Path(file).name.removesuffix('.tfrecord.json')}", shown.out)
    assert published(output) == published(whole)
    assert (output / "rejected.jsonl").read_bytes() == (whole / "rejected.jsonl").read_bytes()
    assert not (output / "_build").exists()


def test_an_undamaged_leftover_is_believed(
    left: Callable[[str], tuple[Path, Path]], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = left("float32")
    output = tmp_path / "out"
    shutil.copytree(before, output)
    (output / "dataset.json").unlink()
    states = {path.name: path.stat().st_ino for path in output.glob("*.tfrecord")}
    assert build(*command(source, output, "float32")) == 0
    assert "again" not in capsys.readouterr().out
    assert {path.name: path.stat().st_ino for path in output.glob("*.tfrecord")} == states


MINE = (
    "notes.tmp",
    "sub/deep.tmp",
    "other-00003-of-00010.tfrecord",
    "train-00007-of-00009.tfrecord",
    "train-00000-of-00002.tfrecord.0123456789ab.tmp",
    "rejected.jsonl.bak",
    "transform_fn/mine.txt",
    "transform_fn/variables/mine",
    "transformed_metadata/mine",
    "images/train/extra.tmp",
    "sub/_build/journal.json",
    "sub/dataset.json",
)


def put_mine(output: Path, elsewhere: Path) -> Callable[[], None]:
    """Puts the user's files and links there. -> what asserts that they are still there."""
    for path in [*(output / name for name in MINE), *(elsewhere / name for name in ("a.tmp", FIRST, "transform_fn/x"))]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine: {path.name}")
    (output / "out").symlink_to(elsewhere)
    (output / "link-00000-of-00001.tfrecord").symlink_to(elsewhere / FIRST)
    (elsewhere / "in").symlink_to(output)

    def check() -> None:
        for path in [*(output / name for name in MINE), *(elsewhere / name for name in ("a.tmp", FIRST))]:
            assert path.read_text() == f"mine: {path.name}"
        assert (output / "out").is_symlink()
        assert (output / "link-00000-of-00001.tfrecord").is_symlink()
        assert (elsewhere / "in").is_symlink()

    return check


def test_what_is_not_ours_stays_byte_for_byte(source: Path, tmp_path: Path) -> None:
    """Through a build, a killed and a resumed one, and --overwrite."""
    output = tmp_path / "data"
    check = put_mine(output, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "in").unlink()  # a circle can't be listed
    (tmp_path / "elsewhere" / "in").symlink_to(source)
    (output / "out").unlink()
    (output / "out").symlink_to(tmp_path / "elsewhere" / "transform_fn")
    arguments = command(source, output, "float32")
    with killed("beam_pipelines.builder.write_plan"):
        assert build(*arguments) == 130
    check()
    assert build(*arguments) == 0
    check()
    with killed("beam_pipelines.shards.ownership.finish"):
        assert build(*arguments, "--overwrite", "--shards=train=3,val=1") == 130
    check()
    assert not (output / FIRST).exists()
    assert build(*arguments, "--overwrite") == 0
    check()
    assert (output / FIRST).exists()
    assert not (output / "train-00000-of-00003.tfrecord").exists()
    assert not (output / "_build").exists()


@pytest.mark.parametrize(
    "name", [FIRST, "rejected.jsonl", "dataset.json", "transform_fn/saved_model.pb", "_build/html/index.html"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_would_be_overwritten_is_refused_before_any_work(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, overwrite: bool
) -> None:
    output = tmp_path / "out"
    path = output / name
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "mine"}')
    arguments = (*command(source, output, "uint8"), *(["--overwrite"] if overwrite else []))
    assert build(*arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert name.removeprefix("_build/") in errors
    assert "move" in errors
    assert path.read_text() == '{"name": "mine"}'
    assert not list(output.glob("val-*"))


def test_after_the_move_that_the_sentence_asks_for_the_same_command_builds(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / FIRST).write_text("mine")
    arguments = command(source, output, "uint8")
    assert build(*arguments) == 1
    (output / FIRST).rename(tmp_path / FIRST)
    assert build(*arguments) == 0


@pytest.mark.parametrize("name", ["_build", "transform_fn"])
def test_a_folder_that_is_a_link_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (elsewhere / "journal.json").write_text("mine")
    (output / name).symlink_to(elsewhere)
    assert build(*command(source, output, "uint8"), "--overwrite") == 1
    assert f"{output / name} is a symbolic link" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["journal.json"]


def test_a_final_shard_that_became_a_link_is_refused(
    left: Callable[[str], tuple[Path, Path]], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, moved = tmp_path / "out", tmp_path / "moved"
    shutil.copytree(left("uint8")[0], output)
    (output / "dataset.json").unlink()
    shutil.move(output / FIRST, moved)
    (output / FIRST).symlink_to(moved)
    before = moved.read_bytes()
    assert build(*command(source, output, "uint8")) == 1
    assert FIRST in capsys.readouterr().err
    assert moved.read_bytes() == before
