"""A label table: the ids that a mask may hold, and the train id of each.

A table is the only place for the name, ids, color and category of a class; lookup tables, palettes and legends are
derived from it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from beam_pipelines.contract import schema
from beam_pipelines.contract.errors import UserError

IGNORE = 255  # the train id of pixels that neither the loss nor a score counts
UNKNOWN = -1  # in `LabelTable.train_id_of`: an id that the table does not name
MAX_SOURCE_ID = 65535  # a mask is at most 16 bits deep
Color = tuple[int, int, int]
REPAIRS = ("nearest_color", "shift", "threshold")  # fields of a table, see there
MAX_COLOR_DISTANCE = 441  # from black to white
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Color = tuple[_Byte, _Byte, _Byte]


class LabelTableError(UserError, ValueError):
    """A label table that can't be used; the message lists every problem found."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One row: the source ids that become `train_id`, or `IGNORE`.

    `color` is what the class is shown in. Masks in colors have it too, unless `mask_colors` names those that they have:
    several if instances or source classes differ in color, none if other classes have the same.
    """

    name: str
    source_ids: tuple[int, ...]
    train_id: int
    color: Color | None
    category: str
    mask_colors: tuple[Color, ...] | None = None

    @property
    def colors_in_masks(self) -> tuple[Color, ...]:
        if self.mask_colors is not None:
            return self.mask_colors
        return () if self.color is None else (self.color,)

    def to_json(self) -> dict[str, Any]:
        value = {
            "name": self.name,
            "source_ids": list(self.source_ids),
            "train_id": self.train_id,
            "color": None if self.color is None else list(self.color),
            "category": self.category,
        }
        return value if self.mask_colors is None else value | {"mask_colors": list(map(list, self.mask_colors))}


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A validated table. `ignore_rest` makes ids that no row names `IGNORE` instead of an error.

    Attributes (repairs of masks; 0: none):
      nearest_color: a color up to this distance, Euclidean in RGB, is read as the nearest color of the table;
        as one of an ignored row if two classes are as near.
      shift: is added to every id in masks; what becomes -1 is read as 255.
      threshold: gray levels, of 8 bits, below it are the id 0, the others 1.

    Raises:
      LabelTableError: train ids are not 0..n-1, or a name, source id or class color occurs twice.
    """

    name: str
    labels: tuple[Label, ...]
    ignore_rest: bool = False
    nearest_color: int = 0
    shift: int = 0
    threshold: int = 0

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise LabelTableError(f"label table {self.name!r}: " + "; ".join(problems))

    @functools.cached_property
    def classes(self) -> tuple[Label, ...]:
        """The rows of classes, by train id."""
        return tuple(sorted((row for row in self.labels if row.train_id != IGNORE), key=lambda row: row.train_id))

    @functools.cached_property
    def source_ids(self) -> frozenset[int]:
        """The ids that the rows have."""
        return frozenset(source_id for row in self.labels for source_id in row.source_ids)

    def names(self, source_id: int) -> bool:
        """Whether a row has this id."""
        return source_id in self.source_ids

    @property
    def repairs(self) -> dict[str, int]:
        """The repairs of masks that are set."""
        return {name: value for name in REPAIRS if (value := getattr(self, name))}

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
    def source_id_of_color(self) -> dict[Color, int]:
        """RGB -> a source id. If a class and an ignored row share a color, it belongs to the class."""
        rows = sorted(self.labels, key=lambda row: row.train_id == IGNORE, reverse=True)
        return {color: row.source_ids[0] for row in rows if row.source_ids for color in row.colors_in_masks}

    @functools.cached_property
    def palette(self) -> np.ndarray:
        """uint8[256, 3]: train id -> RGB; black for ids without a class or a color."""
        palette = np.zeros((256, 3), np.uint8)
        for row in self.classes:
            palette[row.train_id] = row.color or (0, 0, 0)
        return palette

    def to_json(self) -> dict[str, Any]:
        rows = [row.to_json() for row in self.labels]
        return {"name": self.name, "ignore_rest": self.ignore_rest, "labels": rows} | self.repairs

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
        repairs = {name: getattr(fields, name) for name in REPAIRS}
        return cls(name=fields.name, labels=rows, ignore_rest=fields.ignore_rest, **repairs)


class LabelFields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A row as JSON holds it."""

    name: str
    source_ids: tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_SOURCE_ID)], ...]
    train_id: _Byte
    color: _Color | None
    category: str
    mask_colors: tuple[_Color, ...] | None = None


class TableFields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table as JSON holds it."""

    name: str
    ignore_rest: bool
    labels: tuple[LabelFields, ...]
    nearest_color: int = 0
    shift: int = 0
    threshold: int = 0


_MINUS_ONE = (
    "; -1 marks what no mask shows, such as the license plate of Cityscapes: drop the row. If masks hold it, it is 255 "
    "in 8 bits and 65535 in 16 bits: list these"
)


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
        found.append(f"source ids outside 0 to {MAX_SOURCE_ID}: {outside}{_MINUS_ONE if -1 in outside else ''}")
    for what, values in (
        ("source id", source_ids),
        ("name", [row.name for row in table.labels]),
        ("class color", [color for row in classes for color in row.colors_in_masks]),
    ):
        found += [f"{what} {value!r} is used {times} times" for value, times in Counter(values).items() if times > 1]
    return [*found, *_problems_of_repairs(table)]


def _problems_of_repairs(table: LabelTable) -> Iterator[str]:
    if not 0 <= table.nearest_color <= MAX_COLOR_DISTANCE:
        yield f"`nearest_color` is a distance of 1 to {MAX_COLOR_DISTANCE}, found {table.nearest_color}"
    elif table.nearest_color and not any(row.colors_in_masks for row in table.labels):
        yield "`nearest_color` needs a table with colors"
    if abs(table.shift) > MAX_SOURCE_ID:
        yield f"`shift` is at most {MAX_SOURCE_ID}, found {table.shift}"
    elif table.shift < 0 and any(IGNORE in row.source_ids for row in table.labels if row.train_id != IGNORE):
        yield f"`shift` below 0 makes {IGNORE} of ids that become -1, and {IGNORE} is a class"
    if not 0 <= table.threshold <= 255:
        yield f"`threshold` is a gray level of 1 to 255, found {table.threshold}"
    elif table.threshold and table.shift:
        yield "`threshold` gives the ids 0 and 1: remove `shift`"
    elif table.threshold and not {0, 1} <= table.source_ids:
        yield "`threshold` gives the ids 0 and 1, and the table does not name both"
