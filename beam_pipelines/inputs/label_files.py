"""Loads label tables, built-in or from a user's YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable, LabelTableError
from beam_pipelines.files.refusals import cannot_read

_README = "beam_pipelines/README.md has an example"
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 20
_TEXT_KEYS = ("name", "category")


def load_labels(name: str) -> LabelTable:
    """The built-in table called `name`, or the table in the YAML file `name`. Raises LabelTableError."""
    if name in BUILTIN_TABLES:
        return BUILTIN_TABLES[name]()
    if not os.path.exists(name):
        raise LabelTableError(f"--labels={name} is neither a file nor one of {', '.join(BUILTIN_TABLES)}")
    if not os.path.isfile(name):
        raise LabelTableError(f"--labels={name} is a folder, a pipe or a device: name a regular YAML file")
    try:
        value = read_table(name)
        return _labels_from_yaml(value, os.path.splitext(os.path.basename(name))[0])
    except OSError as error:
        raise LabelTableError(str(cannot_read(f"--labels={name}", error))) from error
    except _FileError as error:
        line = f", line {error.line}" if error.line else ""
        raise LabelTableError(f"--labels={name}{line}: {error.problem}; {_README}") from error


class _FileError(Exception):
    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem


def read_table(path: str) -> Any:
    """The mappings, lists and scalars of a YAML file. Names remain text (`no`, `007`, `12:30`), and only whole decimal
    numbers become integers. Raises OSError, or _FileError with the line.
    """
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise _FileError(0, f"the file has more than {_MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _FileError(
            data.count(b"\n", 0, error.start) + 1, "the file is not UTF-8 text: save it as UTF-8"
        ) from error
    odd = next((place for place, letter in enumerate(text) if letter < " " and letter not in "\t\r\n"), None)
    if odd is not None:
        raise _FileError(text.count("\n", 0, odd) + 1, f"the control character {ord(text[odd]):#04x} is not allowed")
    return _parse(text)


def _parse(text: str) -> Any:
    """The single document of a YAML text, built from its events, so that nothing is resolved or expanded."""
    import yaml

    try:
        events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        root: list[Any] = []
        stack: list[_Collection] = [_Collection(root, None)]
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise _FileError(line, f"*{event.anchor} is an alias: write out its value")
            if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
                raise _FileError(line, f"{event.tag} is a tag: remove it")
            if isinstance(event, yaml.ScalarEvent):
                stack[-1].add(_scalar(event, stack[-1].key), line)
            elif isinstance(event, yaml.CollectionStartEvent):
                made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                key = stack[-1].key if isinstance(made, list) else None
                stack[-1].add(made, line)
                stack.append(_Collection(made, key))
                if len(stack) > _MAX_DEPTH:
                    raise _FileError(line, f"lists and mappings are nested more than {_MAX_DEPTH} deep")
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.DocumentStartEvent) and root:
                raise _FileError(line, "a second document begins here: a file holds one table")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tab = " (indent with spaces, not with tabs)" if "\\t" in str(error.problem) else ""
        raise _FileError(mark.line + 1 if mark else 0, f"{error.problem}{tab}") from error
    except yaml.YAMLError as error:
        raise _FileError(0, str(error).splitlines()[0]) from error
    return root[0] if root else None


class _Collection:
    """A mapping or list that is being filled; `key` is the mapping's key of the next value."""

    def __init__(self, made: Any, key: str | None) -> None:
        self._made, self.key = made, key

    def add(self, value: Any, line: int) -> None:
        if isinstance(self._made, list):
            self._made.append(value)
        elif self.key is None:
            if isinstance(value, (dict, list)):
                raise _FileError(line, "a mapping or list can't be a key")
            if str(value) in self._made:
                raise _FileError(line, f"the key {str(value)!r} is repeated")
            self.key = str(value)
        else:
            self._made[self.key] = value
            self.key = None


def _scalar(event: Any, key: str | None) -> Any:
    """Text if it is quoted, a key or a name; otherwise whole numbers become integers, and an empty value None."""
    text: str = event.value
    plain = event.implicit[0] and not event.style and key is not None and key not in _TEXT_KEYS
    if plain and re.fullmatch(r"-?(0|[1-9][0-9]*)", text):
        return int(text) if len(text) < 20 else text
    return None if plain and text in ("", "~", "null") else text


def _labels_from_yaml(value: Any, name: str) -> LabelTable:
    if not isinstance(value, dict) or not isinstance(value.get("classes"), list):
        raise LabelTableError(f"label table {name!r}: expected a mapping with a list `classes`")
    unknown = value.keys() - {"name", "classes", "ignore"}
    if unknown:
        raise LabelTableError(f"label table {name!r}: unknown keys {sorted(unknown)}; known: name, classes, ignore")
    ignore = value.get("ignore", [])
    ignore_rest = ignore == "rest"
    if not (ignore_rest or isinstance(ignore, list)):
        raise LabelTableError(f"label table {name!r}: `ignore` must be a list or `rest`, found {ignore!r}")
    if len(value["classes"]) > IGNORE:
        raise LabelTableError(
            f"label table {name!r}: {len(value['classes'])} classes, but at most {IGNORE} are possible, as train id "
            f"{IGNORE} marks ignored pixels: merge some, or list them under `ignore`"
        )
    rows = [_label(row, index, f"class {index}") for index, row in enumerate(value["classes"])]
    for index, label in enumerate(rows):
        if label.train_id == IGNORE:
            raise LabelTableError(
                f"class {index} ({label.name}): `train_id` {IGNORE} marks ignored pixels: list the row under "
                "`ignore`, or remove its `train_id`"
            )
    for index, row in enumerate([] if ignore_rest else ignore):
        if isinstance(row, int):
            row = {"name": f"ignored {row}", "ids": [row]}
        label = _label(row, IGNORE, f"ignore {index}")
        if label.train_id != IGNORE:
            raise LabelTableError(
                f"ignore {index} ({label.name}): `train_id` is {label.train_id}, but ignored rows have none: list the "
                "row under `classes`, or remove its `train_id`"
            )
        rows.append(label)
    return LabelTable(name=str(value.get("name") or name), labels=tuple(rows), ignore_rest=ignore_rest)


def _label(row: Any, train_id: int, where: str) -> Label:
    if not isinstance(row, dict) or "name" not in row or "ids" not in row:
        raise LabelTableError(f"{where}: expected a mapping with at least `name` and `ids`, found {row!r}")
    unknown = row.keys() - {"name", "ids", "train_id", "color", "category"}
    if unknown:
        raise LabelTableError(f"{where}: unknown keys {sorted(unknown)}; known: name, ids, train_id, color, category")
    ids, color = row["ids"], row.get("color")
    if not isinstance(ids, list) or not all(type(value) is int for value in ids):
        raise LabelTableError(f"{where}: `ids` must be a list of integers, found {ids!r}")
    if color is not None and not _is_color(color):
        raise LabelTableError(f"{where}: `color` must be three integers of 0 to 255, found {color!r}")
    if type(row.get("train_id", train_id)) is not int:
        raise LabelTableError(f"{where}: `train_id` must be an integer, found {row['train_id']!r}")
    if not isinstance(row["name"], str) or not isinstance(row.get("category", ""), str):
        raise LabelTableError(f"{where}: `name` and `category` must be text")
    return Label(
        name=row["name"],
        source_ids=tuple(ids),
        train_id=row.get("train_id", train_id),
        color=None if color is None else tuple(color),
        category=row.get("category", row["name"]),
    )


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
