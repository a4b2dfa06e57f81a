"""Builds from polygons have the bytes of builds from the same masks as PNG; killed builds go on."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import FileReader, member_path
from beam_pipelines.files.spool import Spool
from beam_pipelines.inputs.coco import read_coco
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.pixels import polygons
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.mask_readings import PLAIN
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.stage import prepare
from beam_pipelines.shards.survey import survey
from tests.support.builds import build, digests, recipe_of
from tests.support.killed_builds import killed

LABELS = """
classes:
  - {name: background, ids: [0]}
  - {name: car, ids: [1]}
  - {name: sky, ids: [2]}
ignore: [255]
"""
SIZE = (32, 48)
OPTIONS = ("--image_size=native", "--shards=train=2,val=1", "--image_encoding=uint8", "--direct_num_workers=1")


def shapes_of(rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    return [(label, rng.uniform(-4, 50, (7, 2)).round(2)) for label in ("car", "sky", "car")]


def coco_of(shapes: dict[str, list[tuple[str, np.ndarray]]]) -> dict[str, Any]:
    return {
        "images": [{"id": name, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]} for name in shapes],
        "annotations": [
            {"image_id": name, "category_id": label, "segmentation": [points.ravel().tolist()]}
            for name, found in shapes.items()
            for label, points in found
        ],
        "categories": [{"id": label, "name": label} for label in ("car", "sky")],
    }


def labelme_of(shapes: list[tuple[str, np.ndarray]]) -> dict[str, Any]:
    found = [{"label": label, "points": points.tolist(), "shape_type": "polygon"} for label, points in shapes]
    return {"shapes": found, "imageData": "QUJD" * 99, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, with the same polygons as COCO's and as Labelme's."""
    folder, rng = tmp_path_factory.mktemp("in"), np.random.default_rng(0)
    (folder / "labels.yaml").write_text(LABELS)
    for split, count in (("train", 8), ("val", 4)):
        images = folder / "images" / split
        images.mkdir(parents=True)
        shapes = {f"{split}_{index}": shapes_of(rng) for index in range(count)}
        for name, found in shapes.items():
            Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(images / f"{name}.png")
            (images / f"{name}.json").write_text(json.dumps(labelme_of(found)))
        (folder / f"instances_{split}2017.json").write_text(json.dumps(coco_of(shapes)))
    return folder


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the shards that the masks give as PNG files."""
    folder, output = tmp_path_factory.mktemp("masks"), tmp_path_factory.mktemp("out")
    shutil.copytree(source / "images", folder / "images", ignore=shutil.ignore_patterns("*.json"))
    table = load_labels(str(source / "labels.yaml"))
    with contextlib.closing(FileReader(10**6)) as reader:
        found = find_pairs(recipe_of("--layout=coco"), str(source))
        for pair in found.pairs:
            path = folder / "masks" / f"{pair.key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(polygons.draw(reader.read(pair.mask), table, SIZE)).save(path)
    assert build(*command(folder, output, source)) == 0
    return digests(output)


def command(inputs: Path, output: Path, labels: Path) -> tuple[str, ...]:
    given = (f"--input={inputs}", f"--output={output}", f"--labels={labels / 'labels.yaml'}", "--no_transform_fn")
    return (*given, *OPTIONS)


@pytest.fixture(scope="module")
def resumed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that was killed, that has to stage a shard again, and whose documents were damaged in between."""
    output = tmp_path_factory.mktemp("resumed")
    arguments = (*command(source, output, source), "--layout=coco")
    kept = output / "_build" / "polygons.jsonl"
    with killed("beam_pipelines.shards.ownership.finish"):
        assert build(*arguments) == 130
    (output / "dataset.json").unlink()
    next((output / "_build" / "staged").glob("train-00000*.json")).unlink()
    kept.write_bytes(kept.read_bytes().replace(b'"car"', b'"sky"', 1))
    assert build(*arguments) == 0
    return output


@pytest.mark.slow
def test_a_killed_build_goes_on_with_its_documents_and_deletes_them(resumed: Path, expected: dict[str, str]) -> None:
    assert digests(resumed) == expected
    assert not (resumed / "_build").exists()


@pytest.mark.slow
def test_polygons_give_the_bytes_of_their_masks_on_threads_over_an_earlier_build(
    source: Path, resumed: Path, expected: dict[str, str]
) -> None:
    threads = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    before = (resumed / "dataset.json").stat().st_ino
    assert build(*command(source, resumed, source)[:-1], *threads, "--overwrite", "--layout=coco") == 0
    assert digests(resumed) == expected
    assert (resumed / "dataset.json").stat().st_ino != before
    assert not (resumed / "_build").exists()


@pytest.mark.slow
def test_a_plan_alone_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert build(*command(source, tmp_path / "out", source), "--plan", "--layout=coco") == 0
    assert not (tmp_path / "out").exists()
    gc.collect()
    assert not any((tmp_path / "temporary").iterdir())


def sample_of(mask: str, source: Path) -> Sample | Rejected:
    """What a worker makes of an image and a mask."""
    recipe = recipe_of(f"--labels={source / 'labels.yaml'}", "--image_size=native")
    image = str(source / "images" / "val" / "val_0.png")
    with contextlib.closing(FileReader(10**7)) as reader:
        return prepare(Pair("val/val_0", "val", "val_0.png", image, mask, 1), recipe, reader, PLAIN)


def test_labelme_s_file_is_the_mask_also_in_an_archive_with_a_large_image_in_it(source: Path, tmp_path: Path) -> None:
    beside = str(source / "images" / "val" / "val_0.json")
    sample = sample_of(beside, source)
    assert isinstance(sample, Sample)
    assert np.array_equal(
        sample.mask, polygons.draw(Path(beside).read_bytes(), load_labels(str(source / "labels.yaml")), SIZE)
    )
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        large = json.loads(Path(beside).read_text()) | {"imageData": "QUJD" * 10**6}
        text = json.dumps({"imageData": large.pop("imageData"), **large})
        starts = ("", "\ufeff", "\r\n\t ")
        for index, start in enumerate(starts):
            archive.writestr(f"val_{index}.json", start + text)
    for index in range(len(starts)):
        packed = sample_of(member_path(str(tmp_path / "in.zip"), f"val_{index}.json"), source)
        assert isinstance(packed, Sample)
        assert np.array_equal(packed.mask, sample.mask)


def test_what_can_t_be_drawn_is_rejected_with_the_user_s_file(source: Path) -> None:
    coco = coco_of({"val_0": [("tree", np.zeros((3, 2)))]}) | {"categories": [{"id": "tree", "name": "tree"}]}
    ((_, _, document),) = read_coco(json.dumps(coco).encode(), "instances_val2017.json")
    with contextlib.closing(Spool()) as spool:
        rejected = sample_of(spool.add(document, "instances_val2017.json"), source)
        empty = sample_of(spool.add(b'{"height": 32, "width": 48, "regions": []}', "a.json"), source)
    assert isinstance(rejected, Rejected)
    assert (rejected.stage, rejected.reason, rejected.mask) == ("decode", "unknown_labels", "instances_val2017.json")
    assert rejected.detail == "1 labels are not in table labels: 'tree' (1)"
    assert isinstance(empty, Sample), "all of it is background"


def found_in(folder: Path, *options: str) -> dict[str, tuple[str, str]]:
    """Key -> split and mask."""
    return {pair.key: (pair.split, pair.mask) for pair in find_pairs(recipe_of(*options), str(folder)).pairs}


def test_labelme_and_coco_are_found_where_there_are_no_masks(source: Path, tmp_path: Path) -> None:
    beside = found_in(source)
    assert len(beside) == 12
    assert all(mask.endswith(".json") and "#" not in mask for _, mask in beside.values())
    alone = shutil.copytree(source, tmp_path / "coco", ignore=shutil.ignore_patterns("train_*.json", "val_*.json"))
    found = found_in(alone)
    assert found.keys() == {f"train/train_{n}" for n in range(8)} | {f"val/val_{n}" for n in range(4)}
    assert all("polygons.jsonl#" in mask for _, mask in found.values())
    assert found_in(alone, "--layout=coco").keys() == found.keys()
    assert found_in(alone, "--splits=val").keys() == {f"val/val_{n}" for n in range(4)}
    with pytest.raises(BuildError, match=r"has no file of CVAT for images 1\.1 beside its images"):
        found_in(alone, "--layout=cvat")


def test_regions_without_an_image_and_images_without_regions_are_told(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "in", ignore=shutil.ignore_patterns("train_*.json", "val_*.json"))
    (folder / "images" / "val" / "val_0.png").rename(folder / "images" / "val" / "other.png")
    found = find_pairs(recipe_of(), str(folder))
    (bad,) = found.rejected
    assert (bad.reason, bad.key) == ("missing_image", "val/val_0")
    assert found.notes[:2] == (
        "annotations: instances_train2017.json, instances_val2017.json",
        "1 images are left out: no regions name them",
    )


def test_an_image_that_two_annotations_take_is_refused_for_both(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "in", ignore=shutil.ignore_patterns("train_*.json", "val_*.json"))
    for index in range(4):
        (folder / "images" / "val" / f"val_{index}.png").rename(folder / "images" / f"{index}.png")
    shutil.copy(folder / "images" / "3.png", folder / "images" / "3.tif")
    annotations = {"train": ("0.png", "1.png", "1.png"), "val": ("0.png", "2.png", "3.png", "3.tif")}
    for split, names in annotations.items():
        images = [{"id": place, "file_name": name} for place, name in enumerate(names)]
        found = {"images": images, "annotations": [], "categories": []}
        (folder / f"instances_{split}2017.json").write_text(json.dumps(found))
    pairing = find_pairs(recipe_of("--splits=train,val"), str(folder))
    assert [pair.key for pair in pairing.pairs] == ["val/2"]
    assert [bad.key for bad in pairing.rejected] == ["train/0", "train/1", "train/1", "val/0", "val/3"]
    assert {bad.reason for bad in pairing.rejected} == {"duplicate_key"}
    assert pairing.rejected[0].detail == (
        "images/0.png is annotated 2 times: in instances_train2017.json and in instances_val2017.json"
    )
    assert pairing.rejected[0].mask == str(folder / "instances_train2017.json")
    assert pairing.rejected[-1].mask == str(folder / "instances_val2017.json"), "the user's file"
    assert "8 images are left out: no regions name them" in pairing.notes


def test_of_too_many_files_none_is_opened_unless_the_layout_is_given(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "a.png")
    (tmp_path / "all.json").write_text(json.dumps(coco_of({"a": []})))
    for index in range(100):
        (tmp_path / f"{index}.json").write_text("{}")
    with pytest.raises(BuildError, match=r"masks.*; 101 files are too many .* of COCO: give --layout=coco if so"):
        found_in(tmp_path)
    assert found_in(tmp_path, "--layout=coco", "--splits=train=1").keys() == {"a"}


def test_how_masks_are_read_is_not_told_of_regions(source: Path) -> None:
    recipe = recipe_of(f"--labels={source / 'labels.yaml'}", "--masks_are=ids")
    assert survey({"val": find_pairs(recipe, str(source)).pairs[:4]}, recipe).notes == ()


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <image id="0" name="a.png" subset="Train" width="48" height="32">
    <polygon label="car" occluded="0" points="0.0,0.0;20.0,0.0;20.0,20.0;0.0,20.0" z_order="0"></polygon>
  </image>
  <image id="1" name="b.png" width="48" height="32"></image>
</annotations>
"""


def test_cvat_s_subsets_are_splits_and_shares_are_for_the_others(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / name)
    (tmp_path / "annotations.xml").write_text(CVAT)
    with pytest.raises(BuildError, match=r"the image b\.png of annotations\.xml has no split: give --splits="):
        found_in(tmp_path)
    (tmp_path / "annotations.xml").write_text(CVAT.replace(' subset="Train"', ""))
    found = found_in(tmp_path, "--splits=train=0.5,val=0.5")
    assert found.keys() == {"a", "b"}


@pytest.mark.slow
def test_an_update_draws_what_changed_in_the_annotations(source: Path, tmp_path: Path) -> None:
    """The file of all regions is new then; those that are the same are not drawn again."""
    inputs, output, scratch = tmp_path / "in", tmp_path / "out", tmp_path / "scratch"
    shutil.copytree(source, inputs)
    assert build(*command(inputs, output, source), "--layout=coco") == 0
    path = inputs / "instances_train2017.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0]["category_id"] = "sky" if coco["annotations"][0]["category_id"] == "car" else "car"
    coco["images"] = [image for image in coco["images"] if image["id"] != "train_5"]
    coco["annotations"] = [each for each in coco["annotations"] if each["image_id"] != "train_5"]
    path.write_text(json.dumps(coco))
    assert build(*command(inputs, output, source), "--layout=coco", "--update") == 0
    assert build(*command(inputs, scratch, source), "--layout=coco") == 0
    updated, new = (json.loads((folder / "dataset.json").read_text()) for folder in (output, scratch))
    for name in ("moments", "class_pixels", "ignored_pixels"):
        assert updated[name] == new[name]
    (update,) = updated["additions"]["updates"]
    assert (update["added"], update["changed"], update["removed"]) == (0, 1, 1)
