"""A label table in the form of this project: a mapping with `classes` and `ignore`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from beam_pipelines.contract.labels import IGNORE, REPAIRS, Color, Label, LabelTable, LabelTableError
from beam_pipelines.contract.schema import shown

_KEYS = ("name", "classes", "ignore", *REPAIRS)
_ROW_KEYS = ("name", "ids", "train_id", "color", "mask_colors", "category")


def table_of_rows(value: Any, name: str) -> LabelTable:
    """The table of a mapping as a label file has it. Raises LabelTableError, which calls the table `name`."""
    where = f"label table {name!r}"
    if not isinstance(value, dict) or not isinstance(value.get("classes"), list):
        raise LabelTableError(f"{where}: expected a mapping with a list `classes`")
    _check_keys(where, value, _KEYS)
    ignore = value.get("ignore", [])
    ignore_rest = ignore == "rest"
    if not (ignore_rest or isinstance(ignore, list)):
        raise LabelTableError(f"{where}: `ignore` must be a list or `rest`, found {shown(ignore)}")
    check_number(len(value["classes"]), where)
    rows = _classes(value["classes"])
    rows += [_ignored(row, index) for index, row in enumerate([] if ignore_rest else ignore)]
    repairs = {key: _repair(value[key], key, where) for key in REPAIRS if key in value}
    return LabelTable(name=str(value.get("name") or name), labels=tuple(rows), ignore_rest=ignore_rest, **repairs)


def _repair(value: Any, key: str, where: str) -> int:
    if type(value) is not int or value == 0:
        raise LabelTableError(f"{where}: `{key}` must be a whole number other than 0, found {shown(value)}")
    return value


def check_number(classes: int, where: str) -> None:
    """Raises LabelTableError if there are more classes than train ids."""
    if classes > IGNORE:
        raise LabelTableError(
            f"{where}: {classes} classes, but at most {IGNORE} are possible, as train id {IGNORE} marks ignored "
            "pixels: merge some, or list them under `ignore`"
        )


def color_of(value: Any, where: str) -> Color | None:
    """Three numbers, #rrggbb, rrggbb or #rgb. Raises LabelTableError."""
    if value is None:
        return None
    digits = str(value) if isinstance(value, (str, int)) else ""
    if re.fullmatch(r"#?[0-9a-fA-F]{6}|#[0-9a-fA-F]{3}", digits):
        digits = digits.removeprefix("#")
        pairs = [digits[at : at + 2] for at in (0, 2, 4)] if len(digits) == 6 else [2 * digit for digit in digits]
        value = [int(pair, 16) for pair in pairs]
    if not isinstance(value, list) or len(value) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in value):
        raise LabelTableError(
            f"{where}: `color` must be three integers of 0 to 255, or hexadecimal as '#804080', found {shown(value)}"
        )
    return value[0], value[1], value[2]


def _classes(listed: Sequence[Any]) -> list[Label]:
    rows = [{"name": row} if isinstance(row, str) else row for row in listed]
    numbered = [index for index, row in enumerate(rows) if isinstance(row, dict) and "name" in row and "ids" not in row]
    if numbered and len(numbered) < len(rows):
        index = numbered[0]
        raise LabelTableError(
            f"class {index} ({rows[index]['name']}): it has no `ids`, and other classes have some: give every class "
            "`ids`, or none, if ids count the classes from 0"
        )
    labels = []
    for index, row in enumerate(rows):
        label = _label(row | {"ids": [index]} if index in numbered else row, index, f"class {index}")
        if label.train_id == IGNORE:
            raise LabelTableError(
                f"class {index} ({label.name}): `train_id` {IGNORE} marks ignored pixels: list the row under "
                "`ignore`, or remove its `train_id`"
            )
        if index in numbered and label.train_id != index:
            raise LabelTableError(f"class {index} ({label.name}): with a `train_id` it needs `ids`, those in masks")
        labels.append(label)
    return labels


def _ignored(row: Any, index: int) -> Label:
    if isinstance(row, int):
        row = {"name": f"ignored {row}", "ids": [row]}
    label = _label(row, IGNORE, f"ignore {index}")
    if label.train_id != IGNORE:
        raise LabelTableError(
            f"ignore {index} ({label.name}): `train_id` is {label.train_id}, but ignored rows have none: list the "
            "row under `classes`, or remove its `train_id`"
        )
    return label


def _label(row: Any, train_id: int, where: str) -> Label:
    if not isinstance(row, dict) or "name" not in row or "ids" not in row:
        raise LabelTableError(f"{where}: expected a mapping with at least `name` and `ids`, found {shown(row)}")
    _check_keys(where, row, _ROW_KEYS)
    ids = [row["ids"]] if type(row["ids"]) is int else row["ids"]
    if not isinstance(ids, list) or not all(type(value) is int for value in ids):
        raise LabelTableError(f"{where}: `ids` must be a list of integers, found {shown(ids)}")
    if type(row.get("train_id", train_id)) is not int:
        raise LabelTableError(f"{where}: `train_id` must be an integer, found {shown(row['train_id'])}")
    if not isinstance(row["name"], str) or not isinstance(row.get("category", ""), str):
        raise LabelTableError(f"{where}: `name` and `category` must be text")
    mask_colors = row.get("mask_colors")
    if mask_colors is not None and (not isinstance(mask_colors, list) or None in mask_colors):
        raise LabelTableError(f"{where}: `mask_colors` must be a list of colors, found {shown(mask_colors)}")
    colors = None if mask_colors is None else tuple(color_of(color, where) for color in mask_colors)
    return Label(
        name=row["name"],
        source_ids=tuple(ids),
        train_id=row.get("train_id", train_id),
        color=color_of(row.get("color"), where) or (colors[0] if colors else None),
        category=row.get("category", row["name"]),
        mask_colors=colors,  # type: ignore[arg-type]  # without None, as checked
    )


def _check_keys(where: str, value: dict[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(value.keys() - set(known))
    if unknown:
        raise LabelTableError(f"{where}: unknown keys {', '.join(map(shown, unknown))}; known: {', '.join(known)}")
