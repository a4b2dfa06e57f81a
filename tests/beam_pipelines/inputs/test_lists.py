"""Lists of pairs, CSV and JSON lines, and patterns: the same data set as its folders give, to the byte."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import FileReader
from beam_pipelines.inputs.sources import Found, find_pairs
from tests.support.builds import build, no_transform, published, real_scenes, recipe_of

ROWS = [("images/a.png", "m/a.png", "train"), ("images/b.png", "m/b.png", "train"), ("images/c.png", "m/c.png", "val")]
COLUMNS = ("image", "mask", "split", "key")


def make(folder: Path, rows: Sequence[tuple[str, ...]], kind: str = "csv") -> str:
    """A list of `rows` in `folder`, with their files."""
    for row in rows:
        for name in row[:2]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    path = folder / f"pairs.{kind}"
    if kind == "csv":
        lines = [",".join(COLUMNS[: len(rows[0])]), *map(",".join, rows)]
    else:
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=False))) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def read(path: str) -> bytes:
    with contextlib.closing(FileReader(99)) as reader:
        return reader.read(path)


def find(path: str, *arguments: str) -> Found:
    return find_pairs(recipe_of(*arguments), path)


def refused(path: str, *arguments: str) -> str:
    with pytest.raises(BuildError) as error:
        find(path, *arguments)
    return str(error.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_paths_are_relative_to_the_list_and_the_column_is_the_split(tmp_path: Path, kind: str) -> None:
    found = find(make(tmp_path, ROWS, kind))
    assert [(pair.key, pair.split) for pair in found.pairs] == [
        ("train/images/a", "train"),
        ("train/images/b", "train"),
        ("val/images/c", "val"),
    ]
    first = found.pairs[0]
    assert (first.filename, first.image, first.mask) == (ROWS[0][0], f"{tmp_path}/images/a.png", f"{tmp_path}/m/a.png")
    assert first.bytes == len("images/a.png") + len("m/a.png")
    assert (found.rejected, found.notes) == ((), ())


def test_a_column_can_name_the_keys(tmp_path: Path) -> None:
    found = find(make(tmp_path, [(*row, f"scene {number}") for number, row in enumerate(ROWS)]))
    assert [pair.key for pair in found.pairs] == ["train/scene 0", "train/scene 1", "val/scene 2"]


def test_absolute_paths_buckets_and_members_of_archives_are_taken_as_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("m/x.png", "mask of x")
    rows = [
        (f"{tmp_path}/images/a.png", f"{tmp_path}/m/a.png", "train"),
        ("gs://b/images/g.png", "gs://b/masks/g.png", "train"),
        ("images/x.png", "a.zip!/m/x.png", "train"),
    ]
    make(tmp_path, [("images/a.png", "m/a.png"), ("images/x.png", "m/x.png")])
    path = tmp_path / "pairs.csv"
    path.write_text("image,mask,split\n" + "\n".join(map(",".join, rows)))
    pairs = {pair.image: pair for pair in find(str(path)).pairs}
    assert pairs["gs://b/images/g.png"].mask == "gs://b/masks/g.png"
    assert read(pairs[f"{tmp_path}/images/x.png"].mask) == b"mask of x"
    assert pairs[f"{tmp_path}/images/a.png"].mask == f"{tmp_path}/m/a.png"


def test_a_list_in_an_archive_is_relative_to_it(tmp_path: Path) -> None:
    make(tmp_path, ROWS)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("pairs.csv", *(name for row in ROWS for name in row[:2])):
            archive.write(tmp_path / name, name)
    found = find(f"{tmp_path}/set.zip!/pairs.csv")
    assert [pair.image for pair in found.pairs] == [f"{tmp_path}/set.zip!/{row[0]}" for row in ROWS]
    assert read(found.pairs[0].mask) == b"m/a.png"


def test_without_splits_shares_are_needed_and_a_drive_stays_together(tmp_path: Path) -> None:
    rows = [(f"images/drive{n % 10}_{n}.png", f"m/{n}.png") for n in range(100)]
    path = make(tmp_path, rows)
    assert "line 2" in refused(path)
    assert "--splits=train=0.8,val=0.2" in refused(path)
    found = find(path, "--splits=train=0.5,val=0.5", r"--group_by=drive\d")
    split_of = {pair.key.partition("_")[0]: pair.split for pair in found.pairs}
    assert all(split_of[pair.key.partition("_")[0]] == pair.split for pair in found.pairs)
    assert set(split_of.values()) == {"train", "val"}


def test_splits_choose_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    path = make(tmp_path, ROWS)
    found = find(path, "--splits=val")
    assert Counter(pair.split for pair in found.pairs) == {"val": 1}
    assert found.notes == ("train: 2 pairs are left out",)
    assert refused(path, "--splits=demo") == f"--splits names demo; {path} has train, val"
    assert "--pool_splits" in refused(path, "--splits=train=0.5,val=0.5")
    pooled = find(path, "--splits=train=1,val=0", "--pool_splits")
    assert Counter(pair.split for pair in pooled.pairs) == {"train": 3}


def test_a_missing_file_and_a_repeated_key_are_problems_before_any_work(tmp_path: Path) -> None:
    path = make(tmp_path, [*ROWS, ROWS[0]])
    (tmp_path / "m/c.png").unlink()
    missing, repeated = find(path).rejected
    assert (missing.reason, missing.detail) == (
        "missing_mask",
        f"{tmp_path}/m/c.png, line 4 of the list, does not exist",
    )
    assert (repeated.reason, repeated.key) == ("duplicate_key", "train/images/a")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the first line must name the columns image and mask"),
        ("a.png,b.png\n", "it is 'a.png,b.png'"),
        ("image;mask\na;b\n", "it is 'image;mask'"),
        ("image,mask\na,b\nx,y.png,z\n", "line 3: 3 fields, and the first line has 2 columns"),
        ("image,mask\n,b\n", "line 2: image is ''"),
        ("image,image,mask\n", "the first line must name"),
        ('image,mask\n"a\n', "is not a CSV file: unexpected end of data"),
    ],
)
def test_a_csv_file_that_is_no_list_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    assert told in refused(str(tmp_path / "pairs.csv"), "--splits=train=1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1: expected"),
        ('{"image": "a"}', "line 1: expected"),
        ('{"image": 1, "mask": "b"}', "line 1: image is 1"),
        ('\n\n{"image": "a\\u0000", "mask": "b"}', "line 3: image is"),
        ('{"image": ' + "[" * 10_000, "line 1 is not JSON"),
    ],
)
def test_a_json_line_that_is_no_pair_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(text)
    assert told in refused(str(tmp_path / "pairs.jsonl"), "--splits=train=1")


def test_a_list_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image,mask\ncaf\xe9,b\n".encode("latin-1"))
    assert "is not UTF-8 text" in refused(str(tmp_path / "latin.csv"))
    assert refused(str(tmp_path / "none.csv")) == f"{tmp_path}/none.csv does not exist"


def test_one_image_in_several_lines_is_a_problem_however_its_path_is_written(tmp_path: Path) -> None:
    make(tmp_path, [("rgb/f1.png", "m/f1.png"), ("rgb/f2.png", "m/f2.png")])
    lines = ["image,mask", f"{tmp_path}/rgb/f1.png,m/f1.png", "rgb/f1.png,m/f1.png", "rgb/../rgb/f1.png,m/f2.png"]
    (tmp_path / "pairs.csv").write_text("\n".join([*lines, "rgb/f2.png,m/f2.png"]))
    found = find(str(tmp_path / "pairs.csv"), "--splits=train=1,val=0")
    assert [pair.key for pair in found.pairs] == ["rgb/f1", "rgb/f2"]
    assert [bad.detail for bad in found.rejected] == [
        f"{tmp_path}/rgb/f1.png, line {number} of the list, is in an earlier line as well" for number in (3, 4)
    ]


@pytest.mark.parametrize("split", ["../evil", "a/b", "."])
def test_a_split_that_no_file_can_be_named_after_is_refused(tmp_path: Path, split: str) -> None:
    path = make(tmp_path, [(*ROWS[0][:2], split)])
    assert refused(path) == (
        f"line 2 of {path} has the split {split!r}, which can't be in the name of a file: give it another name"
    )


def test_the_usual_names_of_splits_are_known_in_a_list(tmp_path: Path) -> None:
    rows = [(*row[:2], split) for row, split in zip(ROWS, ("Train", "training", "validation"), strict=True)]
    assert [pair.split for pair in find(make(tmp_path, rows)).pairs] == ["train", "train", "val"]


def test_a_comma_in_a_path_needs_quotes_as_the_message_says(tmp_path: Path) -> None:
    make(tmp_path, [("images/a,b.png", "m/a,b.png")], "jsonl")
    path = tmp_path / "pairs.csv"
    path.write_text('image,mask,split\n"images/a,b.png","m/a,b.png",train\n')
    assert [pair.key for pair in find(str(path)).pairs] == ["train/images/a,b"]


# --- three ways into one data set


def segnet(folder: Path, camvid: Path, pairs: int) -> list[tuple[str, str, str, str]]:
    """SegNet's folders, of links to the first pairs of each split. -> the rows of a list of them."""
    rows = []
    for split in ("train", "val"):
        for image in sorted((camvid / "images" / split).iterdir())[:pairs]:
            for target, source in (
                (folder / split / image.name, image),
                (folder / f"{split}annot" / image.name, camvid / "masks" / split / image.name),
            ):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)
            rows.append((f"{split}/{image.name}", f"{split}annot/{image.name}", split, image.stem))
    return rows


@pytest.mark.slow
def test_camvid_by_its_layout_by_patterns_and_by_a_list_gives_the_same_shards(tmp_path: Path) -> None:
    root = tmp_path / "CamVid"
    rows = segnet(root, real_scenes("camvid"), 6)
    listed = [",".join(COLUMNS), *map(",".join, rows)]
    (root / "pairs.csv").write_text("\n".join(listed))
    ways: dict[str, Callable[[], list[str]]] = {
        "layout": lambda: [f"--input={root}"],
        "patterns": lambda: [f"--input={root}", "--images={split}/{key}.png", "--masks={split}annot/{key}.png"],
        "list": lambda: [f"--input={root}/pairs.csv"],
    }
    made = {}
    with no_transform():
        for name, way in ways.items():
            labels = [] if name == "layout" else ["--labels=camvid11"]
            assert build(*way(), *labels, "--image_size=90x120", f"--output={tmp_path / name}") == 0
            made[name] = published(tmp_path / name)[0]
    assert made["layout"] == made["patterns"] == made["list"]
    assert len(made["list"]) > 1
