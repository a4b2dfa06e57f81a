"""What --overwrite deletes: all that an earlier build left, of this version or an earlier one, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipelines.contract.seal import sealed, unsealed
from beam_pipelines.files.names import CARD
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards import leftovers, ownership
from beam_pipelines.shards.own_files import listed, write_journal
from tests.support.builds import build, make_flat, make_uneven, no_transform, published
from tests.support.killed_builds import DAMAGES, FIRST, VAL, command, killed
from tests.support.matrix import standing_for

USERS = "train-00007-of-00009.tfrecord"
TRANSFORM = (
    "transform_fn/saved_model.pb",
    "transform_fn/fingerprint.pb",
    "transform_fn/variables/variables.index",
    "transform_fn/variables/variables.data-00000-of-00001",
    "transformed_metadata/schema.pbtxt",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("in"), train=4, val=2)


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert build(*command(source, output, "uint8")) == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished data set, with a file of the user's."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / USERS).write_text("mine")
    return folder


# --- half-finished builds of an earlier version: nothing is sealed, and there is no journal


def make_earlier(output: Path) -> None:
    """Gives what a killed build left the form that it had before there were seals."""
    kept = output / "_build"
    for path in [kept / "recipe.json", kept / "pairing.jsonl", *kept.glob("*/*.tfrecord.json")]:
        text = unsealed(path.read_bytes())
        assert text is not None
        if path.name.endswith(".tfrecord.json"):
            receipt = json.loads(text)
            for name in ("crc32c", "index_bytes", "index_crc32c"):
                receipt.pop(name, None)
            text = json.dumps(receipt)
        path.write_text(text)
    plan = (unsealed((kept / "plan.jsonl").read_bytes()) or "").splitlines()
    (kept / "plan.jsonl").write_text("".join(json.dumps(json.loads(line)[:5]) + "\n" for line in plan))
    for name in ("journal.json", "published.json", "lease"):
        (kept / name).unlink(missing_ok=True)
    for folder in ("index", "card"):
        shutil.rmtree(output / folder)
    (output / "plan.jsonl").unlink()
    receipt = min(kept.glob("staged/*.json"))
    receipt.with_suffix(".0123456789ab.tmp").write_bytes(b"half a shard")


def test_a_half_finished_build_of_an_earlier_version_can_be_overwritten(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, whole = tmp_path / "out", tmp_path / "whole"
    other = (*command(source, output, "float32"), "--shards=train=3,val=1")
    with killed("beam_pipelines.shards.ownership.finish"):
        assert build(*other) == 130
    (output / "dataset.json").unlink()
    make_earlier(output)
    (output / USERS).write_text("mine")
    (output / "_build" / "mine.txt").write_text("mine")
    before = sorted(path.relative_to(output) for path in output.rglob("*"))
    arguments = command(source, output, "float32")
    capsys.readouterr()
    assert build(*arguments) == 1
    assert "an earlier version" in (told := capsys.readouterr().err)
    assert "--overwrite" in told
    assert sorted(path.relative_to(output) for path in output.rglob("*")) == before
    assert build(*arguments, "--overwrite") == 0
    assert build(*command(source, whole, "float32")) == 0
    (output / USERS).rename(tmp_path / USERS)
    assert published(output) == published(whole)
    assert [path.name for path in (output / "_build").rglob("*")] == ["mine.txt"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"fingerprint": "mine", "recipe": {}}', "mine", "", "\0" * 40])
def test_another_tools_build_folder_is_nobodys_earlier_version(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "recipe.json").write_text(text)
    assert build(*command(source, tmp_path, "uint8"), "--overwrite") == 1
    assert "no build wrote" in capsys.readouterr().err
    assert (tmp_path / "_build" / "recipe.json").read_text() == text


def test_a_journal_of_somebody_else_makes_nothing_ours(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {
        "_build/journal.json": '{"entries": ["mine"]}',
        "dataset.json": '{"name": "my own data set"}',
        "rejected.jsonl": "mine",
    }
    for name, text in theirs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for more in ([], ["--overwrite"]):
        assert build(*command(source, tmp_path, "uint8"), *more) == 1
        assert "Traceback" not in capsys.readouterr().err
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs


# --- a transform_fn without a list


@pytest.mark.parametrize(
    ("has_one_size", "content"),
    [(True, "a graph of histogram and image"), (False, "a graph of histogram and image"), (True, "mine")],
)
def test_the_transform_fn_of_an_earlier_version_goes_with_its_data_set(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], has_one_size: bool, content: str
) -> None:
    """One beside a data set that never had one is the user's, and so is a graph that no build made."""
    uniform = has_one_size and content != "mine"
    inputs = make_flat(tmp_path / "in", train=4, val=2) if has_one_size else source
    output = tmp_path / "out"
    arguments = command(inputs, output, "uint8")
    with no_transform():
        assert build(*arguments) == 0
        for name in (*TRANSFORM, "transform_fn/mine.txt", "transform_fn/variables/mine"):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text(content)
        capsys.readouterr()
        assert build(*arguments, "--overwrite") == (0 if uniform else 1)
    left = {name for name in TRANSFORM if (output / name).exists()}
    assert left == (set() if uniform else set(TRANSFORM))
    assert ("transform_fn/saved_model.pb" in capsys.readouterr().err) != uniform
    assert (output / "transform_fn" / "mine.txt").exists()
    assert (output / "transform_fn" / "variables" / "mine").exists()


# --- a damaged dataset.json of a finished data set


def renamed(data: bytes) -> bytes:
    """No JSON any more, and with the name of the user's file where a shard's was."""
    return data.replace(FIRST.encode(), USERS.encode())[:-3]


MANIFESTS: dict[str, tuple[Callable[[bytes], bytes], list[str]]] = {  # -> what has to be moved
    "without its end": (lambda data: data[:-3], []),
    "one byte": (lambda data: data.replace(b'"splits": {', b'"splits": ['), []),
    "one name": (renamed, [FIRST]),
    "without its shards": (lambda data: data[: data.index(VAL.encode())], [VAL]),
    "cut": (DAMAGES["cut"], [FIRST, "train-00001-of-00002.tfrecord", VAL]),
    "NULs": (DAMAGES["NULs"], [FIRST, "train-00001-of-00002.tfrecord", VAL, "rejected.jsonl"]),
}


@pytest.mark.parametrize("damage", standing_for(["one name", "without its shards", "cut"], MANIFESTS))
def test_the_cure_for_a_damaged_manifest_works(
    output: Path, finished: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    change, moved = MANIFESTS[damage]
    path = output / "dataset.json"
    path.write_bytes(change(path.read_bytes()))
    arguments = command(source, output, "uint8")
    capsys.readouterr()
    assert build(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    if moved:
        assert build(*arguments, "--overwrite") == 1
        found = re.search(r"holds (.*), which the build would overwrite", capsys.readouterr().err)
        assert found
        assert sorted(found[1].split(", ")) == sorted(moved)
        for name in moved:
            (output / name).rename(tmp_path / name)
    assert build(*arguments, "--overwrite") == 0
    assert (output / USERS).read_text() == "mine"
    (output / USERS).unlink()
    assert published(output) == published(finished)


# --- lists with a seal that fits and a content that does not


@pytest.mark.parametrize(
    "text", ['["../../mine"]', '["/etc/mine"]', '["a/../../mine"]', '{"a": 1}', "[1]", "[" * 100_000, "null"]
)
def test_a_journal_that_names_what_no_build_writes_names_nothing(tmp_path: Path, text: str) -> None:
    place = Workspace(str(tmp_path / "out"))
    lists = (place.journal, place.transform_files, place.metadata_files, place.recipe, place.plan)
    for path in (*lists, place.staged_receipt(FIRST)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(sealed(text))
    (tmp_path / "mine").write_text("mine")
    assert set(listed(place)) == {*CARD, "rejected.jsonl", "dataset.json", "plan.jsonl"}
    assert not leftovers.transform_is_whole(place)
    ownership.clear(place)
    assert (tmp_path / "mine").exists()


# --- damage of what comes after the shards


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*TRANSFORM, "transform_fn/files.json"])
def test_damage_in_a_transform_fn_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    import google_crc32c

    place, content = Workspace(str(tmp_path)), bytes(range(1, 90))
    files = {each: (len(content), google_crc32c.value(content)) for each in TRANSFORM}
    for each in TRANSFORM:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_bytes(content)
    Path(place.transform_files).write_bytes(sealed(json.dumps(files)))
    write_journal(place, [*TRANSFORM, "transform_fn/files.json"])
    assert leftovers.transform_is_whole(place)
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert not leftovers.transform_is_whole(place)
    path.unlink()
    assert not leftovers.transform_is_whole(place)


@pytest.mark.torture
@pytest.mark.parametrize("name", ["transform_fn/saved_model.pb", "transform_fn/files.json"])
def test_a_damaged_transform_fn_is_made_again(tmp_path: Path, name: str) -> None:
    inputs, output = make_flat(tmp_path / "in", train=4, val=2), tmp_path / "out"
    with killed("beam_pipelines.shards.ownership.finish"):
        assert build(*command(inputs, output, "uint8")) == 130
    whole = {each: (output / each).stat().st_size for each in TRANSFORM}
    (output / name).write_bytes(DAMAGES["flipped"]((output / name).read_bytes()))
    assert build(*command(inputs, output, "uint8")) == 0
    assert {each: (output / each).stat().st_size for each in TRANSFORM} == whole
    assert leftovers.transform_is_whole(Workspace(str(output)))


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_staged_shard_that_is_damaged_before_it_is_finished_is_staged_again(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """After the check of what an earlier run left, and before the pipeline reads it."""
    from beam_pipelines.shards.plan import write_plan

    output, arguments = tmp_path / "out", command(source, tmp_path / "out", "float32")
    with killed("beam_pipelines.shards.ownership.finish"):
        assert build(*arguments) == 130
    (output / "dataset.json").unlink()
    (output / "_build" / "finished" / f"{FIRST}.json").unlink()
    expected = (output / FIRST).read_bytes()
    staged = output / "_build" / "staged" / FIRST

    def damaged(*given: object) -> None:
        write_plan(*given)  # type: ignore[arg-type]
        staged.unlink() if damage == "missing" else staged.write_bytes(DAMAGES[damage](staged.read_bytes()))

    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_pipelines.builder.write_plan", damaged)
        code = build(*arguments)
    errors = capsys.readouterr().err
    if damage == "flipped":  # no size tells it: the checksums do, when the shard is read
        assert code == 1
        assert errors.count("\n") == 1
        assert "run the same command again, which stages it again" in errors
        code = build(*arguments)
    assert code == 0
    assert (output / FIRST).read_bytes() == expected
