"""The files of the card are a build's own, are the same for the same data, and are made again by their command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from beam_pipelines.card.__main__ import main as card
from beam_pipelines.card.__main__ import write_card
from beam_pipelines.files.names import CARD, CARD_PAGE, CARD_STATISTICS
from tests.support.builds import build, make_flat, no_transform
from tests.support.killed_builds import DAMAGES, FIRST, VAL, command, killed

USERS = "card/notes.txt"
CURE = "restore the file, or build the data set again with --overwrite"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a picture that is in both splits."""
    folder = make_flat(tmp_path_factory.mktemp("in"), train=4, val=2)
    for kind in ("images", "masks"):
        shutil.copy(folder / kind / "train" / "train_0000.png", folder / kind / "val" / "copy.png")
    with no_transform():
        yield folder


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert build(*command(source, output, "uint8")) == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of the finished data set, with a file of the user's."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / USERS).write_text("mine")
    capsys.readouterr()
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CARD if (folder / name).exists()}


def test_a_build_writes_both(finished: Path) -> None:
    assert files(finished).keys() == {*CARD}


@pytest.mark.parametrize("encoding", ["float32", "float16", "png"])
def test_every_encoding_has_the_same_statistics_and_pictures(
    source: Path, finished: Path, tmp_path: Path, encoding: str
) -> None:
    assert build(*command(source, tmp_path, encoding)) == 0
    assert files(tmp_path)[CARD_STATISTICS] == files(finished)[CARD_STATISTICS]
    pictures = [
        [part.partition('"')[0] for part in page.read_text().split('src="data:image/')[1:]]
        for page in (tmp_path / CARD_PAGE, finished / CARD_PAGE)
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 20


def test_the_command_makes_the_bytes_of_the_build(
    finished: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in CARD:
        (output / name).write_text("changed")
    before = {path.name for path in output.iterdir()}
    assert card([str(output)]) == 0
    assert files(output) == files(finished)
    assert capsys.readouterr().out.startswith(f"{output / CARD_PAGE} (")
    assert {path.name for path in output.iterdir()} == before
    assert (output / USERS).read_text() == "mine"
    assert card([f"{output}/"]) == 0
    assert files(output) == files(finished)


@pytest.mark.parametrize("missing", [CARD, [CARD_PAGE], [CARD_STATISTICS]], ids=["both", "page", "statistics"])
def test_the_same_build_completes_it(
    finished: Path, output: Path, source: Path, capsys: pytest.CaptureFixture[str], missing: list[str]
) -> None:
    for name in missing:
        (output / name).unlink()
    assert build(*command(source, output, "uint8")) == 0
    assert "is already complete" in capsys.readouterr().out
    assert files(output) == files(finished)
    assert not (output / "_build").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_statistics_are_made_again_from_the_indexes(
    finished: Path, output: Path, source: Path, damage: str
) -> None:
    path = output / CARD_STATISTICS
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    (output / CARD_PAGE).unlink()
    assert build(*command(source, output, "uint8")) == 0
    assert files(output) == files(finished)


def test_a_finished_card_is_left_alone(output: Path, source: Path) -> None:
    (output / CARD_PAGE).write_text("<p>mine</p>")
    assert build(*command(source, output, "uint8")) == 0
    assert (output / CARD_PAGE).read_text() == "<p>mine</p>"


@pytest.mark.parametrize("when", ["beam_pipelines.card.files.write_missing", "beam_pipelines.card.page.render"])
def test_a_build_that_was_killed_before_its_page_writes_it_later(
    finished: Path, source: Path, tmp_path: Path, when: str
) -> None:
    with killed(when):
        assert build(*command(source, tmp_path, "uint8")) == 130
    assert files(tmp_path).keys() == {CARD_STATISTICS}
    assert build(*command(source, tmp_path, "uint8")) == 0
    assert files(tmp_path) == files(finished)
    assert not (tmp_path / "_build").exists()


def test_a_card_command_that_was_killed_leaves_a_folder_that_a_build_takes(
    finished: Path, output: Path, source: Path
) -> None:
    for name in CARD:
        (output / name).unlink()
    with killed("beam_pipelines.shards.ownership.finish"), pytest.raises(KeyboardInterrupt):
        write_card(str(output), Console())
    assert (output / "_build" / "journal.json").exists()
    assert build(*command(source, output, "uint8")) == 0
    assert files(output) == files(finished)
    assert not (output / "_build").exists()


@pytest.mark.parametrize("name", CARD)
def test_a_new_build_refuses_a_card_of_the_user(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / name).write_text("mine")
    for more in ((), ("--overwrite",)):
        assert build(*command(source, tmp_path, "uint8"), *more) == 1
        assert f"holds {name}, which the build would overwrite" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_is_not_followed(output: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "elsewhere"
    (output / "card").rename(elsewhere)
    (output / "card").symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    assert card([str(output)]) == 1
    assert "card is a symbolic link, which a build does not follow" in capsys.readouterr().err
    assert build(*command(source, output, "png"), "--overwrite") == 1
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_overwriting_replaces_it_and_keeps_what_is_not_its_own(output: Path, source: Path) -> None:
    before = files(output)
    assert build(*command(source, output, "uint8"), "--overwrite", "--max_pairs=2") == 0
    assert files(output).keys() == before.keys()
    assert files(output)[CARD_STATISTICS] != before[CARD_STATISTICS]
    assert (output / USERS).read_text() == "mine"


def test_an_update_writes_the_card_of_what_there_is_now(finished: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    before = files(output)
    arguments = (*command(source, output, "uint8"), "--update")
    new = [source / kind / "val" / "val_new.png" for kind in ("images", "masks")]
    for path in new:
        shutil.copy(path.with_name("val_0000.png"), path)
    try:
        with killed("beam_pipelines.shards.publish.publish_manifest"):
            assert build(*arguments) != 0
        assert files(output)[CARD_STATISTICS] != before[CARD_STATISTICS]
        shutil.copytree(output, tmp_path / "stopped")
        assert build(*arguments) == 0
        after = files(output)
        assert json.loads(after[CARD_STATISTICS])["splits"]["val"]["examples"] == 4
        assert card([str(output)]) == 0
        assert files(output) == after
    finally:
        for path in new:
            path.unlink()
    stopped = tmp_path / "stopped"
    assert build(*command(source, stopped, "uint8"), "--update") == 0
    assert files(stopped) == before


# --- data sets that can't have one


def without_indexes(output: Path) -> None:
    """Makes the data set one of an earlier version."""
    manifest = json.loads((output / "dataset.json").read_text())
    del manifest["additions"]["indexed"]
    (output / "dataset.json").write_text(json.dumps(manifest))
    for folder in ("index", "card"):
        shutil.rmtree(output / folder)


def test_a_data_set_of_an_earlier_version_is_complete_without(
    output: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_indexes(output)
    assert build(*command(source, output, "uint8")) == 0
    assert "is already complete" in capsys.readouterr().out
    assert card([str(output)]) == 1
    told = "can't have a card: an earlier version built the data set, without indexes: --overwrite builds it again"
    assert f"error: {output} {told}\n" in capsys.readouterr().err
    (output / "croissant.json").unlink()
    assert build(*command(source, output, "uint8")) == 0
    assert "no card is written: an earlier version built" in capsys.readouterr().out
    assert not (output / "card").exists()


@pytest.mark.parametrize("damage", ["missing", *DAMAGES])
def test_a_damaged_index_is_told(output: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    path = output / "index" / FIRST.replace(".tfrecord", ".jsonl")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = files(output)
    assert card([str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert line.endswith(", or build the data set again with --overwrite")
    assert files(output) == before


def test_a_damaged_shard_is_told(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = output / FIRST
    path.write_bytes(DAMAGES["flipped"](path.read_bytes()))
    assert card([str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: record ")
    assert "checksum mismatch" in line
    assert line.endswith(CURE)


def test_a_missing_shard_is_told(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = output / FIRST
    path.unlink()
    assert card([str(output)]) == 1
    assert capsys.readouterr().err == f"error: {path}: the shard does not exist; {CURE}\n"


def test_a_damaged_list_of_duplicates_is_told(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (output / "duplicates.jsonl").write_text("mine\n")
    assert card([str(output)]) == 1
    assert "duplicates.jsonl: is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("change", [("val/copy", "val/none"), (VAL, "val-00009-of-00010.tfrecord")])
def test_pairs_that_are_not_in_the_data_set_are_not_shown(output: Path, change: tuple[str, str]) -> None:
    """A stopped update has listed them."""
    assert (output / CARD_PAGE).read_text().count('<div class="pair">') == 1
    path = output / "duplicates.jsonl"
    path.write_text(path.read_text().replace(*change))
    assert card([str(output)]) == 0
    assert '<div class="pair">' not in (output / CARD_PAGE).read_text()


def test_a_build_that_did_not_finish_is_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with killed("beam_pipelines.shards.publish.publish_manifest"):
        assert build(*command(source, tmp_path, "uint8")) != 0
    capsys.readouterr()
    assert card([str(tmp_path)]) == 1
    assert "its build did not finish. Run the same" in capsys.readouterr().err
