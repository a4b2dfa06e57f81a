"""What the closing output says of the classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, LabelTable
from beam_pipelines.pixels.table_fit import LARGE, NO_STREETS, fitting_tables
from beam_pipelines.report import _notes_on_table

STREET = {  # thousandths of a street scene
    "camvid11": {
        "sky": 160,
        "building": 230,
        "pole": 10,
        "road": 290,
        "pavement": 60,
        "tree": 110,
        "sign symbol": 12,
        "fence": 15,
        "car": 60,
        "pedestrian": 7,
        "bicyclist": 4,
    },
    "cityscapes_train_ids": {
        "road": 370,
        "sidewalk": 60,
        "building": 230,
        "wall": 7,
        "fence": 9,
        "pole": 12,
        "traffic light": 2,
        "traffic sign": 6,
        "vegetation": 160,
        "terrain": 12,
        "sky": 40,
        "person": 12,
        "rider": 1,
        "car": 70,
        "truck": 3,
        "bus": 2,
        "train": 2,
        "motorcycle": 1,
        "bicycle": 4,
    },
}
STREET["cityscapes19"] = STREET["cityscapes_train_ids"]


def table(name: str) -> LabelTable:
    return BUILTIN_TABLES[name]()


def read_by(labels: LabelTable, ids: Mapping[int, int]) -> list[int]:
    """Pixels of each class of `labels` in masks with so many pixels of each id."""
    counts = [0] * labels.num_classes
    for source_id, pixels in ids.items():
        train_id = int(labels.train_id_of[source_id])
        if 0 <= train_id < IGNORE:
            counts[train_id] += pixels
    return counts


def ids_of(name: str) -> dict[int, int]:
    return {row.source_ids[0]: STREET[name][row.name] for row in table(name).classes}


@pytest.mark.parametrize("name", STREET)
def test_street_scenes_read_by_their_own_table_need_no_warning(name: str) -> None:
    assert _notes_on_table(table(name), read_by(table(name), ids_of(name))) == []


def test_ids_of_another_built_in_table_are_told_with_its_name() -> None:
    labels = table("cityscapes_train_ids")
    (note,) = _notes_on_table(labels, read_by(labels, ids_of("camvid11")))
    assert note.startswith("warning: wall fills 30% of the pixels that are not ignored")
    assert note.endswith("The ids fit camvid11.")


def test_real_masks_of_camvid_are_told_so(camvid: Path) -> None:
    paths = sorted((camvid / "masks" / "val").glob("*.png"))[:12]
    counts = np.sum([np.bincount(np.asarray(Image.open(path)).reshape(-1), minlength=256) for path in paths], axis=0)
    ids = {source_id: int(pixels) for source_id, pixels in enumerate(counts[:11])}
    wrong, right = table("cityscapes_train_ids"), table("camvid11")
    assert "The ids fit camvid11" in _notes_on_table(wrong, read_by(wrong, ids))[0]
    assert _notes_on_table(right, read_by(right, ids)) == []


@pytest.mark.parametrize("name", sorted(BUILTIN_TABLES.keys() - NO_STREETS))
def test_one_small_class_everywhere_and_no_road_is_told_for_every_table(name: str) -> None:
    labels = table(name)
    small = next(row for row in labels.classes if row.name not in LARGE and row.source_ids)
    pixels = [0] * labels.num_classes
    pixels[small.train_id], pixels[-1] = 70, 30
    (note,) = _notes_on_table(labels, pixels)
    assert note.startswith(f"warning: {small.name} fills 70% of the pixels that are not ignored, and there is no ")
    assert f"Is {name} the right label table (--labels)?" in note


@pytest.mark.parametrize("name", NO_STREETS)
def test_pictures_that_are_no_street_scenes_are_not_judged(name: str) -> None:
    labels = table(name)
    assert _notes_on_table(labels, [0, *[9] * (labels.num_classes - 1)]) == []


def test_of_many_tables_that_name_the_ids_only_the_plausible_ones_are_told(
    camvid: Path, cityscapes_sample: Path
) -> None:
    assert fitting_tables(ids_of("cityscapes_train_ids")) == ["cityscapes_train_ids"]
    assert fitting_tables(ids_of("cityscapes_train_ids"), "bdd100k") == []
    assert fitting_tables(pixels_of((camvid / "masks" / "val").glob("*.png"))) == ["camvid11"]
    assert fitting_tables(pixels_of(cityscapes_sample.rglob("*_labelIds.png"))) == ["cityscapes19", "cityscapes7"]


def pixels_of(paths: Iterable[Path]) -> dict[int, int]:
    some = sorted(paths)[:12]
    counts = np.sum([np.bincount(np.asarray(Image.open(path)).reshape(-1), minlength=256) for path in some], axis=0)
    return dict(enumerate(counts.tolist()))


def test_a_table_of_the_users_own_is_not_judged() -> None:
    mine = replace(table("camvid11"), name="mine")
    assert _notes_on_table(mine, [0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0]) == []
    changed = replace(table("camvid11"), ignore_rest=True)
    assert _notes_on_table(changed, [0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0]) == []
