"""Label tables by name, or from a YAML file of the user's."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable, LabelTableError


def load_labels(name: str) -> LabelTable:
    """A built-in table by its name, or the user's from a YAML file. Raises LabelTableError."""
    if name in BUILTIN_TABLES:
        return BUILTIN_TABLES[name]()
    if not os.path.exists(name):
        raise LabelTableError(f"--labels={name} is neither a file nor one of {', '.join(BUILTIN_TABLES)}")
    if not os.path.isfile(name):
        raise LabelTableError(f"--labels={name} is a folder, a pipe or a device: name a regular YAML file")
    import yaml

    try:
        with open(name, encoding="utf-8") as file:
            value = yaml.safe_load(file)
        return _labels_from_yaml(value, os.path.splitext(os.path.basename(name))[0])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, LabelTableError):
            raise
        raise LabelTableError(f"--labels={name}: {error!r}; the README shows what such a file looks like") from error


def _labels_from_yaml(value: Any, name: str) -> LabelTable:
    if not isinstance(value, dict) or not isinstance(value.get("classes"), list):
        raise LabelTableError(f"label table {name!r}: a mapping with a list `classes` was expected")
    unknown = value.keys() - {"name", "classes", "ignore"}
    if unknown:
        raise LabelTableError(f"label table {name!r}: unknown keys {sorted(unknown)}; known: name, classes, ignore")
    ignore = value.get("ignore", [])
    ignore_rest = ignore == "rest"
    if not (ignore_rest or isinstance(ignore, list)):
        raise LabelTableError(f"label table {name!r}: `ignore` must be a list or `rest`, found {ignore!r}")
    rows = [_label(row, index, f"class {index}") for index, row in enumerate(value["classes"])]
    for index, row in enumerate([] if ignore_rest else ignore):
        if isinstance(row, int):
            row = {"name": f"ignored {row}", "ids": [row]}
        rows.append(replace(_label(row, IGNORE, f"ignore {index}"), train_id=IGNORE))
    return LabelTable(name=value.get("name", name), labels=tuple(rows), ignore_rest=ignore_rest)


def _label(row: Any, train_id: int, where: str) -> Label:
    if not isinstance(row, dict) or "name" not in row or "ids" not in row:
        raise LabelTableError(f"{where}: a mapping with at least `name` and `ids` was expected, found {row!r}")
    unknown = row.keys() - {"name", "ids", "train_id", "color", "category"}
    if unknown:
        raise LabelTableError(f"{where}: unknown keys {sorted(unknown)}; known: name, ids, train_id, color, category")
    ids, color = row["ids"], row.get("color")
    if not isinstance(ids, list) or not all(type(value) is int for value in ids):
        raise LabelTableError(f"{where}: `ids` must be a list of integers, found {ids!r}")
    if color is not None and not (len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)):
        raise LabelTableError(f"{where}: `color` must be three integers of 0 to 255, found {color!r}")
    return Label(
        name=str(row["name"]),
        source_ids=tuple(ids),
        train_id=row.get("train_id", train_id),
        color=None if color is None else tuple(color),
        category=str(row.get("category", row["name"])),
    )
