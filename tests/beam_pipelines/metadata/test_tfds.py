"""TensorFlow Datasets itself reads what a build wrote, and gets the pixels that the records hold."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import Label, LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import libraries, tfds
from tests.support.builds import build, make_flat
from tests.support.handmade import write_dataset

# TensorFlow Datasets 4.9.10 calls what protobuf calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:label\\(\\) is deprecated:DeprecationWarning")

SHARDS = (3, 0, 2)
UNEVEN = ((8, 12), (6, 9))
ONE_WIDTH = ((8, 12), (6, 12), (9, 12))
Pixels = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def library() -> Any:
    """TensorFlow Datasets."""
    return pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


def manifest_of(dataset: Path) -> Manifest:
    return Manifest.from_json((dataset / "dataset.json").read_text())


def described(folder: Path, image_format: str, sizes: tuple[tuple[int, int], ...] = ((8, 12),)) -> Path:
    """A data set without a build, and its files for other libraries."""
    manifest = manifest_of(write_dataset(folder, image_format, SHARDS, sizes))
    if sizes == ONE_WIDTH:
        pixels = dataclasses.replace(manifest.pixels, width=12)
        manifest = dataclasses.replace(manifest, pixels=pixels)
    assert libraries.write_files(manifest, Workspace(str(folder))) == []
    return folder


def records_of(dataset: Path) -> Iterator[record.Record]:
    """In the order of the shards."""
    for shard in manifest_of(dataset).splits["train"]:
        with (dataset / shard.file).open("rb") as file:
            yield from map(record.decode, tfrecord.read_records(file, shard.file))


def stored(dataset: Path) -> Pixels:
    """File name -> image and mask [H, W, C], by NumPy and Pillow."""

    def array(data: bytes, pixel_format: str, shape: tuple[int, ...]) -> np.ndarray:
        if pixel_format == "png":
            with Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture).reshape(shape)
        return np.frombuffer(data, record.RAW_DTYPES[pixel_format]).reshape(shape)

    return {
        each.filename: (
            array(each.image, each.image_format, (each.height, each.width, 3)),
            array(each.mask, each.mask_format, (each.height, each.width, 1)),
        )
        for each in records_of(dataset)
    }


def read(dataset: Any) -> Pixels:
    return {each[tfds.FILENAME].decode(): (each[tfds.IMAGE], each[tfds.MASK]) for each in dataset.as_numpy_iterator()}


def assert_same(found: Pixels, expected: Pixels) -> None:
    assert found.keys() == expected.keys()
    for name, arrays in expected.items():
        for array, other in zip(found[name], arrays, strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other, strict=True)


@pytest.mark.parametrize(
    ("image_format", "sizes", "shape"),
    [
        ("raw_float32", ((8, 12),), [8, 12]),
        ("raw_float16", ((8, 12),), [8, 12]),
        ("raw_uint8", ((8, 12),), [8, 12]),
        ("png", ((8, 12),), [8, 12]),
        ("png", UNEVEN, [None, None]),
        ("raw_float16", ONE_WIDTH, [None, 12]),
    ],
)
def test_every_encoding_is_read_to_the_bit(
    library: Any, tmp_path: Path, image_format: str, sizes: tuple[tuple[int, int], ...], shape: list[int | None]
) -> None:
    folder = described(tmp_path / "data", image_format, sizes)
    dataset = library.builder_from_directory(folder).as_dataset(split="train")
    assert dataset.element_spec[tfds.IMAGE].shape == [*shape, 3]
    assert dataset.element_spec[tfds.MASK].shape == [*shape, 1]
    assert_same(read(dataset), stored(folder))


def test_a_built_data_set_is_read_by_its_folder(library: Any, tmp_path: Path) -> None:
    """Float images and PNG masks, in the folders where `tfds.load` looks."""
    root, version = tmp_path / "all", tmp_path / "all" / "segmentation_camvid11" / "1.0.0"
    inputs = make_flat(tmp_path / "in", train=5, val=2)
    options = ("--labels=camvid11", "--image_size=16x32", "--mask_encoding=png", "--no_transform_fn")
    assert build(f"--input={inputs}", f"--output={version}", "--shards=train=2,val=1", *options) == 0
    builder = library.builder_from_directory(version)
    assert_same(read(builder.as_dataset(split="train")), stored(version))
    manifest = manifest_of(version)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 5, "val": 2}
    assert {name: split.num_bytes for name, split in builder.info.splits.items()} == {
        name: manifest.bytes(name) for name in manifest.splits
    }
    assert builder.info.features[tfds.MASK].names == [row.name for row in manifest.labels.classes]
    loaded = library.load(builder.info.name, data_dir=str(root), split="val", as_supervised=True)
    assert [spec.dtype.name for spec in loaded.element_spec] == ["float32", "uint8"]
    assert len([*loaded]) == 2


def test_slices_and_even_splits_are_of_the_records_in_their_order(library: Any, tmp_path: Path) -> None:
    folder = described(tmp_path / "data", "raw_uint8")
    builder = library.builder_from_directory(folder)
    names = [each.filename for each in records_of(folder)]
    assert {*read(builder.as_dataset(split="train[:3]"))} == {*names[:3]}
    assert {*read(builder.as_dataset(split="train[1:4]"))} == {*names[1:4]}
    halves = [{*read(builder.as_dataset(split=half))} for half in library.even_splits("train", 2)]
    assert [len(half) for half in halves] == [3, 2]
    assert halves[0] | halves[1] == {*names}


def test_raw_records_of_many_sizes_get_no_files(tmp_path: Path) -> None:
    manifest = manifest_of(write_dataset(tmp_path, "raw_float16", SHARDS, UNEVEN))
    (note,) = libraries.write_files(manifest, Workspace(str(tmp_path)))
    assert note == (
        "no files for TensorFlow Datasets are written: it reads records of raw_float16 only if they have one height "
        "or one width, and these have several"
    )
    assert not {path.name for path in tmp_path.iterdir()} & {*tfds.NAMES}
    assert libraries.are_written(manifest, Workspace(str(tmp_path)))


def test_shards_under_other_names_get_no_files(tmp_path: Path) -> None:
    manifest = manifest_of(write_dataset(tmp_path, "png", SHARDS))
    first, second = manifest.splits["train"][:2]
    other = dataclasses.replace(second, file=second.file.replace("-of-0", "-of-1"))
    splits = {"train": (first, other)}
    assert "2 shards of train under other names" in (tfds.obstacle(dataclasses.replace(manifest, splits=splits)) or "")


@pytest.mark.parametrize("name", ["road ", "two\nlines", ""])
def test_class_names_that_are_no_lines_are_left_out(library: Any, tmp_path: Path, name: str) -> None:
    folder = write_dataset(tmp_path / "data", "png", SHARDS)
    rows = [
        Label(name=each, source_ids=(), train_id=id, color=None, category="") for id, each in enumerate(["a", name])
    ]
    table = LabelTable(name="Two of mine, 2024", labels=tuple(rows))
    manifest = dataclasses.replace(manifest_of(folder), labels=table)
    assert libraries.write_files(manifest, Workspace(str(folder))) == []
    assert not (folder / tfds.CLASS_NAMES).exists()
    info = library.builder_from_directory(folder).info
    assert (info.name, info.features[tfds.MASK].names) == ("segmentation_two_of_mine_2024", ["0", "1"])


def test_the_files_say_nothing_of_this_machine_or_time(tmp_path: Path) -> None:
    manifest = manifest_of(write_dataset(tmp_path, "raw_float32", SHARDS))
    other = dataclasses.replace(manifest, recipe={"input": "/home/me"}, timing={"seconds": 7.5})
    assert tfds.texts(manifest) == tfds.texts(other)


def test_the_numbers_of_normalized_images_are_told(library: Any, tmp_path: Path) -> None:
    folder = described(tmp_path / "data", "raw_float32")
    mean = manifest_of(folder).moments.normalization.mean
    features = json.loads((folder / tfds.FEATURES).read_text())["featuresDict"]["features"]
    assert str([*mean]) in features[tfds.IMAGE]["description"]
    assert "3 road, 4 pavement" in features[tfds.MASK]["description"]
