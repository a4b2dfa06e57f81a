"""The forms of label files that other tools write.

Sources: Ultralytics' data set YAML (`names`); `class_dict.csv` as on Kaggle; CVAT's "Segmentation mask" and datumaro,
`labelmap.txt`; Mapillary Vistas, `config_v1.2.json` and `config_v2.0.json`; A2D2, `class_list.json`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from typing import Any

from beam_pipelines.contract.labels import LabelTable, LabelTableError
from beam_pipelines.contract.labels.sources import Source, grouped, own_classes
from beam_pipelines.contract.schema import shown
from beam_pipelines.inputs.label_files.errors import FORMS, FileError
from beam_pipelines.inputs.label_files.rows import check_number, color_of, table_of_rows
from beam_pipelines.inputs.label_files.yaml_text import parse

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_YAML_KEY = re.compile(r"""["']?(classes|names|labels)["']?\s*:(\s|$)""")
_LABELMAP = re.compile(r"[^:]+:\s*[0-9]+\s*,\s*[0-9]+\s*,\s*[0-9]+\s*(:[^:]*){0,2}")  # a line of it
_NUMBERED = re.compile(r"(.*\S) [0-9]+")
_CHANNELS = {"r": 0, "g": 1, "b": 2, "red": 0, "green": 1, "blue": 2}


def table_of(text: str, name: str, extension: str) -> LabelTable:
    """The table in `text`, called `name` if it does not say a name. The `extension` decides only what the mistakes are
    of a text that has no form. Raises LabelTableError or FileError.
    """
    lines = [line.strip() for line in text.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    no_yaml = not (first.startswith(("-", "[", "{")) or any(map(_YAML_KEY.match, text.splitlines())))
    if _LABELMAP.fullmatch(first) or (extension == ".txt" and no_yaml and not _is_header(first)):
        return _labelmap(text, name)
    if _is_header(first) or (extension == ".csv" and no_yaml):
        return _class_dict(text, name)
    return _table_of_value(parse(text.replace("\t", " ") if first.startswith(("[", "{")) else text), name)


def _table_of_value(value: Any, name: str) -> LabelTable:
    if isinstance(value, list) and value and all(isinstance(each, str) and not each.isdecimal() for each in value):
        return table_of_rows({"classes": value}, name)
    if isinstance(value, dict) and "classes" not in value:
        if isinstance(value.get("names"), (list, dict)):
            return _ultralytics(value, name)
        if isinstance(value.get("labels"), list):
            return _mapillary(value["labels"], name)
        if value and all(map(_HEX.fullmatch, value)):
            return _a2d2(value, name)
    return table_of_rows(value, name)


def _ultralytics(value: dict[str, Any], name: str) -> LabelTable:
    """`names`: a list, or a mapping from ids; other keys are about files. `nc` is the number of classes."""
    names = value["names"]
    pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names))
    wrong = next((key for key, _ in pairs if not re.fullmatch("[0-9]{1,5}", str(key))), None)
    if wrong is not None:
        raise LabelTableError(f"label table {name!r}: `names` has the key {shown(wrong)}: keys are ids, such as 0")
    if any(isinstance(each, (dict, list)) or each is None for _, each in pairs):
        raise LabelTableError(f"label table {name!r}: `names` must be a list of names, or a mapping from ids to names")
    if value.get("nc", len(pairs)) != len(pairs):
        raise LabelTableError(
            f"label table {name!r}: `nc` is {shown(value['nc'])}, and `names` has {len(pairs)} names: correct one"
        )
    rows = sorted((int(key), str(each)) for key, each in pairs)
    return table_of_rows({"classes": [{"name": each, "ids": [index]} for index, each in rows]}, name)


def _mapillary(labels: list[Any], name: str) -> LabelTable:
    """The id is the index in the list; what is not evaluated is ignored."""
    where = f"label table {name!r}"
    rows: list[Source] = []
    ignored: list[Source] = []
    categories = {}
    shown_names = Counter(str(row.get("readable")) for row in labels if isinstance(row, dict))
    for index, row in enumerate(labels):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise LabelTableError(
                f"{where}: label {index}: expected a mapping with `name` and `color`, found {shown(row)}"
            )
        color = color_of(row.get("color"), f"{where}: label {index}")
        if color is None:
            raise LabelTableError(f"{where}: label {index} ({row['name']}): it has no `color`")
        unique = isinstance(row.get("readable"), str) and shown_names[row["readable"]] == 1
        source = Source(row["readable"] if unique else row["name"], index, color)
        categories[source.name] = row["name"].partition("--")[0]
        (rows if row.get("evaluate", "true") == "true" else ignored).append(source)
    check_number(len(rows), where)
    return grouped(name, own_classes(rows, categories), {source.name: [source] for source in rows}, ignored)


def _a2d2(value: dict[str, Any], name: str) -> LabelTable:
    """#rrggbb -> a class. Numbered instances, such as Car 1 and Car 2, are one class with several colors."""
    where = f"label table {name!r}"
    found = {color: _NUMBERED.fullmatch(str(label)) for color, label in value.items()}
    times = Counter(match[1] for match in found.values() if match)
    members: dict[str, list[Source]] = {}
    for color, label in value.items():
        match, rgb = found[color], color_of(color, where)
        if not isinstance(label, (str, int)) or rgb is None:
            raise LabelTableError(f"{where}: {color} must have the name of a class, found {shown(label)}")
        title = match[1] if match and times[match[1]] > 1 else str(label)
        same = members.setdefault(title, [])
        same.append(Source(title, same[0].source_id if same else len(members) - 1, rgb))
    check_number(len(members), where)
    return grouped(name, own_classes([each[0] for each in members.values()], {}), members, [])


def _class_dict(text: str, name: str) -> LabelTable:
    """A header with name, r, g and b in any order; ids count the lines from 0."""
    lines = text.splitlines()
    head = next((line for line in lines if line.strip()), "")
    table = csv.reader(lines, delimiter=_separator(head), strict=True)
    try:
        rows = [(table.line_num, [cell.strip() for cell in row]) for row in table if any(map(str.strip, row))]
    except csv.Error as error:
        raise FileError(table.line_num, str(error)) from error
    columns = [column.lower() for column in rows[0][1]] if rows else []
    if not _are_columns(columns):
        found = shown(",".join(columns))
        raise FileError(
            rows[0][0] if rows else 0, f"the first line must be name,r,g,b in any order, found {found}; {FORMS}"
        )
    classes = []
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise FileError(line, f"{len(row)} values for the {len(columns)} columns {','.join(columns)}")
        values = dict(zip(columns, row, strict=True))
        color = sorted((_CHANNELS[column], values[column]) for column in columns if column != "name")
        classes.append({"name": values["name"], "color": _numbers([each for _, each in color], line)})
    return table_of_rows({"classes": classes}, name)


def _separator(head: str) -> str:
    return max(",;\t", key=head.count)


def _is_header(line: str) -> bool:
    """Whether the line names the columns of a class_dict.csv."""
    return _are_columns([column.strip(' "').lower() for column in line.split(_separator(line))])


def _are_columns(columns: list[str]) -> bool:
    channels = sorted(_CHANNELS.get(column, -1) for column in columns if column != "name")
    return columns.count("name") == 1 and channels == [0, 1, 2]


def _labelmap(text: str, name: str) -> LabelTable:
    """A line label:color_rgb:parts:actions for each class; ids count these lines from 0."""
    classes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        label, *rest = line.strip().split(":")
        if not label or not 1 <= len(rest) <= 3 or rest[0].count(",") != 2:
            raise FileError(number, f"expected label:red,green,blue:parts:actions, found {shown(line)}; {FORMS}")
        classes.append({"name": label, "color": _numbers(rest[0].split(","), number)})
    if not classes:
        raise FileError(0, f"there is no class in it; {FORMS}")
    return table_of_rows({"classes": classes}, name)


def _numbers(texts: list[str], line: int) -> list[int]:
    numbers = [text.strip() for text in texts]
    if not all(re.fullmatch("[0-9]{1,3}", number) and int(number) <= 255 for number in numbers):
        raise FileError(line, f"a color is three whole numbers of 0 to 255, found {shown(', '.join(texts))}")
    return [int(number) for number in numbers]
