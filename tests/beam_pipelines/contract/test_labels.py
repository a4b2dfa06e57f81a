from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.contract.labels import (
    BUILTIN_TABLES,
    IGNORE,
    UNKNOWN,
    Color,
    Label,
    LabelTable,
    LabelTableError,
)

# cityscapesScripts, helpers/labels.py: the classes of the benchmark, by train id.
BENCHMARK = (
    "road sidewalk building wall fence pole|traffic light|traffic sign|vegetation terrain sky person rider car truck "
    "bus train motorcycle bicycle"
)
BENCHMARK_NAMES = [name for part in BENCHMARK.split("|") for name in ([part] if "traffic" in part else part.split())]
SKY, LARGE_VEHICLES = "sky / fallback background", "caravan / trailer / train / vehicle fallback"
BENCHMARK_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def table(*labels: Label, name: str = "mine", ignore_rest: bool = False) -> LabelTable:
    return LabelTable(name=name, labels=labels, ignore_rest=ignore_rest)


def label(
    name: str, ids: Sequence[int], train_id: int, color: tuple[int, int, int] | None = None, category: str = "things"
) -> Label:
    return Label(name=name, source_ids=tuple(ids), train_id=train_id, color=color, category=category)


# Of the other tables: classes, ids, and the class (None: ignored) of some ids and of some colors.
FACTS: dict[str, tuple[int, Sequence[int], dict[int | Color, str | None]]] = {
    "bdd100k": (19, [*range(19), 255], {0: "road", 9: "terrain", 18: "bicycle", 255: None}),
    "camvid32": (31, range(32), {(128, 0, 192): "LaneMkgsDriv", (0, 0, 0): None, 17: "Road", (64, 192, 0): "Wall"}),
    "camvid32_to_camvid11": (
        11,
        range(32),
        {
            (128, 0, 192): "road",
            (64, 192, 0): "building",
            (192, 0, 192): "bicyclist",
            (0, 0, 192): "pavement",
            30: None,
        },
    ),
    "idd26": (
        26,
        [*range(26), 255],
        {0: "road", 8: "autorickshaw", 24: "vegetation", 25: SKY, 255: None},
    ),
    "idd_to_idd26": (26, range(40), {2: "parking / drivable fallback", 17: LARGE_VEHICLES, 33: SKY, 38: None}),
    "idd_to_cityscapes19": (19, range(40), {5: "terrain", 17: "train", 11: None, 34: None, (0, 0, 142): "car"}),
    "mapillary65": (
        65,
        range(66),
        {13: "Road", 55: "Car", 65: None, (70, 130, 180): "Sky", (0, 0, 192): "Wheeled Slow"},
    ),
    "mapillary_to_cityscapes19": (
        19,
        range(66),
        {24: "road", (255, 255, 255): "road", 2: "sidewalk", 21: "rider", 44: None, 58: "train", 64: None},
    ),
    "a2d2": (
        38,
        range(38),
        {(255, 0, 0): "Car", (128, 0, 0): "Car", (255, 0, 255): "RD normal street", 37: "Rain dirt"},
    ),
    "a2d2_to_cityscapes19": (
        19,
        range(38),
        {(255, 0, 0): "car", (90, 30, 1): "bicycle", (128, 0, 255): "road", (72, 209, 204): None, (0, 0, 100): "truck"},
    ),
    "ade20k150": (150, range(151), {0: None, 1: "wall", 3: "sky", 7: "road", 150: "flag", (120, 120, 120): "wall"}),
    "ade20k_to_cityscapes19": (
        19,
        range(151),
        {0: None, 2: "building", 7: "road", 10: "terrain", 103: "car", 16: None},
    ),
    "voc21": (21, [*range(21), 255], {0: "background", 15: "person", 255: None, (192, 128, 128): "person"}),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_table_has_the_classes_ids_and_colors_of_its_source(name: str) -> None:
    num_classes, ids, class_of = FACTS[name]
    built_in = BUILTIN_TABLES[name]()
    assert (built_in.name, built_in.num_classes) == (name, num_classes)
    assert built_in.source_ids == set(ids)
    for value, expected in class_of.items():
        source_id = value if isinstance(value, int) else built_in.source_id_of_color[value]
        train_id = built_in.train_id_of[source_id]
        assert (None if train_id == IGNORE else built_in.classes[train_id].name) == expected


@pytest.mark.parametrize("name", [name for name in BUILTIN_TABLES if name.endswith("cityscapes19")] + ["bdd100k"])
def test_a_map_to_cityscapes_has_exactly_its_classes(name: str) -> None:
    seen = [
        [(row.name, row.train_id, row.color, row.category) for row in BUILTIN_TABLES[each]().classes]
        for each in (name, "cityscapes19")
    ]
    assert seen[0] == seen[1]


def test_every_color_of_the_32_of_camvid_is_one_of_the_11_or_void() -> None:
    all_, grouped = BUILTIN_TABLES["camvid32"](), BUILTIN_TABLES["camvid32_to_camvid11"]()
    assert len(all_.source_id_of_color) == 32
    assert all_.source_id_of_color.keys() == grouped.source_id_of_color.keys()
    assert sum(grouped.train_id_of[id_] == IGNORE for id_ in grouped.source_id_of_color.values()) == 1
    assert [row.color for row in grouped.classes] == [row.color for row in BUILTIN_TABLES["camvid11"]().classes]


def test_a2d2_has_55_colors_in_masks() -> None:
    assert {len(BUILTIN_TABLES[name]().source_id_of_color) for name in ("a2d2", "a2d2_to_cityscapes19")} == {55}


def test_two_classes_of_ade20k_share_a_color_which_masks_are_not_read_by() -> None:
    ade20k = BUILTIN_TABLES["ade20k150"]()
    shared = [row.name for row in ade20k.classes if row.color == (140, 140, 140)]
    assert shared == ["road", "skyscraper"]
    assert (140, 140, 140) not in ade20k.source_id_of_color
    assert len(ade20k.source_id_of_color) == 149


def test_the_palette_of_voc_is_that_of_its_development_kit() -> None:
    """Its three lowest bits are bit 7 of red, green and blue, the next three bit 6, and so on."""
    voc21 = BUILTIN_TABLES["voc21"]()
    for index in range(21):
        bits = [(index >> 3 * place + channel & 1) << 7 - place for place in range(8) for channel in range(3)]
        assert voc21.palette[index].tolist() == [sum(bits[channel::3]) for channel in range(3)]


@pytest.mark.parametrize(("name", "classes"), [("cityscapes19", 19), ("cityscapes7", 7), ("camvid11", 11)])
def test_a_built_in_table_has_its_name_and_number_of_classes(name: str, classes: int) -> None:
    built_in = BUILTIN_TABLES[name]()
    assert (built_in.name, built_in.num_classes) == (name, classes)
    assert [row.train_id for row in built_in.classes] == list(range(classes))


def test_the_test_knows_every_built_in_table() -> None:
    tested = {"cityscapes19", "cityscapes7", "cityscapes_train_ids", "camvid11", *FACTS}
    assert set(BUILTIN_TABLES) == tested


def test_cityscapes19_has_the_classes_of_the_benchmark_under_their_ids() -> None:
    cityscapes = BUILTIN_TABLES["cityscapes19"]()
    assert [row.name for row in cityscapes.classes] == BENCHMARK_NAMES
    assert [row.source_ids for row in cityscapes.classes] == [(source_id,) for source_id in BENCHMARK_IDS]
    for source_id in range(34):
        expected = BENCHMARK_IDS.index(source_id) if source_id in BENCHMARK_IDS else IGNORE
        assert cityscapes.train_id_of[source_id] == expected


def test_cityscapes19_has_the_colors_of_the_benchmark() -> None:
    palette = BUILTIN_TABLES["cityscapes19"]().palette
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert palette[[0, 5, 10, 11, 13, 18]].tolist() == [
        [128, 64, 128],
        [153, 153, 153],
        [70, 130, 180],
        [220, 20, 60],
        [0, 0, 142],
        [119, 11, 32],
    ]
    assert not palette[19:].any()


def test_cityscapes19_has_the_categories_of_the_benchmark() -> None:
    categories = Counter(row.category for row in BUILTIN_TABLES["cityscapes19"]().classes)
    assert categories == {
        "flat": 2,
        "construction": 3,
        "object": 3,
        "nature": 2,
        "sky": 1,
        "human": 2,
        "vehicle": 6,
    }


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes7"])
def test_cityscapes_has_no_row_for_the_licence_plate_which_no_mask_draws(name: str) -> None:
    rows = BUILTIN_TABLES[name]().labels
    assert not any("plate" in row.name for row in rows)
    assert sorted(source_id for row in rows for source_id in row.source_ids) == list(range(34))


def test_the_color_of_pole_and_polegroup_is_the_poles() -> None:
    cityscapes = BUILTIN_TABLES["cityscapes19"]()
    pole, polegroup = (next(row for row in cityscapes.labels if row.name == name) for name in ("pole", "polegroup"))
    assert (pole.source_ids, polegroup.source_ids) == ((17,), (18,))
    assert pole.color == polegroup.color == (153, 153, 153)
    assert cityscapes.source_id_of_color[153, 153, 153] == 17


@pytest.mark.parametrize("name", BUILTIN_TABLES)
def test_the_color_of_each_class_leads_back_to_the_class(name: str) -> None:
    built_in = BUILTIN_TABLES[name]()
    for row in built_in.classes:
        assert row.color is not None
        assert tuple(built_in.palette[row.train_id]) == row.color
        for color in row.colors_in_masks:
            assert built_in.train_id_of[built_in.source_id_of_color[color]] == row.train_id


def test_cityscapes7_folds_every_label_of_a_category_and_ignores_void() -> None:
    folded, full = BUILTIN_TABLES["cityscapes7"](), BUILTIN_TABLES["cityscapes19"]()
    names = [row.name for row in folded.classes]
    assert names == ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    for row in full.labels:
        expected = IGNORE if row.category == "void" else names.index(row.category)
        assert folded.train_id_of[row.source_ids[0]] == expected


def test_camvid11_has_the_ids_and_colors_of_segnet_and_void_is_11() -> None:
    camvid11 = BUILTIN_TABLES["camvid11"]()
    assert " ".join(row.name for row in camvid11.classes) == (
        "sky building pole road pavement tree sign symbol fence car pedestrian bicyclist"
    )
    assert camvid11.train_id_of[:12].tolist() == [*range(11), IGNORE]
    assert camvid11.palette[3].tolist() == [128, 64, 128]
    assert camvid11.palette[10].tolist() == [0, 128, 192]


@pytest.mark.parametrize("name", BUILTIN_TABLES)
def test_an_id_that_no_row_names_is_unknown(name: str) -> None:
    built_in = BUILTIN_TABLES[name]()
    named = {source_id for row in built_in.labels for source_id in row.source_ids}
    train_ids = built_in.train_id_of
    assert train_ids.shape == (65536,)
    assert set(np.flatnonzero(train_ids != UNKNOWN).tolist()) == named


def test_ignore_rest_makes_every_other_id_ignored() -> None:
    train_ids = table(label("road", [7], 0), ignore_rest=True).train_id_of
    assert train_ids[7] == 0
    assert (np.delete(train_ids, 7) == IGNORE).all()


def test_a_class_without_a_color_is_black_in_the_palette_and_has_no_color_to_be_found_by() -> None:
    plain = table(label("road", [7], 0))
    assert plain.palette[0].tolist() == [0, 0, 0]
    assert plain.source_id_of_color == {}


@st.composite
def tables(draw: st.DrawFn) -> LabelTable:
    count = draw(st.integers(1, 12))
    names = draw(st.lists(st.text(min_size=1), min_size=count, max_size=count, unique=True))
    ids = draw(st.lists(st.integers(0, 65535), min_size=count, max_size=3 * count, unique=True))
    color = st.tuples(*[st.integers(0, 255)] * 3)
    colors = draw(st.lists(color, min_size=count, max_size=count, unique=True))
    num_classes = draw(st.integers(1, count))
    rows = [
        label(
            names[row],
            ids[row::count],
            row if row < num_classes else IGNORE,
            colors[row] if draw(st.booleans()) else None,
            draw(st.text()),
        )
        for row in range(count)
    ]
    return table(*draw(st.permutations(rows)), name=draw(st.text()), ignore_rest=draw(st.booleans()))


@given(tables())
def test_a_table_survives_json(original: LabelTable) -> None:
    assert LabelTable.from_json(json.loads(json.dumps(original.to_json()))) == original


@given(tables())
def test_every_source_id_becomes_the_train_id_of_its_row(original: LabelTable) -> None:
    assert [row.train_id for row in original.classes] == list(range(original.num_classes))
    for row in original.labels:
        assert all(original.train_id_of[source_id] == row.train_id for source_id in row.source_ids)
    named = sum(len(row.source_ids) for row in original.labels)
    rest = IGNORE if original.ignore_rest else UNKNOWN
    assert np.count_nonzero(original.train_id_of == rest) >= 65536 - named


@pytest.mark.parametrize("name", BUILTIN_TABLES)
def test_a_built_in_table_survives_json(name: str) -> None:
    built_in = BUILTIN_TABLES[name]()
    assert LabelTable.from_json(json.loads(json.dumps(built_in.to_json()))) == built_in


ROAD, CAR = label("road", [7], 0, (128, 64, 128)), label("car", [26], 1, (0, 0, 142))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([], "it has no classes"),
        ([label("void", [0], IGNORE)], "it has no classes"),
        ([ROAD, label("car", [26], 2)], "train ids must be 0 to 1 without gaps or repeats, found [0, 2]"),
        ([ROAD, label("car", [26], 0)], "train ids must be 0 to 1 without gaps or repeats, found [0, 0]"),
        ([label("car", [26], 1)], "train ids must be 0 to 0 without gaps or repeats, found [1]"),
        ([ROAD, label("car", [26, 7], 1)], "source id 7 is used 2 times"),
        ([ROAD, label("void", [7, 7], IGNORE)], "source id 7 is used 3 times"),
        ([ROAD, label("car", [26], 1, ROAD.color)], "class color (128, 64, 128) is used 2 times"),
        ([ROAD, label("road", [26], 1)], "name 'road' is used 2 times"),
        (
            [ROAD, label("car", [-1, 65536], 1)],
            "source ids outside 0 to 65535: [-1, 65536]; "
            "-1 marks what no mask shows, such as the license plate of Cityscapes: drop the row. If masks hold it, "
            "it is 255 in 8 bits and 65535 in 16 bits: list these",
        ),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_the_reason(labels: list[Label], problem: str) -> None:
    with pytest.raises(LabelTableError) as caught:
        table(*labels)
    assert str(caught.value) == f"label table 'mine': {problem}"


def test_more_classes_than_a_mask_can_hold_are_refused() -> None:
    rows = [label(f"class {index}", [index], index if index < IGNORE else index + 1) for index in range(256)]
    with pytest.raises(LabelTableError, match="256 classes, but uint8 masks with an ignored id can hold at most 255"):
        table(*rows)
    assert table(*rows[:255]).num_classes == 255


def test_colors_in_masks_may_be_others_than_the_color_of_the_class() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    cars = table(replace(CAR, train_id=0, mask_colors=(red, blue)), label("void", [0], IGNORE, CAR.color))
    assert cars.source_id_of_color == {red: 26, blue: 26, CAR.color: 0}
    assert tuple(cars.palette[0]) == CAR.color
    assert LabelTable.from_json(json.loads(json.dumps(cars.to_json()))) == cars
    with pytest.raises(LabelTableError, match=r"class color \(255, 0, 0\) is used 2 times"):
        table(replace(CAR, train_id=0, mask_colors=(red,)), replace(ROAD, train_id=1, mask_colors=(blue, red)))


def test_the_json_of_a_row_has_colors_in_masks_only_where_they_differ() -> None:
    assert set(CAR.to_json()) == {"name", "source_ids", "train_id", "color", "category"}
    assert replace(CAR, mask_colors=()).to_json()["mask_colors"] == []


def test_every_problem_of_a_table_is_told_at_once() -> None:
    with pytest.raises(LabelTableError) as caught:
        table(ROAD, label("road", [7, -1], 2, ROAD.color))
    for problem in ("train ids must be", "source ids outside", "source id 7", "name 'road'", "class color"):
        assert problem in str(caught.value)


def test_an_ignored_row_may_have_the_color_of_a_class() -> None:
    shared = table(label("void", [0], IGNORE, ROAD.color), ROAD, CAR, label("other", [1], IGNORE, CAR.color))
    assert shared.source_id_of_color == {ROAD.color: 7, CAR.color: 26}
