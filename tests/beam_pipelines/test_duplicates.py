"""Duplicates in a build: what it lists, counts, says and refuses."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from msgspec.structs import replace
from PIL import Image

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.graph import PairDuplicates, SummarizeDuplicates
from beam_pipelines.inputs.sample_scenes import draw_scene, list_scenes
from beam_pipelines.shards import own_files
from beam_pipelines.shards.duplicate_search import Findings, Picture
from tests.support.builds import build, no_transform, published
from tests.support.picture_changes import CHANGES

SCENES = [draw_scene(key, 128, 256)[0] for key in list_scenes({"train": 12})]
OPTIONS = ("--labels=camvid11", "--image_size=native", "--image_encoding=uint8")


@pytest.fixture(autouse=True)
def _without_transform() -> Iterator[None]:
    with no_transform():
        yield


def write(folder: Path, images: Mapping[str, np.ndarray]) -> Path:
    """Images by key, as PNG, so that their pixels stay; each mask is one class."""
    for key, image in images.items():
        for kind, pixels in (("images", image), ("masks", np.full(image.shape[:2], 3, np.uint8))):
            path = folder / kind / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six different scenes in train, three in val; copies of them, one of each kind, within and across."""
    images = {f"train/scene{number}": SCENES[number] for number in range(6)}
    images |= {f"val/scene{number}": SCENES[number] for number in range(6, 9)}
    images |= {"train/same": SCENES[0], "train/small": CHANGES["half size"](SCENES[1])}
    images |= {"val/same": SCENES[0], "val/jpeg": CHANGES["JPEG 75"](SCENES[2]), "val/turned": SCENES[3][:, ::-1]}
    images |= {"train/black": np.zeros((128, 256, 3), np.uint8), "val/dark": np.full((128, 256, 3), 2, np.uint8)}
    return write(tmp_path / "in", images)


def listed(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "duplicates.jsonl").read_text().splitlines()]


def test_a_build_lists_and_counts_what_was_planted_and_nothing_else(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert build(f"--input={source}", f"--output={output}", *OPTIONS) == 0
    lines = listed(output)
    assert [(line["kind"], line["keys"]) for line in lines] == [
        ("exact", ["train/same", "val/same"]),
        ("near", ["train/scene2", "val/jpeg"]),
        ("mirrored", ["train/scene3", "val/turned"]),
        ("exact", ["train/same", "train/scene0"]),
        ("near", ["train/scene1", "train/small"]),
    ]
    assert [line["distance"] for line in lines if line["kind"] == "exact"] == [0, 0]
    assert all(line["distance"] <= 4 for line in lines)
    for line in lines:
        assert line["splits"] == [key.partition("/")[0] for key in line["keys"]]
        assert line["filenames"] == [f"images/{key}.png" for key in line["keys"]]
        for shard, key in zip(line["shards"], line["keys"], strict=True):
            index = (output / "index" / shard.replace(".tfrecord", ".jsonl")).read_text()
            assert f'"key": "{key}"' in index
    manifest = Manifest.from_json((output / "dataset.json").read_text())
    assert manifest.duplicates == {
        "train": {"exact": 1, "near": 1},
        "train/val": {"exact": 1, "near": 1, "mirrored": 1},
    }
    assert manifest.leaks == 7, "both of three pairs, and the copy of one of them"
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "duplicates 1 exact, 1 near within train; 1 exact, 1 near, 1 mirrored across train and val: duplicates.jsonl"
        in printed
    )
    assert "warning: 7 examples have a duplicate in another split, so that scores on it are too good." in printed
    assert "--group_by" not in printed


def test_without_duplicates_there_is_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = {f"{split}/scene{number}": SCENES[number] for number, split in enumerate(["train"] * 5 + ["val"] * 3)}
    output = tmp_path / "out"
    assert build(f"--input={write(tmp_path / 'in', images)}", f"--output={output}", *OPTIONS, "--max_leaks=0") == 0
    assert not (output / "duplicates.jsonl").exists()
    assert '"duplicates"' not in (output / "dataset.json").read_text()
    assert "duplicates  " not in capsys.readouterr().out


@pytest.mark.slow
def test_the_workers_change_no_byte_of_the_list(source: Path, tmp_path: Path) -> None:
    results = []
    for workers in (1, 3):
        output = tmp_path / f"out{workers}"
        assert build(f"--input={source}", f"--output={output}", *OPTIONS, f"--direct_num_workers={workers}") == 0
        results.append(published(output))
    assert results[0] == results[1]
    assert "duplicates.jsonl" in results[0][2]


def test_a_long_list_is_cut_and_the_counts_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_pipelines.graph.LISTED", 3)
    pictures = [Picture(f"{n}", "val" if n == 7 else "train", "", "", "same", 0, 0) for n in range(9)]

    def check(found: list[Findings]) -> None:
        (findings,) = found
        assert findings.counts == {"train": {"exact": 7}, "train/val": {"exact": 1}}
        assert [(pair.one.key, pair.other.key) for pair in findings.listed] == [("0", "7"), ("0", "1"), ("0", "2")]
        assert findings.leaks == 9

    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as root:
        assert_that(root | beam.Create(pictures) | PairDuplicates() | SummarizeDuplicates(), check)


@pytest.mark.parametrize("seed", [0, 1])
def test_findings_do_not_depend_on_the_order_of_the_examples(seed: int) -> None:
    """Forty pictures and a copy of each: with equal pixels of the odd ones, in another split of two of three."""
    rng = random.Random(5)
    originals = [Picture(f"a{n:02d}", "train", "", "", f"{n}", rng.getrandbits(64), 0) for n in range(40)]
    copies = [
        replace(each, key=f"b{n:02d}", split="val" if n % 3 else "train", digest=f"{n}" if n % 2 else f"copy of {n}")
        for n, each in enumerate(originals)
    ]

    def check(found: list[Findings]) -> None:
        (findings,) = found
        assert findings.counts == {"train": {"exact": 7, "near": 7}, "train/val": {"exact": 13, "near": 13}}
        assert findings.leaks == 52
        across = [n for n in range(40) if n % 3]
        ordered = [n for odd in (1, 0) for n in across if n % 2 == odd]
        assert [pair.one.key for pair in findings.listed][:26] == [f"a{n:02d}" for n in ordered]
        assert len(findings.listed) == 40

    pictures = random.Random(seed).sample(originals + copies, 80)
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as root:
        assert_that(root | beam.Create(pictures) | PairDuplicates() | SummarizeDuplicates(), check)


def test_too_many_leaks_are_refused_and_accepted_without_decoding_again(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", *OPTIONS)
    assert build(*arguments, "--max_leaks=25%") == 1
    message = capsys.readouterr().err
    assert message.startswith(
        "error: 7 of 16 examples have a duplicate in another split (43.75%; --max_leaks is 25.00%): "
        "1 exact, 1 near, 1 mirrored across train and val. "
    )
    assert f"{output}/duplicates.jsonl lists each pair. The shards are kept, unless the command has" in message
    assert "Remove one of each pair, or accept them with --max_leaks=44%, and run the command again" in message
    assert len(listed(output)) == 5
    assert not (output / "dataset.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecord")}
    assert build(*arguments, "--max_leaks=44%") == 0
    assert {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecord")} == before
    assert "(0 images" in capsys.readouterr().out

    assert build(*arguments) == 0, "the limit is no part of the recipe"
    assert "already complete" in capsys.readouterr().out
    for more in ([], ["--update"]):
        assert build(*arguments, "--max_leaks=1%", *more) == 1
        assert (
            "the data set is complete, and 4 of its 10 examples have a duplicate in another" in capsys.readouterr().err
        )


@pytest.mark.slow
def test_leaks_of_our_own_splits_get_a_grouping_that_ends_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of twelve drives holds a scene and what an encoder made of it."""
    images = {f"drive{number:02d}_0": scene for number, scene in enumerate(SCENES)}
    images |= {f"drive{number:02d}_1": CHANGES["JPEG 75"](scene) for number, scene in enumerate(SCENES)}
    output, source = tmp_path / "out", write(tmp_path / "in", images)
    arguments = (f"--input={source}", f"--output={output}", *OPTIONS, "--splits=train=0.6,val=0.4")
    assert build(*arguments, "--max_leaks=0") == 1
    proposed = "--group_by='^(.+)[/_-]' --overwrite"
    assert f"Keep them in one split with {proposed}, or accept them with --max_leaks=" in capsys.readouterr().err
    assert build(*arguments) == 0
    assert f"{proposed} would keep them in one split." in " ".join(capsys.readouterr().out.split())
    assert build(*arguments, "--max_leaks=0", "--group_by=^(.+)[/_-]", "--overwrite") == 0
    lines = listed(output)
    assert len(lines) == len(SCENES)
    assert all(len({*line["splits"]}) == 1 for line in lines)


def test_a_list_is_deleted_with_its_data_set_and_one_of_somebody_else_is_not(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", *OPTIONS)
    assert build(*arguments) == 0
    for copy in ("train/same", "train/small", "val/same", "val/jpeg", "val/turned"):
        for kind in ("images", "masks"):
            (source / kind / f"{copy}.png").unlink()
    assert build(*arguments, "--overwrite") == 0
    assert not (output / "duplicates.jsonl").exists()

    (output / "duplicates.jsonl").write_text("my own notes\n")
    assert build(*arguments, "--overwrite") == 1
    assert (
        "holds duplicates.jsonl, which the build would overwrite, and which no build wrote" in capsys.readouterr().err
    )
    assert (output / "duplicates.jsonl").read_text() == "my own notes\n"


def test_the_list_of_a_damaged_data_set_is_known_by_its_lines(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert build(f"--input={source}", f"--output={output}", *OPTIONS) == 0
    manifest = output / "dataset.json"
    manifest.write_text(manifest.read_text()[:-200])
    place = Workspace(str(output))
    assert "duplicates.jsonl" in own_files.listed(place)
    for other in ("", "{}\n", (output / "duplicates.jsonl").read_text() + "and more\n"):
        (output / "duplicates.jsonl").write_text(other)
        assert "duplicates.jsonl" not in own_files.listed(place)


@pytest.mark.slow
def test_an_update_brings_the_list_up_to_date(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", *OPTIONS)
    copies = ("train/same", "train/small", "val/same", "val/jpeg", "val/turned")
    away = {kind: tmp_path / "away" / kind for kind in ("images", "masks")}
    for kind, copy in itertools.product(away, copies):
        (away[kind] / copy).parent.mkdir(parents=True, exist_ok=True)
        (source / kind / f"{copy}.png").rename(away[kind] / f"{copy}.png")
    assert build(*arguments) == 0
    assert not (output / "duplicates.jsonl").exists()
    for kind, copy in itertools.product(away, copies):
        (away[kind] / f"{copy}.png").rename(source / kind / f"{copy}.png")
    assert build(*arguments, "--update") == 0
    assert len(listed(output)) == 5, "pairs of shards that stayed and new ones"
    assert Manifest.from_json((output / "dataset.json").read_text()).leaks == 7
    for kind, copy in itertools.product(away, copies):
        (source / kind / f"{copy}.png").unlink()
    assert build(*arguments, "--update") == 0
    assert not (output / "duplicates.jsonl").exists()
    assert not Manifest.from_json((output / "dataset.json").read_text()).duplicates
