"""Croissant's own library takes the description of a data set, and finds the shards and classes in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.contract.labels import Label, LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import croissant, libraries
from tests.support.handmade import write_dataset

# What rdflib 7.6, which mlcroissant reads with, calls deprecated in itself.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
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
        Label(name=name, source_ids=(), train_id=number, color=color, category="flat")
        for number, (name, color) in enumerate([("Straße", (1, 171, 16)), ("sky", None)])
    ]
    manifest = dataclasses.replace(described(tmp_path), labels=LabelTable(name="mine", labels=tuple(rows)))
    assert description_of(manifest)["recordSet"][0]["data"] == [
        {"classes/train_id": 0, "classes/name": "Straße", "classes/category": "flat", "classes/color": "#01ab10"},
        {"classes/train_id": 1, "classes/name": "sky", "classes/category": "flat", "classes/color": ""},
    ]


def test_nothing_of_this_machine_or_time_is_told(tmp_path: Path) -> None:
    manifest = described(tmp_path)
    other = dataclasses.replace(manifest, recipe={"input": "/home/me"}, timing={"seconds": 7.5})
    assert croissant.texts(manifest) == croissant.texts(other)
