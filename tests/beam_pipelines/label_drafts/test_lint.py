"""Each problem between masks and a table is told with its number, the first files and the cure."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from beam_pipelines.label_drafts.contents import total_of
from beam_pipelines.label_drafts.examine import Check, examine
from beam_pipelines.label_drafts.lint import Problem, problems_of
from beam_pipelines.pixels.mask_readings import MaskReading, all_ways
from beam_pipelines.rejects import Rejected
from tests.support.drawn_masks import COLORS, SIZE, areas, as_jpeg, palette_image, png

ANY = 10**8
DRAWN = [areas(6, seed) for seed in range(4)]


def name(index: int) -> str:
    return f"{index}.png"


def table_of(*names: str, ignored: int | None = None) -> LabelTable:
    rows = [
        Label(name=name, source_ids=(index,), train_id=index, color=tuple(COLORS[index].tolist()), category=name)
        for index, name in enumerate(names)
    ]
    if ignored is not None:
        rows.append(Label(name="void", source_ids=(ignored,), train_id=255, color=None, category="void"))
    return LabelTable(name="mine", labels=tuple(rows))


def found(
    masks: Sequence[bytes],
    table: LabelTable,
    unpaired: Sequence[Rejected] = (),
    whole: bool = True,
    size: tuple[int, int] | None = SIZE,
) -> list[Problem]:
    check = Check(table, MaskReading(all_ways(table), ()))
    contents = total_of(examine(data, index, ANY, check, size) for index, data in enumerate(masks))
    return problems_of(contents, table, name, unpaired, whole)


def texts(problems: Sequence[Problem]) -> list[str]:
    return [problem.text.split(":")[0] for problem in problems]


GRAY = [png(Image.fromarray(ids)) for ids in DRAWN]
SIX = table_of("a", "b", "c", "d", "e", "f")


def test_a_table_that_fits_has_no_problem() -> None:
    assert found(GRAY, SIX) == []
    assert found([png(Image.fromarray(COLORS[ids])) for ids in DRAWN], SIX) == []


def test_unknown_ids_are_counted_and_the_first_masks_named() -> None:
    fewer = png(Image.fromarray(DRAWN[0] % 4))
    problems = found([fewer, *GRAY], table_of("a", "b", "c", "d"))
    assert problems[0] == Problem(
        "unknown_ids: 4 masks: ids that mine does not name: 5 (in 4), 4 (in 4)",
        ("1.png", "2.png", "3.png"),
        "add them to the table, under `classes` or `ignore`",
    )


def test_ids_of_a_built_in_table_are_recognized() -> None:
    ids = np.array([7, 7, 11, 21, 23, 26], np.uint8)  # of Cityscapes: road twice, building, vegetation, sky, car
    problems = found([png(Image.fromarray(ids[drawn])) for drawn in DRAWN], BUILTIN_TABLES["cityscapes_train_ids"]())
    assert problems[0].cure.startswith(
        "the ids look like those of cityscapes19 or cityscapes7: give --labels=cityscapes19 or "
    )


def test_unknown_colors_are_told_with_what_they_look_like() -> None:
    damaged = [png(as_jpeg(Image.fromarray(COLORS[ids]))) for ids in DRAWN]
    (problem,) = found(damaged, BUILTIN_TABLES["camvid11"]())[:1]
    assert problem.text.startswith("unknown_colors: 4 masks: colors that the table does not name: (")
    assert problem.files == ("0.png", "1.png", "2.png")
    assert problem.cure.startswith("the colors are near but not equal to those of camvid11 ")


def test_masks_that_no_build_would_take_are_told_by_reason() -> None:
    void = png(Image.fromarray(np.full(SIZE, 6, np.uint8)))
    masks = [GRAY[0], b"no picture", png(Image.fromarray(DRAWN[0]))[:60], void]
    problems = found(masks, table_of("a", "b", "c", "d", "e", "f", ignored=6))
    assert [(text, problem.files) for text, problem in zip(texts(problems), problems, strict=True)] == [
        ("all_ignore", ("3.png",)),
        ("not_an_image", ("1.png",)),
        ("truncated", ("2.png",)),
    ]


def test_an_ambiguous_palette_is_told_with_the_option() -> None:
    swapped = palette_image(DRAWN[0], COLORS[[1, 0, 2, 3, 4, 5]])
    (problem,) = found([png(swapped)], SIX, whole=False)
    assert "--masks_are" in problem.cure
    assert problem.files == ("0.png",)


def test_sizes_are_compared() -> None:
    (problem,) = found(GRAY, SIX, size=(SIZE[0], SIZE[1] + 1))
    assert problem.text.startswith("size_mismatch: 4 masks: ")


SQUARE = [[10, 10, 60, 10, 60, 60]]


def regions(*segmentations: object, height: int = SIZE[0]) -> bytes:
    """Regions of `a`, as planning writes them."""
    listed = [
        {"label": "a", "problem": "a box"} if each is None else {"label": "a", "segmentation": each}
        for each in segmentations
    ]
    return json.dumps({"height": height, "width": SIZE[1], "regions": listed}).encode()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (regions(SQUARE), None),
        (regions(SQUARE, None), "bad_polygons"),
        (regions([[1e9, 0, 9, 9, 0, 9]]), "bad_polygons"),
        (regions({"counts": [1, 1], "size": [1, 2]}), "bad_polygons"),
        (regions(SQUARE, height=95), "size_mismatch"),
        (regions([[900, 900, 901, 900, 901, 901]]), "all_ignore"),
        (regions(), "all_ignore"),
    ],
)
def test_regions_that_a_build_rejects_are_problems(document: bytes, reason: str | None) -> None:
    assert texts(found([document], table_of("a"), whole=False)) == ([] if reason is None else [reason])


def test_classes_that_no_mask_has_are_a_problem_if_all_masks_were_read() -> None:
    masks = [png(Image.fromarray(ids % 4)) for ids in DRAWN]
    (problem,) = found(masks, SIX)
    assert problem.text == "no mask has e, f: 2 of 6 classes"
    assert found(masks, SIX, whole=False) == []


def test_mostly_ignored_pixels_are_told() -> None:
    table = table_of("a", "b", ignored=2)
    masks = [png(Image.fromarray(np.minimum(ids, 2))) for ids in DRAWN]
    (problem,) = found(masks, table)
    share = np.mean([ids >= 2 for ids in DRAWN])
    assert problem.text == f"{share:.1%} of the pixels are ignored"


def test_small_classes_that_fill_the_masks_of_a_built_in_table_are_told() -> None:
    poles = [png(Image.fromarray(np.where(ids < 3, 2, ids))) for ids in DRAWN]
    (problem,) = found(poles, BUILTIN_TABLES["camvid11"](), whole=False)
    assert problem.text.startswith("pole fills ")


def test_missing_partners_are_counted_by_reason() -> None:
    unpaired = [
        Rejected(
            key=f"train/{index}", split="train", image="i", mask=None, stage="pair", reason="missing_mask", detail=""
        )
        for index in range(5)
    ]
    (problem,) = found(GRAY, SIX, unpaired)
    assert problem == Problem(
        "missing_mask: an image without a mask, 5 times",
        ("train/0", "train/1", "train/2"),
        "add the masks, or take the images out",
    )
