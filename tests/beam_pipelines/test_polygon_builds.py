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

from beam_pipelines.files.reader import FileReader, member_path
from beam_pipelines.files.spool import Spool
from beam_pipelines.inputs.annotations import coco_pairs, find_coco, labelme_name
from beam_pipelines.inputs.coco import read_coco
from beam_pipelines.inputs.input_files import list_inputs
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.inputs.sources import Found, Source
from beam_pipelines.pixels import polygons
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.mask_readings import PLAIN
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.stage import prepare
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


spools = list[Spool]()  # they live as long as the pairs are needed


def find_coco_pairs(_: object, inputs: str, *__: object) -> Found:
    files, pairs = list_inputs(inputs), PairList()
    spools.append(Spool())
    for found in coco_pairs(files, find_coco(files)):
        assert found.image
        key, path = f"{found.split}/{Path(found.image).stem}", files[found.image][0]
        pairs.append(Pair(key, found.split, found.image, path, spools[-1].add(found.document, found.source), 1))
    return Found(pairs, (), ())


def find_with(patch: pytest.MonkeyPatch) -> None:
    """Lets builds find the pairs of COCO's files."""
    patch.setattr("beam_pipelines.builder.open_source", lambda _, inputs: Source(inputs))
    patch.setattr("beam_pipelines.builder.find_pairs", find_coco_pairs)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the shards that the masks give as PNG files."""
    folder, output = tmp_path_factory.mktemp("masks"), tmp_path_factory.mktemp("out")
    shutil.copytree(source / "images", folder / "images", ignore=shutil.ignore_patterns("*.json"))
    table = load_labels(str(source / "labels.yaml"))
    with contextlib.closing(FileReader(10**6)) as reader:
        for pair in find_coco_pairs(None, str(source)).pairs:
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
    arguments, kept = command(source, output, source), output / "_build" / "polygons.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        find_with(patch)
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
    source: Path, resumed: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_with(monkeypatch)
    threads = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    before = (resumed / "dataset.json").stat().st_ino
    assert build(*command(source, resumed, source)[:-1], *threads, "--overwrite") == 0
    assert digests(resumed) == expected
    assert (resumed / "dataset.json").stat().st_ino != before
    assert not (resumed / "_build").exists()


@pytest.mark.slow
def test_a_plan_alone_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_with(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert build(*command(source, tmp_path / "out", source), "--plan") == 0
    assert not (tmp_path / "out").exists()
    spools.clear()
    gc.collect()
    assert not any((tmp_path / "temporary").iterdir())


def sample_of(mask: str, source: Path) -> Sample | Rejected:
    """What a worker makes of an image and a mask."""
    recipe = recipe_of(f"--labels={source / 'labels.yaml'}", "--image_size=native")
    image = str(source / "images" / "val" / "val_0.png")
    with contextlib.closing(FileReader(10**7)) as reader:
        return prepare(Pair("val/val_0", "val", "val_0.png", image, mask, 1), recipe, reader, PLAIN)


def test_labelme_s_file_is_the_mask_also_in_an_archive_with_a_large_image_in_it(source: Path, tmp_path: Path) -> None:
    beside = labelme_name(str(source / "images" / "val" / "val_0.png"))
    sample = sample_of(beside, source)
    assert isinstance(sample, Sample)
    assert np.array_equal(
        sample.mask, polygons.draw(Path(beside).read_bytes(), load_labels(str(source / "labels.yaml")), SIZE)
    )
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        large = json.loads(Path(beside).read_text()) | {"imageData": "QUJD" * 10**6}
        archive.writestr("val_0.json", json.dumps({"imageData": large.pop("imageData"), **large}))
    packed = sample_of(member_path(str(tmp_path / "in.zip"), "val_0.json"), source)
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
