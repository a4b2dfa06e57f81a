from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, UNKNOWN, LabelTable, LabelTableError
from beam_pipelines.files import storage
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.label_files.forms import table_of

STREET = """\
name: street
classes:
  - name: drivable
    ids: [7, 8]
    color: [128, 64, 128]
    category: flat
  - {name: vehicle, ids: [26, 27, 28]}
ignore: [0, 1, 2]
"""


def load(folder: Path, text: str) -> LabelTable:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_labels(str(path))


@pytest.mark.parametrize("name", BUILTIN_TABLES)
def test_a_built_in_table_goes_by_its_name(name: str) -> None:
    assert load_labels(name) == BUILTIN_TABLES[name]()


def test_a_file_names_classes_in_order_and_ids_to_ignore(tmp_path: Path) -> None:
    table = load(tmp_path, STREET)
    drivable, vehicle = table.classes
    assert (table.name, table.num_classes, table.ignore_rest) == ("street", 2, False)
    assert (drivable.name, drivable.source_ids, drivable.train_id) == ("drivable", (7, 8), 0)
    assert (drivable.color, drivable.category) == ((128, 64, 128), "flat")
    assert (vehicle.name, vehicle.source_ids, vehicle.train_id) == ("vehicle", (26, 27, 28), 1)
    assert (vehicle.color, vehicle.category) == (None, "vehicle")
    assert table.train_id_of[[7, 8, 26, 27, 28]].tolist() == [0, 0, 1, 1, 1]
    assert table.train_id_of[[0, 1, 2]].tolist() == [IGNORE] * 3
    assert table.train_id_of[3] == UNKNOWN


def test_a_file_without_a_name_is_called_like_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "classes: [{name: road, ids: [7]}]").name == "mine"


def test_ignore_rest_ignores_every_other_id(tmp_path: Path) -> None:
    table = load(tmp_path, "classes: [{name: road, ids: [7]}]\nignore: rest")
    assert table.ignore_rest
    assert (table.train_id_of[7], table.train_id_of[0], table.train_id_of[65535]) == (0, IGNORE, IGNORE)


def test_ignored_rows_may_have_names_and_colors_for_masks_in_color(tmp_path: Path) -> None:
    table = load(
        tmp_path,
        "classes: [{name: road, ids: [7], color: [1, 2, 3]}]\n"
        "ignore: [{name: void, ids: [0, 4], color: [0, 0, 0], category: void}, 5]",
    )
    assert table.num_classes == 1
    assert table.train_id_of[[0, 4, 5]].tolist() == [IGNORE] * 3
    assert table.source_id_of_color == {(1, 2, 3): 7, (0, 0, 0): 0}


def test_an_explicit_train_id_goes_before_the_order_of_the_rows(tmp_path: Path) -> None:
    table = load(tmp_path, "classes: [{name: car, ids: [26], train_id: 1}, {name: road, ids: [7], train_id: 0}]")
    assert [row.name for row in table.classes] == ["road", "car"]
    assert table.train_id_of[[7, 26]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("classes: [{name: car, ids: [26], train_id: 255}]", "class 0 (car): `train_id` 255 marks ignored pixels"),
        (
            "classes: [{name: car, ids: [26]}]\nignore: [{name: void, ids: [0], train_id: 3}]",
            "ignore 0 (void): `train_id` is 3, but ignored rows have none",
        ),
    ],
)
def test_a_row_is_a_class_or_ignored_and_its_train_id_says_the_same(tmp_path: Path, rows: str, told: str) -> None:
    with pytest.raises(LabelTableError, match=re.escape(told)) as caught:
        load(tmp_path, rows)
    assert "remove its `train_id`" in str(caught.value)


def test_a_built_in_table_may_be_written_as_a_file(tmp_path: Path) -> None:
    camvid = BUILTIN_TABLES["camvid11"]()
    rows: list[dict[str, Any]] = [
        {"name": row.name, "ids": list(row.source_ids), "color": list(row.color or ()), "category": row.category}
        for row in camvid.labels
    ]
    text = yaml.safe_dump({"name": "camvid11", "classes": rows[:-1], "ignore": rows[-1:]})
    assert load(tmp_path, text) == camvid


ROAD = "{name: road, ids: [7]}"
COLOR = "class 0: `color` must be three integers of 0 to 255, or hexadecimal as '#804080', found "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "label table 'mine': expected a mapping with a list `classes`"),
        ("[1]", "label table 'mine': expected a mapping with a list `classes`"),
        ("classes: 5", "label table 'mine': expected a mapping with a list `classes`"),
        (
            f"classes: [{ROAD}]\nignored: [1]\nversion: 2",
            'label table \'mine\': unknown keys "ignored", "version"; known: name, classes, ignore, '
            "nearest_color, shift, threshold",
        ),
        ("classes: [7]", "class 0: expected a mapping with at least `name` and `ids`, found 7"),
        (
            f"classes: [{ROAD}, {{name: car}}]",
            "class 1 (car): it has no `ids`, and other classes have some: give every class `ids`, or none, if ids "
            "count the classes from 0",
        ),
        (
            f"classes: [{ROAD}]\nignore: [{{ids: [1]}}]",
            'ignore 0: expected a mapping with at least `name` and `ids`, found {"ids": [1]}',
        ),
        (
            f"classes: [{ROAD}]\nignore: [0, [1, 2]]",
            "ignore 1: expected a mapping with at least `name` and `ids`, found [1, 2]",
        ),
        (
            f"classes: [{ROAD}]\nignore: others",
            "label table 'mine': `ignore` must be a list or `rest`, found \"others\"",
        ),
        (f"classes: [{ROAD}]\nignore: 0", "label table 'mine': `ignore` must be a list or `rest`, found 0"),
        (
            "classes: [{name: road, ids: [7], colour: [0, 0, 0]}]",
            'class 0: unknown keys "colour"; known: name, ids, train_id, color, mask_colors, category',
        ),
        ("classes: [{name: road, ids: [true]}]", 'class 0: `ids` must be a list of integers, found ["true"]'),
        ("classes: [{name: road, ids: ['7']}]", 'class 0: `ids` must be a list of integers, found ["7"]'),
        (
            "classes: [{name: road, ids: [7], color: [0, 0]}]",
            COLOR + "[0, 0]",
        ),
        (
            "classes: [{name: road, ids: [7], color: [0, 0, 256]}]",
            COLOR + "[0, 0, 256]",
        ),
        (
            "classes: [{name: road, ids: [7], color: '#00000g'}]",
            COLOR + '"#00000g"',
        ),
        ("classes: []", "label table 'mine': it has no classes"),
        (f"classes: [{ROAD}]\nignore: [7]", "label table 'mine': source id 7 is used 2 times"),
        (
            f"classes: [{ROAD}, {{name: car, ids: [26], train_id: 5}}]",
            "label table 'mine': train ids must be 0 to 1 without gaps or repeats, found [0, 5]",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_reason(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(LabelTableError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == f"--labels={tmp_path / 'mine.yaml'}: {problem}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"classes: [", "line 1: expected the node content, but found the end of the file"),
        (b"classes:\n- name: road\n\tids: [7]", "line 3: a tab: indent with spaces, not with tabs"),
        (b"classes:\n- \x00", "line 2: the control character 0x00 is not allowed"),
        (
            "classes: []".encode("utf-16-le"),
            "line 1: the control character 0x00 is not allowed: save the file as UTF-8",
        ),
        (
            b"classes:\n- name: a\n  ids: [1]\n  color: #804080",
            "line 4: `color` is empty: put a color that begins with #",
        ),
        (b'classes: ["\\ud800"]', "line 1: half a character"),
        (b"classes:\n" + b"[" * 100_000, "line 2: could not find expected ':'"),
        (b"classes: " + b"[" * 30 + b"]" * 30, "line 1: lists and mappings are nested more than 20 deep"),
        (b"classes:\n- name: a\n  ids: [1]\n  ids: [2]", "line 4: the key 'ids' is repeated"),
        (b"classes: []\nclasses: []", "line 2: the key 'classes' is repeated"),
        (b"a: &a [x]\nb: [*a, *a]", "line 2: *a is an alias"),
        (b"classes: !!python/object:os.system {}", "line 1: tag:yaml.org,2002:python/object:os.system is a tag"),
        (b"? [a]\n: b", "line 1: a mapping or list can't be a key"),
        (b"classes: []\n---\nclasses: []", "line 2: a second document begins here"),
    ],
)
def test_what_is_no_table_is_told_with_the_line(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(LabelTableError) as caught:
        load_labels(str(path))
    assert str(caught.value).startswith(f"--labels={path}, {problem}")
    assert str(caught.value).endswith("; beam_pipelines/README.md has an example")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("classes: []".encode("utf-16"), ", line 1: the file is UTF-16: save it as UTF-8"),
        (b"\n\x89PNG\r\n", ", line 2: the file is not UTF-8 text: save it as UTF-8"),
        (b"#" * 1_000_001, " has more than 1,000,000 bytes: check that it is the right file"),
    ],
)
def test_what_is_no_small_text_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(LabelTableError) as caught:
        load_labels(str(path))
    assert str(caught.value) == f"--labels={path}{problem}"


@pytest.mark.parametrize("after", ["", " ", " ~", "\n\n# nothing"])
def test_a_color_may_be_empty(tmp_path: Path, after: str) -> None:
    assert load(tmp_path, f"classes:\n- name: a\n  ids: [1]\n  color:{after}\n").classes[0].color is None
    assert load(tmp_path, "classes: [{name: a, ids: [1], color: }]  # 804080").classes[0].color is None


@pytest.mark.parametrize("name", ["no", "on", "007", "12:30", "1e3", "null", "~", "0x10", "2001-01-01", "yes", ".5"])
def test_names_are_the_text_that_stands_there(tmp_path: Path, name: str) -> None:
    row = load(tmp_path, f"classes:\n- name: {name}\n  ids: [7]\n  category: {name}").classes[0]
    assert (row.name, row.category) == (name, name)


@pytest.mark.parametrize("number", ["010", "0x7", "1_0", "12:30", "7.0", "yes"])
def test_ids_are_whole_decimal_numbers(tmp_path: Path, number: str) -> None:
    with pytest.raises(LabelTableError, match="`ids` must be a list of integers"):
        load(tmp_path, f"classes: [{{name: road, ids: [{number}]}}]")


def test_spaces_around_the_numbers_of_a_list_are_none_of_them() -> None:
    """Also those that only str.strip takes for spaces."""
    table = table_of("name,r,g,b\nroad,128\x1f, 64 ,128\u2003\n", "mine", ".csv")
    assert table.classes[0].color == (128, 64, 128)


@pytest.mark.parametrize("train_id", ["zero", "1.0", "true"])
def test_a_train_id_is_an_integer(tmp_path: Path, train_id: str) -> None:
    with pytest.raises(LabelTableError, match="`train_id` must be an integer"):
        load(tmp_path, f"classes: [{{name: road, ids: [7], train_id: {train_id}}}]")


def test_255_classes_are_the_most(tmp_path: Path) -> None:
    rows = "".join(f"- {{name: c{index}, ids: [{index}]}}\n" for index in range(256))
    with pytest.raises(LabelTableError, match="256 classes, but at most 255 are possible"):
        load(tmp_path, "classes:\n" + rows)
    assert load(tmp_path, "classes:\n" + rows.rpartition("- ")[0]).num_classes == 255


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"--labels=.* can't be read: Is a directory; check the path"):
        load_labels(str(tmp_path))


def test_a_name_that_is_neither_a_table_nor_a_file_is_refused_with_the_names() -> None:
    with pytest.raises(LabelTableError) as caught:
        load_labels("cityscapes20")
    assert str(caught.value) == f"--labels=cityscapes20 is neither a file nor one of {', '.join(BUILTIN_TABLES)}"


# Label files as others write them.

RGB = ((128, 64, 128), (0, 0, 142))
FORMS = {
    "text.yaml": "classes: [road, car]",
    "hex.yaml": "classes: [{name: road, ids: 0, color: '#804080'}, {name: car, ids: 1, color: 00008e}]",
    "digits.yaml": "classes: [{name: road, color: 804080}, {name: car, color: '#00008E'}]",
    "list.yaml": "- road\n- car\n",
    "list.json": '["road",\n\t"car"]',
    "data.yaml": "path: ../data\ntrain: images/train\nnc: 2\nnames: [road, car]",
    "mapping.yaml": "names:\n  0: road\n  1: car\n",
    "class_dict.csv": "name,r,g,b\nroad,128,64,128\ncar,0,0,142\n",
    "order.csv": "\ufeffB; G ;R;Name\r\n128;64;128;road\r\n142; 0;0;car\r\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0,0,142::\n",
    "class_list.json": '{"#804080": "road", "#00008e": "car"}',
    "config_v1.2.json": '{"labels": [{"name": "flat--road", "readable": "road", "color": [128, 64, 128], '
    '"evaluate": true}, {"name": "vehicle--car", "readable": "car", "color": [0, 0, 142], "evaluate": true}],'
    '\n\t"folder_structure": "x", "version": 1.2}',
}


@pytest.mark.parametrize("file", FORMS)
def test_label_files_of_others_are_read(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text(FORMS[file], encoding="utf-8", newline="")
    table = load_labels(str(tmp_path / file))
    assert [(row.name, row.source_ids, row.train_id) for row in table.labels] == [("road", (0,), 0), ("car", (1,), 1)]
    colors = tuple(row.color for row in table.classes)
    assert colors == (RGB if "128" in FORMS[file] or "8040" in FORMS[file] else (None, None))
    assert table.name == file.rpartition(".")[0]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.yaml", "a"])
@pytest.mark.parametrize("file", FORMS)
def test_the_form_is_that_of_the_content(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / name).write_text(FORMS[file], encoding="utf-8", newline="")
    table = load_labels(str(tmp_path / name))
    assert [(row.name, row.source_ids) for row in table.classes] == [("road", (0,)), ("car", (1,))]


def test_a_table_of_this_project_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "street.txt").write_text(f"# of mine\n{STREET}")
    assert load_labels(str(tmp_path / "street.txt")).num_classes == 2


def test_the_config_of_mapillary_is_the_built_in_table(tmp_path: Path) -> None:
    known = BUILTIN_TABLES["mapillary65"]()
    rows = [
        {
            "name": f"{row.category}--{row.name}",
            "readable": row.name,
            "color": row.color,
            "evaluate": row.train_id != IGNORE,
        }
        for row in known.labels
    ]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"labels": rows}, indent="\t"))
    assert replace(load_labels(str(path)), name=known.name) == known


def test_a_color_that_two_labels_of_mapillary_share_is_read_as_neither(tmp_path: Path) -> None:
    rows = [{"name": f"a--{n}", "readable": "same", "color": [9, 9, n // 2], "evaluate": True} for n in range(4)]
    path = tmp_path / "config_v2.0.json"
    path.write_text(json.dumps({"labels": rows[:3]}))
    table = load_labels(str(path))
    assert [(row.name, row.color) for row in table.classes] == [
        ("a--0", (9, 9, 0)),
        ("a--1", (9, 9, 0)),
        ("a--2", (9, 9, 1)),
    ]
    assert table.source_id_of_color == {(9, 9, 1): 2}


def test_the_class_list_of_a2d2_is_the_built_in_table(tmp_path: Path) -> None:
    known = BUILTIN_TABLES["a2d2"]()
    listed = {}
    for row in known.classes:
        for number, color in enumerate(row.colors_in_masks, start=1):
            several = len(row.colors_in_masks) > 1
            listed["#" + bytes(color).hex()] = f"{row.name} {number}" if several else row.name
    path = tmp_path / "class_list.json"
    path.write_text(json.dumps(listed))
    assert len(listed) == 55
    assert replace(load_labels(str(path)), name="a2d2") == known


def test_a_class_may_have_several_colors_in_masks(tmp_path: Path) -> None:
    table = load(tmp_path, "classes: [{name: car, color: '#00f', mask_colors: ['#ff0000', [0, 255, 0]]}]")
    assert table.classes[0].color == (0, 0, 255)
    assert table.source_id_of_color == {(255, 0, 0): 0, (0, 255, 0): 0}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("a.csv", "id,label\n0,road", 'line 1: the first line must be name,r,g,b in any order, found "id,label"'),
        ("a.csv", "name,r,g,b\nroad,1,2", "line 2: 3 values for the 4 columns name,r,g,b"),
        ("a.csv", "name,r,g,b\nroad,1,2,256", 'line 2: a color is three whole numbers of 0 to 255, found "1, 2, 256"'),
        ("a.csv", "", "the first line must be name,r,g,b"),
        ("a.csv", 'name,r,g,b\n"road,1,2,3', "unexpected end of data"),
        ("a.txt", "0 0.5 0.5", 'line 1: expected label:red,green,blue:parts:actions, found "0 0.5 0.5"; label files'),
        ("a.txt", "\n# nothing", "there is no class in it; label files are"),
        ("a.yaml", "names: [a, b]\nnc: 3", "`nc` is 3, and `names` has 2 names"),
        ("a.yaml", "names: {a: 0}", '`names` has the key "a": keys are ids, such as 0'),
        ("a.yaml", "names: [[a]]", "`names` must be a list of names"),
        ("a.json", '{"#ff0000": ["a"]}', '#ff0000 must have the name of a class, found ["a"]'),
        ("a.json", '{"labels": [{"name": "a"}]}', "label 0 (a): it has no `color`"),
        ("a.json", '{"labels": [7]}', "label 0: expected a mapping with `name` and `color`, found 7"),
        ("a.yaml", "classes: [{name: a, train_id: 1}, b]", "class 0 (a): with a `train_id` it needs `ids`"),
        ("a.yaml", "classes: [{name: plate, ids: -1}]", "-1 marks what no mask shows"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_told_what_is_read(tmp_path: Path, file: str, text: str, told: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(LabelTableError, match=re.escape(told)):
        load_labels(str(tmp_path / file))


def test_a_label_file_may_be_a_member_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("set/config.yaml", STREET)
        archive.writestr("set/long.yaml", "#" * 1_000_001)
    assert load_labels(f"{tmp_path}/data.zip!/set/config.yaml").num_classes == 2
    with pytest.raises(LabelTableError, match=r"^its config has more than 1,000,000 bytes"):
        load_labels(f"{tmp_path}/data.zip!/set/long.yaml", called="its config")
    for name in ("data.zip!/none.yaml", "none.zip!/a.yaml"):
        with pytest.raises(LabelTableError, match="--labels="):
            load_labels(f"{tmp_path}/{name}")


def test_a_label_file_may_be_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    place = f"{bucket}/{tmp_path.name}/street.yaml"
    storage.write(place, STREET.encode())
    assert load_labels(place).name == "street"
    with pytest.raises(LabelTableError, match=r"--labels=gs://[^:]*none\.yaml can't be read: the object "):
        load_labels(place.replace("street.yaml", "none.yaml"))
