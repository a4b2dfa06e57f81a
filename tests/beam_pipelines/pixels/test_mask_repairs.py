"""Repairs of masks, against NumPy and plain Python, pixel by pixel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable, LabelTableError
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.moments import Moments
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.pixels.conform import check_ids
from beam_pipelines.pixels.mask_readings import COLORS, IDS, LEVELS, reading_of
from beam_pipelines.pixels.mask_repairs import distinct, nearest_colors, repaired
from beam_pipelines.pixels.masks import DecodedMask, read_mask
from beam_pipelines.pixels.stored_masks import StoredMask, open_mask, stored_mask
from beam_pipelines.rejects import BadInputError
from beam_pipelines.shards.receipts import StagedShard
from beam_pipelines.shards.survey import check_table, decide
from beam_pipelines.shards.written import WrittenShard
from tests.support.builds import SHOWN, build, make_uneven, no_transform
from tests.support.picture_files import gray_png, saved

LIMIT = 4_000_000
COLOR = st.tuples(*[st.integers(0, 255)] * 3)


def table(*rows: tuple[int, tuple[int, int, int] | None], ignored: tuple[int, ...] = (), **repairs: int) -> LabelTable:
    """Classes of (source id, color)."""
    labels = [
        Label(name=f"class {n}", source_ids=(source,), train_id=n, color=color, category="")
        for n, (source, color) in enumerate(rows)
    ]
    labels += [Label(name=f"void {n}", source_ids=(n,), train_id=IGNORE, color=None, category="") for n in ignored]
    return LabelTable(name="mine", labels=tuple(labels), **repairs)  # type: ignore[arg-type]  # no other field


BINARY = [(0, None), (1, None)]


def stored(file: bytes) -> StoredMask:
    return stored_mask(file, *open_mask(file, LIMIT))


def read(file: bytes, labels: LabelTable, masks_are: str) -> DecodedMask:
    return read_mask(file, labels, LIMIT, reading_of(masks_are))


@given(
    st.lists(COLOR, min_size=1, max_size=5, unique=True), st.lists(COLOR, min_size=1, max_size=9), st.integers(1, 441)
)
def test_the_nearest_color_is_that_of_a_search_by_hand(
    known: list[tuple[int, int, int]], seen: list[tuple[int, int, int]], limit: int
) -> None:
    labels = table(*enumerate(known), nearest_color=limit)
    found, replaced = nearest_colors(np.array(seen, np.int64), labels)
    for color, result, changed in zip(seen, found.tolist(), replaced.tolist(), strict=True):
        squares = [sum((a - b) ** 2 for a, b in zip(color, other, strict=True)) for other in known]
        least = min(squares)
        repairs = 0 < least <= limit**2 and squares.count(least) == 1
        assert changed == repairs
        assert tuple(result) == (known[squares.index(least)] if repairs else color)


def test_two_colors_of_one_class_at_the_same_distance_are_no_tie() -> None:
    car = Label(name="car", source_ids=(5,), train_id=0, color=None, category="", mask_colors=((0, 0, 0), (10, 0, 0)))
    labels = LabelTable(name="mine", labels=(car,), nearest_color=5)
    assert read(saved(np.full((2, 3, 3), (5, 0, 0), np.uint8)), labels, COLORS).ids.tolist() == [[5] * 3] * 2


def test_a_color_between_two_classes_is_ignored_if_the_table_has_an_ignored_color() -> None:
    void = Label(name="void", source_ids=(9,), train_id=IGNORE, color=(255, 255, 255), category="")
    labels = table((0, (0, 0, 0)), (1, (20, 0, 0)))
    labels = replace(labels, labels=(*labels.labels, void), nearest_color=12)
    picture = np.array([[(10, 0, 0), (9, 0, 0), (20, 0, 0), (250, 255, 255)]], np.uint8)
    found = read(saved(picture), labels, COLORS)
    assert found.ids.tolist() == [[9, 0, 1, 9]]
    assert found.repairs == {"nearest_color": 3}


def test_a_color_between_two_classes_or_too_far_is_unknown() -> None:
    labels = table((0, (0, 0, 0)), (1, (20, 0, 0)), nearest_color=12)
    for color in ((10, 0, 0), (0, 13, 0)):
        with pytest.raises(BadInputError) as caught:
            read(saved(np.full((2, 2, 3), color, np.uint8)), labels, COLORS)
        assert caught.value.reason == "unknown_colors"


def test_a_mask_that_jpeg_damaged_is_repaired_and_its_pixels_are_counted(camvid: Path) -> None:
    labels = BUILTIN_TABLES["camvid11"]()
    mask = np.asarray(Image.open(min((camvid / "masks" / "val").glob("*.png"))))
    colors = np.array([row.color for row in labels.labels], np.int16)[mask]
    damaged = np.clip(colors + np.random.default_rng(0).integers(-4, 5, colors.shape), 0, 255).astype(np.uint8)
    file, repairing = saved(damaged), LabelTable(name="mine", labels=labels.labels, nearest_color=12)
    seen = distinct(repaired(stored(file), repairing, are_colors=False).mask)
    assert len(seen.values) < 30
    reading = decide([("a", seen)], repairing).reading
    assert reading.ways == (COLORS,)
    found = read_mask(file, repairing, LIMIT, reading)
    assert np.array_equal(found.ids, mask)
    assert found.repairs == {"nearest_color": int((damaged != colors).any(axis=-1).sum())}
    with pytest.raises(BadInputError):
        read_mask(file, labels, LIMIT, reading)


def test_ids_as_rgb_are_not_taken_for_damaged_colors() -> None:
    labels = table((0, (0, 0, 0)), (3, (1, 1, 90)), (4, (6, 6, 6)), nearest_color=100)
    file = saved(np.repeat(np.array([[0, 3, 4]], np.uint8)[..., None], 3, axis=-1))
    reading = decide([("a", distinct(repaired(stored(file), labels, are_colors=False).mask))], labels).reading
    assert COLORS not in reading.ways
    assert read_mask(file, labels, LIMIT, reading).ids.tolist() == [[0, 3, 4]]


def test_a_hundred_thousand_colors_take_no_seconds(record_property: Callable[[str, object], None]) -> None:
    colors = np.arange(300_000, dtype=np.uint32).reshape(500, 600) * 55
    picture = np.stack([colors >> 16 & 255, colors >> 8 & 255, colors & 255], axis=-1).astype(np.uint8)
    ade20k = BUILTIN_TABLES["ade20k150"]()
    labels = LabelTable(name="mine", labels=ade20k.labels, nearest_color=441, ignore_rest=True)
    file, start = saved(picture[:200]), time.process_time()
    assert len(stored(file).values) > 100_000
    found, _ = nearest_colors(stored(file).colors, labels)
    took = time.process_time() - start
    record_property(SHOWN, f"nearest colors of {len(found):,}: {took:.2f} s")
    assert took < 5


SHIFTED = table(*[(n, None) for n in range(6)], ignored=(255,), shift=-1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.sampled_from(["gray 8", "gray 16", "RGB", "palette"]))
@settings(max_examples=40)
def test_shift_is_added_to_every_id_and_minus_one_is_255(ids: list[int], kind: str) -> None:
    mask = np.array([ids], np.uint8)
    palette = Image.fromarray(mask, "P")
    palette.putpalette([value for n in range(256) for value in (n, n, n)])
    files = {
        "gray 8": saved(mask),
        "gray 16": imagecodecs.png_encode(mask.astype(np.uint16)),
        "RGB": saved(np.repeat(mask[..., None], 3, axis=-1)),
        "palette": saved(palette),
    }
    file = files[kind]
    found = read(file, SHIFTED, LEVELS if kind == "RGB" else IDS)
    expected = np.where(mask == 0, 255, mask.astype(int) - 1)
    assert np.array_equal(found.ids, expected)
    assert found.repairs == {"shift": mask.size}
    check_ids(found.ids, SHIFTED)
    if kind != "RGB":
        seen = distinct(repaired(stored(file), SHIFTED, are_colors=False).mask)
        reading = decide([("a", seen)], SHIFTED).reading
        assert np.array_equal(read_mask(file, SHIFTED, LIMIT, reading).ids, expected)


def test_what_shift_moves_out_of_the_table_is_unknown() -> None:
    labels = table((0, None), shift=-2)
    with pytest.raises(BadInputError) as caught:
        check_ids(read(saved(np.array([[0, 1, 2]], np.uint8)), labels, IDS).ids, labels)
    assert caught.value.detail == "2 ids are not in table mine after `shift: -2`: 255 (1 px), 65534 (1 px)"


@given(st.lists(st.integers(0, 255), min_size=1, max_size=8), st.integers(1, 255))
@settings(max_examples=40)
def test_threshold_divides_gray_levels_however_they_are_stored(levels: list[int], threshold: int) -> None:
    mask = np.array([levels], np.uint8)
    labels = table(*BINARY, threshold=threshold)
    files = [
        saved(mask),
        imagecodecs.png_encode(mask.astype(np.uint16) * 257),
        saved(np.repeat(mask[..., None], 3, -1)),
    ]
    if not (mask % 17).any() and len(levels) % 2 == 0:
        files.append(gray_png(mask // 17, 4))
    soft = int(((mask > 0) & (mask < 255)).sum())
    for file in files:
        seen = distinct(repaired(stored(file), labels, are_colors=False).mask)
        found = read_mask(file, labels, LIMIT, decide([("a", seen)], labels).reading)
        assert np.array_equal(found.ids, mask >= threshold)
        assert found.repairs == ({"threshold": soft} if soft else {})


def test_masks_of_0_and_1_need_no_threshold() -> None:
    labels = table(*BINARY, threshold=128)
    masks = [
        repaired(stored(saved(np.array([pair], np.uint8))), labels, are_colors=False).mask for pair in ((0, 1), (0, 0))
    ]
    with pytest.raises(
        BuildError, match="the 2 examined masks hold only 0 and 1, and `threshold: 128` makes 0 of both"
    ):
        check_table(masks, labels)
    assert check_table(masks[1:], labels) == ()


@pytest.mark.parametrize(
    ("repairs", "told"),
    [
        ({"nearest_color": 442}, "`nearest_color` is a distance of 1 to 441, found 442"),
        ({"nearest_color": 1}, "`nearest_color` needs a table with colors"),
        ({"shift": 65536}, "`shift` is at most 65535, found 65536"),
        ({"shift": -1, "ids": (0, 255)}, "`shift` below 0 makes 255 of ids that become -1, and 255 is a class"),
        ({"threshold": 256}, "`threshold` is a gray level of 1 to 255, found 256"),
        ({"threshold": 128, "shift": -1}, "`threshold` gives the ids 0 and 1: remove `shift`"),
        ({"threshold": 128, "ids": (0, 2)}, "`threshold` gives the ids 0 and 1, and the table does not name both"),
    ],
)
def test_repairs_that_cannot_be_are_refused(repairs: dict, told: str) -> None:
    ids = repairs.pop("ids", (0, 1))
    with pytest.raises(LabelTableError) as caught:
        table(*[(source, None) for source in ids], **repairs)
    assert str(caught.value) == f"label table 'mine': {told}"


def test_a_label_file_says_repairs_and_json_has_them_only_then(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("nearest_color: 12\nshift: -1\nclasses: [{name: road, ids: 7, color: '#804080'}]")
    labels = load_labels(str(path))
    assert labels.repairs == {"nearest_color": 12, "shift": -1}
    assert labels.to_json().items() >= labels.repairs.items()
    assert LabelTable.from_json(json.loads(json.dumps(labels.to_json()))) == labels
    assert not BUILTIN_TABLES["camvid11"]().to_json().keys() & {"nearest_color", "shift", "threshold"}
    path.write_text("threshold: 0\nclasses: [a, b]")
    with pytest.raises(LabelTableError, match="`threshold` must be a whole number other than 0, found 0"):
        load_labels(str(path))


@pytest.mark.slow
def test_a_build_with_repairs_counts_their_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, labels = make_uneven(tmp_path / "in", train=2, val=1), tmp_path / "shifted.yaml"
    labels.write_text("shift: -1\nclasses: [" + ", ".join(f"c{n}" for n in range(12)) + "]")
    masks = {path: np.asarray(Image.open(path)) for path in source.glob("masks/*/*.png")}
    for path, mask in masks.items():
        path.write_bytes(saved(mask + np.uint8(1)))
    arguments = (f"--input={source}", f"--labels={labels}", "--image_size=native", "--image_encoding=uint8")
    with no_transform():
        assert build(*arguments, f"--output={tmp_path / 'out'}") == 0
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    train = [mask for path, mask in masks.items() if path.parent.name == "train"]
    assert manifest["class_pixels"]["train"] == np.bincount(np.concatenate(train, axis=None), minlength=12).tolist()
    pixels = sum(mask.size for mask in masks.values())
    assert manifest["additions"]["repairs"] == {"shift": pixels}
    assert f"repaired           {pixels:,} pixels of masks by `shift: -1`" in capsys.readouterr().out


def test_receipts_of_masks_without_repairs_are_as_before() -> None:
    staged = StagedShard(
        plan_digest="a" * 64,
        split="train",
        shard=Shard(file="train-00000-of-00001.tfrecord", examples=1, bytes=9, sha256=""),
        crc32c=7,
        index_bytes=9,
        index_crc32c=8,
        moments=Moments.zero(),
        class_pixels=np.zeros(256, np.int64),
        heights=(2, 2),
        widths=(2, 2),
        rejected=(),
    )
    assert "repairs" not in staged.to_json()
    repaired_once = replace(staged, repairs={"shift": 3, "nearest_color": 2})
    found = StagedShard.from_json(repaired_once.to_json(), "receipt")
    assert WrittenShard.of(found, found.shard, found.crc32c).repairs == {"nearest_color": 2, "shift": 3}
