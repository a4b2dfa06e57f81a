"""Croissant's own library takes the description of a data set, and finds the shards, classes and pictures in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import Label, LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import croissant, libraries
from tests.support.builds import build, make_flat, no_transform
from tests.support.handmade import write_dataset

# What rdflib 7.6, which mlcroissant reads with, calls deprecated in itself.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
COLORS = ((128, 64, 128), (70, 130, 180))
ENCODINGS = ("raw_float32", "raw_uint8", "png")


@pytest.fixture(scope="module")
def library() -> Any:
    """Croissant's reference implementation, which is no part of the extra `dev`."""
    return pytest.importorskip("mlcroissant", reason="mlcroissant, 170 MB with SciPy, is not installed")


def described(folder: Path, image_format: str = "raw_uint8") -> Manifest:
    """The manifest of a data set in `folder`, with the description."""
    manifest = Manifest.from_json((write_dataset(folder, image_format) / "dataset.json").read_text())
    assert libraries.write_files(manifest, Workspace(str(folder))) == []
    return manifest


def description_of(manifest: Manifest) -> dict[str, Any]:
    return json.loads(croissant.texts(manifest)[croissant.FILE_NAME])


@pytest.mark.parametrize("image_format", ENCODINGS)
def test_croissants_library_accepts_it(library: Any, tmp_path: Path, image_format: str) -> None:
    manifest = described(tmp_path, image_format)
    dataset = library.Dataset(str(tmp_path / croissant.FILE_NAME))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    left_out = ("citeAs", "datePublished", "license")  # a manifest does not know them
    assert all(any(name in warning for name in left_out) for warning in issues.warnings), issues.warnings
    assert dataset.metadata.ctx.is_v1_1()
    files = {file.id: (file.sha256, file.content_size) for file in dataset.metadata.file_objects}
    assert files == {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), f"{path.stat().st_size} B")
        for path in tmp_path.glob("*.tfrecord")
    } | {"rejected-00000-of-00001.tfrecord": (hashlib.sha256().hexdigest(), "0 B")}
    records = [*dataset.records(croissant.CLASSES)]
    assert [(each["classes/train_id"], each["classes/name"]) for each in records] == [
        (row.train_id, row.name) for row in manifest.labels.classes
    ]


def test_checksums_are_properties_of_schema_org(library: Any, tmp_path: Path) -> None:
    """As a reader of JSON-LD resolves them."""
    import rdflib

    described(tmp_path)
    graph = rdflib.Graph().parse(tmp_path / croissant.FILE_NAME, format="json-ld")
    digests = {str(digest) for digest in graph.objects(None, rdflib.URIRef("https://schema.org/sha256"))}
    assert digests == {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*.tfrecord")} | {
        hashlib.sha256().hexdigest()
    }
    kinds = {str(kind) for kind in graph.objects(None, rdflib.URIRef("http://mlcommons.org/croissant/dataType"))}
    assert "https://schema.org/Enumeration" in kinds


def test_every_shard_is_described_by_the_manifest(tmp_path: Path) -> None:
    manifest = described(tmp_path)
    found = description_of(manifest)
    assert [(file["contentUrl"], file["sha256"]) for file in found["distribution"]] == [
        (shard.file, shard.sha256) for shards in manifest.splits.values() for shard in shards
    ]
    assert (
        found["distribution"][0]["description"] == f"{manifest.splits['train'][0].examples} examples of the split train"
    )
    assert "sha256" not in found["@context"]


def test_colors_are_told_if_the_table_has_them(tmp_path: Path) -> None:
    rows = [
        Label(name=name, source_ids=ids, train_id=number, color=color, category="flat")
        for number, (name, ids, color) in enumerate([("Straße", (7, 8), (1, 171, 16)), ("sky", (), None)])
    ]
    manifest = dataclasses.replace(described(tmp_path), labels=LabelTable(name="mine", labels=tuple(rows)))
    assert description_of(manifest)["recordSet"][0]["data"] == [
        {
            "classes/train_id": 0,
            "classes/name": "Straße",
            "classes/category": "flat",
            "classes/color": "#01ab10",
            "classes/source_ids": [7, 8],
            "classes/mask_colors": ["#01ab10"],
        },
        {
            "classes/train_id": 1,
            "classes/name": "sky",
            "classes/category": "flat",
            "classes/color": "",
            "classes/source_ids": [],
            "classes/mask_colors": [],
        },
    ]


def test_nothing_of_this_machine_or_time_is_told(tmp_path: Path) -> None:
    manifest = described(tmp_path)
    other = dataclasses.replace(manifest, recipe={"input": "/home/me"}, timing={"seconds": 7.5})
    assert croissant.texts(manifest) == croissant.texts(other)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray masks in `train`, palettes of which the first entry stays unused in `val`; an image without a mask, too."""
    folder = make_flat(tmp_path_factory.mktemp("pictures") / "in", train=5, val=2)
    for path in (folder / "masks" / "val").iterdir():
        mask = Image.fromarray(np.asarray(Image.open(path)) % 2 + 1)
        mask.putpalette([0, 0, 0, *COLORS[0], *COLORS[1]])
        mask.save(path)
    shutil.copy(folder / "images" / "train" / "train_0000.png", folder / "images" / "train" / "unlabeled.png")
    return folder


@pytest.fixture(scope="module")
def built(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the pictures, which was moved after its build."""
    output = tmp_path_factory.mktemp("built") / "out"
    with no_transform():
        assert build(f"--input={pictures}", f"--output={output}", *OPTIONS) == 0
    return output.rename(output.with_name("moved"))


OPTIONS = ("--labels=camvid11", "--masks_are=ids", "--image_size=native", "--image_encoding=png", "--max_rejects=50%")


def test_croissants_library_iterates_the_source_pictures(library: Any, built: Path, pictures: Path) -> None:
    dataset = library.Dataset(str(built / croissant.FILE_NAME), mapping={croissant.SOURCE: str(pictures)})
    assert not dataset.metadata.ctx.issues.errors
    for split, count in (("train", 5), ("val", 2)):
        found = [*dataset.records(f"{split}_pairs")]
        told = {(of(each, "split"), of(each, "key"), of(each, "filename")) for each in found}
        names = [f"{split}/{split}_{number:04d}" for number in range(count)]
        assert told == {(split.encode(), name.encode(), f"images/{name}.png".encode()) for name in names}
        assert len(found) == count
        for each in found:
            name = of(each, "key").decode()
            for kind in ("image", "mask"):
                stored = Image.open(pictures / f"{kind}s" / f"{name}.png")
                pixels = np.asarray(of(each, kind))
                assert np.array_equal(pixels, np.asarray(stored.convert("RGB")))
                if stored.mode == "L":
                    assert np.array_equal(pixels, np.asarray(stored)[..., None].repeat(3, -1))
        assert {of(each, "key", "masks") for each in dataset.records(f"{split}_masks")} == {
            of(each, "key") for each in found
        }


def of(record: dict[str, Any], field: str, kind: str = "") -> Any:
    """The value of the field of a record, of whatever split."""
    (value,) = [value for name, value in record.items() if name.endswith(f"{kind}/{field}")]
    return value


def test_croissants_library_finds_the_folder_beside_the_file(library: Any, built: Path, pictures: Path) -> None:
    (built / croissant.SOURCE).symlink_to(pictures)
    try:
        assert len([*library.Dataset(str(built / croissant.FILE_NAME)).records("val_pairs")]) == 2
    finally:
        (built / croissant.SOURCE).unlink()
    with pytest.raises(library.GenerationError) as error:
        [*library.Dataset(str(built / croissant.FILE_NAME)).records("val_pairs")]
    assert 'node "source", file "source" is either an invalid URL or an invalid path' in str(error.value.__cause__)


def test_pairs_are_described_by_patterns(built: Path, pictures: Path) -> None:
    text = (built / croissant.FILE_NAME).read_text()
    assert str(pictures.parent) not in text
    assert "train_0000" not in text
    found = json.loads(text)
    sets = {each["@id"]: each for each in found["distribution"] if each["@type"] == "cr:FileSet"}
    assert {name: each["includes"] for name, each in sets.items()} == {
        f"{split}_{kind}_files": [f"{kind}s/{split}/*.png"] for split in ("train", "val") for kind in ("image", "mask")
    }
    (folder,) = [each for each in found["distribution"] if each["@id"] == croissant.SOURCE]
    assert {each["containedIn"]["@id"] for each in sets.values()} == {folder["@id"]}
    records = {each["@id"]: each for each in found["recordSet"]}
    kinds = ("images", "masks", "pairs")
    assert [*records] == [croissant.CLASSES, *(f"{split}_{kind}" for split in ("train", "val") for kind in kinds)]
    fields = {each["@id"] for record_set in records.values() for each in record_set["field"]}
    key = records["val_pairs"]["field"][1]
    assert {key["source"]["field"]["@id"], key["references"]["field"]["@id"]} <= fields
    assert "1 rejected pairs" in records["train_pairs"]["description"]


def test_archives_have_no_record_set_and_the_description_says_so(pictures: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.png")):
            archive.write(path, path.relative_to(pictures))
    with no_transform():
        assert build(f"--input={tmp_path / 'in.zip'}", f"--output={tmp_path / 'out'}", *OPTIONS) == 0
    found = json.loads((tmp_path / "out" / croissant.FILE_NAME).read_text())
    assert [each["@id"] for each in found["recordSet"]] == [croissant.CLASSES]
    assert found["description"].endswith("No record set reads the source pictures: they are in archives.")


def test_odd_names_of_splits_give_other_identities(library: Any, tmp_path: Path) -> None:
    manifest = described(tmp_path)
    shard = manifest.splits["train"][0]
    splits = {
        name: (dataclasses.replace(shard, file=f"{name}.tfrecord"),) for name in ("a b", "a_b", 'c "<#%', "größe-2.x")
    }
    found = description_of(dataclasses.replace(manifest, splits=splits))
    assert not library.Dataset(found).metadata.ctx.issues.errors
    identities = {each["@id"] for each in found["distribution"]}
    assert len(identities) == len(found["distribution"])
    assert "größe-2.x.tfrecord" in identities
