"""A draft reads the masks that it was made from, and gives each class that was drawn a class of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.label_drafts.contents import total_of
from beam_pipelines.label_drafts.draft import MOST_ROWS, Draft, draft_of, yaml_of
from beam_pipelines.label_drafts.examine import examine
from beam_pipelines.label_drafts.fits import Fit, fit_of
from beam_pipelines.label_drafts.meanings import Meaning, meaning_of
from beam_pipelines.pixels.mask_readings import reading_of
from beam_pipelines.pixels.mask_repairs import repaired
from beam_pipelines.pixels.stored_masks import open_mask, stored_mask
from beam_pipelines.shards.survey import decide
from tests.support.decoded_masks import decode_mask
from tests.support.drawn_masks import COLORS, areas, as_jpeg, palette_image, png

ANY = 10**8
CLASSES = 7
DRAWN = [areas(CLASSES, seed) for seed in range(6)]


def meaning_and_fit(masks: Sequence[bytes]) -> tuple[Meaning, Fit]:
    meaning = meaning_of(total_of(examine(data, index, ANY) for index, data in enumerate(masks)))
    return meaning, fit_of(meaning)


def drafted(masks: Sequence[bytes]) -> tuple[Meaning, Fit, Draft]:
    meaning, fit = meaning_and_fit(masks)
    return meaning, fit, draft_of(meaning, fit)


def table_of(masks: Sequence[bytes], folder: Path) -> LabelTable:
    meaning, fit, draft = drafted(masks)
    (folder / "draft.yaml").write_text(yaml_of(draft, meaning, fit.sentences), encoding="utf-8")
    return load_labels(str(folder / "draft.yaml"))


def train_ids(masks: Sequence[bytes], table: LabelTable) -> list[np.ndarray]:
    """As a build reads them."""
    stored = [stored_mask(data, *open_mask(data, ANY)) for data in masks]
    looked_at = [(str(index), repaired(mask, table, are_colors=False).mask) for index, mask in enumerate(stored)]
    reading = decide(looked_at, table).reading
    return [table.train_id_of[decode_mask(data, table, ANY, reading)] for data in masks]


def shuffled(ids: np.ndarray, seed: int) -> Image.Image:
    """With a palette in an order of its own."""
    order = np.random.default_rng(seed).permutation(CLASSES)
    return palette_image(np.argsort(order)[ids].astype(np.uint8), COLORS[order])


GRAY = np.array([90, 10, 200, 40, 60, 250, 0], np.uint8)[:, None].repeat(3, axis=1)
STORED: dict[str, Callable[[np.ndarray, int], Image.Image]] = {
    "gray": lambda ids, index: Image.fromarray(ids),
    "gray, some in 16 bits": lambda ids, index: Image.fromarray(ids.astype(np.uint16) if index % 2 else ids),
    "large ids": lambda ids, index: Image.fromarray(ids.astype(np.uint16) * 1000 + 7),
    "levels in 16 bits": lambda ids, index: Image.fromarray(ids.astype(np.uint16) * 257),
    "RGB": lambda ids, index: Image.fromarray(COLORS[ids]),
    "RGB of gray levels": lambda ids, index: Image.fromarray(np.repeat(ids[..., None] * 20, 3, axis=2)),
    "RGBA": lambda ids, index: Image.fromarray(COLORS[ids]).convert("RGBA"),
    "palette": lambda ids, index: palette_image(ids, COLORS),
    "a palette with a color twice": lambda ids, index: palette_image(ids, COLORS[[0, 1, 2, 3, 4, 5, 5]]),
    "palettes in any order": shuffled,
    "a palette of gray levels in any order": lambda ids, index: palette_image(ids, GRAY),
    "palettes and RGB": lambda ids, index: shuffled(ids, index) if index % 2 else Image.fromarray(COLORS[ids]),
}


@pytest.mark.parametrize("stored", STORED)
def test_the_classes_of_the_draft_are_those_that_were_drawn(stored: str, tmp_path: Path) -> None:
    masks = [png(STORED[stored](ids, index)) for index, ids in enumerate(DRAWN)]
    found = train_ids(masks, table_of(masks, tmp_path))
    both = {pair for drawn, read in zip(DRAWN, found, strict=True) for pair in zip(drawn.flat, read.flat, strict=True)}
    assert len(both) == CLASSES
    assert len({read for _, read in both}) == CLASSES


@pytest.mark.parametrize(
    ("stored", "way"),
    [("gray", "ids"), ("palette", "ids"), ("RGB", "colors"), ("palettes in any order", "colors"), ("RGBA", "colors")],
)
def test_the_way_of_reading_is_told(stored: str, way: str) -> None:
    masks = [png(STORED[stored](ids, index)) for index, ids in enumerate(DRAWN)]
    assert meaning_and_fit(masks)[0].way == way


def test_the_user_may_say_the_way() -> None:
    shuffled_masks = [png(shuffled(ids, index)) for index, ids in enumerate(DRAWN)]
    contents = total_of(examine(data, index, ANY) for index, data in enumerate(shuffled_masks))
    meaning = meaning_of(contents, "ids")
    assert meaning.values is not None
    assert (meaning.way, meaning.color_of) == ("ids", {})
    stored = np.stack([np.asarray(shuffled(ids, index)) for index, ids in enumerate(DRAWN)])
    assert meaning.values.pixels.tolist() == np.bincount(stored.flat).tolist()
    with pytest.raises(BuildError, match="no mask can be read: --masks_are=levels, and they are stored as palette"):
        meaning_of(contents, "levels")


def test_binary_masks_of_one_and_of_eight_bits_are_read_alike(tmp_path: Path) -> None:
    binary = [(ids > 2) for ids in DRAWN]
    masks = [png(Image.fromarray(mask if index % 2 else mask * np.uint8(255))) for index, mask in enumerate(binary)]
    meaning, fit, draft = drafted(masks)
    assert (meaning.way, fit.sentences) == ("levels", ("0 and 255: a binary mask",))
    assert [row.source_id for row in draft.classes] == [0, 255]
    found = train_ids(masks, table_of(masks, tmp_path))
    assert all(np.array_equal(mask, read) for mask, read in zip(binary, found, strict=True))


def test_255_and_minus_one_are_ignored() -> None:
    for dtype, value in ((np.uint8, 255), (np.uint16, 65535)):
        values = np.array([0, 1, 2, 3, 4, 5, value], dtype)
        _, _, draft = drafted([png(Image.fromarray(values[ids])) for ids in DRAWN])
        (row,) = draft.ignored
        assert row.source_id == value
        assert str(value) in row.why
        assert [each.source_id for each in draft.classes] == [0, 1, 2, 3, 4, 5]


def test_a_little_black_is_void_and_much_of_it_is_a_class() -> None:
    little, much = [(DRAWN, 1), ([np.where(ids > 2, 6, ids) for ids in DRAWN], 0)]
    for masks, void in (little, much):
        _, _, draft = drafted([png(Image.fromarray(COLORS[ids])) for ids in masks])
        assert [row.name for row in draft.ignored] == ["color 0-0-0"] * void
        assert all("not labeled" in row.why for row in draft.ignored)


def test_the_table_of_the_colors_is_named() -> None:
    for stored in ("RGB", "palettes in any order"):
        _, fit = meaning_and_fit([png(STORED[stored](ids, index)) for index, ids in enumerate(DRAWN)])
        assert "camvid11" in fit.tables
    ids_with_colors = [png(palette_image(ids % 6, COLORS)) for ids in DRAWN]
    assert meaning_and_fit(ids_with_colors)[1].tables == ("camvid11",)
    other = [png(Image.fromarray(255 - COLORS[ids])) for ids in DRAWN]
    assert meaning_and_fit(other)[1] == Fit((), ())


def test_colors_that_jpeg_damaged_are_found_again(tmp_path: Path) -> None:
    masks = [png(as_jpeg(Image.fromarray(COLORS[ids]))) for ids in DRAWN]
    meaning, fit, draft = drafted(masks)
    assert meaning.values is not None
    assert meaning.values.values.size > 1000
    assert fit.sentences[0].startswith("the colors are near but not equal to those of camvid11")
    rows = sorted((*draft.classes, *draft.ignored), key=lambda row: row.source_id)
    colors = np.array([row.color for row in rows])
    assert len(colors) == CLASSES
    distance = np.abs(colors[:, None] - COLORS[None].astype(int)).max(axis=2)
    assert distance.min(axis=0).max() <= 3
    table = table_of(masks, tmp_path)
    read = [decode_mask(data, table, ANY, reading_of("colors")) for data in masks]
    right = np.mean([distance.argmin(axis=1)[ids] == drawn for ids, drawn in zip(read, DRAWN, strict=True)])
    assert right > 0.97
    counts = [sum(int((ids == row.source_id).sum()) for ids in read) for row in draft.classes]
    assert counts == [row.pixels for row in draft.classes]


@pytest.mark.parametrize(("classes", "void"), [(7, "color 0-0-0"), (6, "between two classes")])
def test_colors_between_two_classes_are_ignored(classes: int, void: str, tmp_path: Path) -> None:
    """Anti-aliasing puts colors in the middle between two, which no distance decides."""
    smooth = [png(Image.fromarray(COLORS[ids % classes]).resize((80, 48), Image.Resampling.BOX)) for ids in DRAWN]
    _, _, draft = drafted(smooth)
    ignored = [row.name for row in draft.ignored]
    assert ignored == [void]
    table = table_of(smooth, tmp_path)
    read = np.stack([decode_mask(data, table, ANY, reading_of("colors")) for data in smooth])
    assert [int((read == row.source_id).sum()) for row in draft.classes] == [row.pixels for row in draft.classes]
    assert 0 < (table.train_id_of[read] == IGNORE).mean() < 0.25


def test_a_binary_mask_with_soft_edges_has_two_classes(tmp_path: Path) -> None:
    smooth = [Image.fromarray((ids > 2) * np.uint8(255)).filter(ImageFilter.GaussianBlur(1)) for ids in DRAWN]
    masks = [*map(png, smooth)]
    meaning, fit, draft = drafted(masks)
    assert "soft edges" in fit.sentences[0]
    foreground = sum(int((np.asarray(image) >= 128).sum()) for image in smooth)
    assert [row.pixels for row in draft.classes] == [meaning.pixels - foreground, foreground]
    found = train_ids(masks, table_of(masks, tmp_path))
    assert all(np.array_equal(np.asarray(image) >= 128, read) for image, read in zip(smooth, found, strict=True))


def test_ids_that_are_all_off_by_one_are_noticed() -> None:
    # Train ids of Cityscapes + 1: mostly road, sidewalk and building.
    ids = np.array([1, 1, 1, 2, 3, 3, 9, 11, 12, 14], np.uint8)
    _, fit = meaning_and_fit([png(Image.fromarray(ids[areas(10, seed)])) for seed in range(6)])
    assert len(fit.sentences) == 1
    assert "above those of cityscapes_train_ids by 1" in fit.sentences[0]


def test_ids_of_instances_are_noticed() -> None:
    ids = np.array([7, 23, 26001, 26002, 24001, 24002, 26003], np.uint16)
    _, fit = meaning_and_fit([png(Image.fromarray(ids[drawn])) for drawn in DRAWN])
    assert "1000 x id + number" in fit.sentences[0]


def test_more_ids_than_a_table_takes_are_ignored(tmp_path: Path) -> None:
    for count in (300, MOST_ROWS + 1):
        ids = np.arange(count, dtype=np.uint16)[:, None].repeat(3, axis=1)
        ids[:255, 2] = 3 * count  # the first ones are rarer
        masks = [png(Image.fromarray(ids))]
        table = table_of(masks, tmp_path)
        assert table.num_classes == 255
        (read,) = train_ids(masks, table)
        assert set(np.unique(read).tolist()) == {*range(255), IGNORE}
        assert table.ignore_rest == (count > MOST_ROWS)


def test_masks_that_are_stored_like_no_other_are_left_out_and_named() -> None:
    deep = Image.fromarray(DRAWN[0].astype(np.uint16) + 1)
    _, _, draft = drafted([*(png(Image.fromarray(COLORS[ids])) for ids in DRAWN), png(deep)])
    assert "left out, as they can't be read as colors: masks in gray, 16 bits" in draft.decisions


def test_pictures_are_not_taken_for_masks() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    with pytest.raises(BuildError, match="they look like pictures, not like masks"):
        meaning_and_fit([png(Image.fromarray(noise))])
    half = np.where(np.arange(80)[:, None] < 40, noise, 7).astype(np.uint8)
    with pytest.raises(BuildError, match=r"50% of the pixels are in none of the main ones: they look like pictures"):
        drafted([png(Image.fromarray(half))])


def test_without_a_readable_mask_there_is_no_draft() -> None:
    with pytest.raises(BuildError, match=r"no mask can be read: truncated 1"):
        meaning_and_fit([png(Image.fromarray(DRAWN[0]))[:60]])
