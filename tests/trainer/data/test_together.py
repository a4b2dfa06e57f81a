"""Which data sets a run can train on at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable
from beam_pipelines.contract.manifest import Manifest
from tests.support.handmade import SIZE, write_dataset
from trainer.data.manifest import DatasetError, check_together, common_size, read_local


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of camvid11, without an index, of images of one size."""
    return read_local(str(write_dataset(tmp_path_factory.mktemp("made"), "raw_uint8", (2, 1))))


def of(made: Manifest, table: str) -> Manifest:
    return replace(made, labels=BUILTIN_TABLES[table]())


def sized(made: Manifest, height: int | None, width: int | None) -> Manifest:
    return replace(made, pixels=replace(made.pixels, height=height, width=width))


def problem(*manifests: Manifest, is_cropped: bool = False, is_class_uniform: bool = False) -> str | None:
    """Of data sets in the folders a, b, ..."""
    named = dict(zip("abc", manifests, strict=False))
    try:
        check_together(named, is_cropped=is_cropped, is_class_uniform=is_class_uniform)
    except DatasetError as error:
        return str(error)
    return None


def test_classes_are_compared_by_name_and_order(made: Manifest) -> None:
    cityscapes = of(made, "cityscapes19")
    assert problem(cityscapes, of(made, "idd_to_cityscapes19"), cityscapes) is None
    assert problem(cityscapes, cityscapes, of(made, "cityscapes7")) == (
        "c has the label table cityscapes7, and a has cityscapes19, with other classes: train id 0 is flat, not "
        "road; build both with label tables of the same classes in the same order (--labels)"
    )
    rows = {row.train_id: row for row in made.labels.classes}
    swapped = [replace(rows[0], train_id=1), replace(rows[1], train_id=0), *list(rows.values())[2:]]
    other = replace(made, labels=LabelTable(name="mine", labels=tuple(swapped)))
    assert f"train id 0 is {rows[1].name}, not {rows[0].name}" in str(problem(made, other))
    fewer = replace(made, labels=LabelTable(name="mine", labels=tuple(list(rows.values())[:-1])))
    assert f"train id 10 is no class, not {rows[10].name}" in str(problem(made, fewer))
    assert f"train id 10 is {rows[10].name}, not no class" in str(problem(fewer, made))


def test_images_of_several_sizes_must_be_cropped(made: Manifest) -> None:
    height, width = SIZE
    assert common_size({"a": made, "b": made}) == SIZE
    assert problem(made, made) is None
    other = sized(made, width, height)
    assert problem(made, other) == (
        f"the data sets have images of several sizes: a has {height}x{width}, b has {width}x{height}; set "
        "--crop_size=HEIGHTxWIDTH"
    )
    several = sized(made, None, None)
    assert str(problem(made, several)).startswith("b has images of several sizes: set the training size with ")
    assert problem(made, other, several, is_cropped=True) is None


def test_every_data_set_needs_an_index_for_class_uniform_sampling(made: Manifest) -> None:
    indexed = replace(made, indexed=True)
    assert problem(indexed, indexed, is_class_uniform=True) is None
    assert problem(indexed, made) is None
    assert problem(indexed, made, is_class_uniform=True) == (
        "--sampling=class_uniform needs the index of b, which was built by an earlier version: build it again"
    )
    assert str(problem(made, is_class_uniform=True)).startswith("--sampling=class_uniform needs the index of a, ")
