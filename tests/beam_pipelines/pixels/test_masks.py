"""Masks keep their meaning whatever the storage: read as the same classes, or refused, and never as others."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.pixels.conform import check_ids
from beam_pipelines.pixels.mask_readings import COLORS, IDS, LEVELS, MaskReading, reading_of
from beam_pipelines.pixels.stored_masks import GRAY, KINDS, PALETTE, open_mask, stored_mask
from beam_pipelines.rejects import BadInputError
from beam_pipelines.shards.plan import choose_pairs
from beam_pipelines.shards.survey import Surveyed, check_table, decide, survey
from tests.support.builds import SHOWN, build, digests, make_flat, make_uneven, no_transform, recipe_of
from tests.support.decoded_masks import decode_mask
from tests.support.picture_files import gray_png, saved

CAMVID = BUILTIN_TABLES["camvid11"]()
LIMIT = 1_000_000


def table(*rows: tuple[int, int, tuple[int, int, int] | None], ignore_rest: bool = False) -> LabelTable:
    """Rows of (source id, train id, color)."""
    labels = tuple(
        Label(name=f"id {source}", source_ids=(source,), train_id=train, color=color, category="")
        for source, train, color in rows
    )
    return LabelTable(name="mine", labels=labels, ignore_rest=ignore_rest)


TABLES = {
    **{name: make() for name, make in BUILTIN_TABLES.items()},
    "binary": table((0, 0, (0, 0, 0)), (1, 1, (255, 255, 255)), (255, IGNORE, None)),
    "binary without colors": table((0, 0, None), (1, 1, None), (255, IGNORE, None)),
    "colorless": table(*[(index, index, None) for index in range(21)], (255, IGNORE, None)),
    "gray colors": table((0, 0, (0, 0, 0)), (1, 1, (17, 17, 17)), (2, 2, (34, 34, 34)), (17, 3, (1, 1, 1))),
    "stretched": table((0, 0, None), (85, 1, None), (170, 2, None), (255, 3, None), (1, 4, None), (2, 5, None)),
    "deep": table((0, 0, None), (1, 1, None), (257, 2, None), (65535, IGNORE, None)),
    "rest": table((0, 0, (0, 0, 0)), (7, 1, (128, 64, 128)), (1, 2, (70, 70, 70)), ignore_rest=True),
}


def gray_storages(levels: np.ndarray) -> dict[str, bytes]:
    """All that a lossless tool may make of a gray picture; `levels` uint8 or uint16 [H, W], of width 8 n."""
    found = {}
    if levels.dtype == np.uint16:
        found["gray 16"] = imagecodecs.png_encode(levels)
        if (levels % 257).any():
            return found
        levels = (levels // 257).astype(np.uint8)
    else:
        found["gray 16"] = imagecodecs.png_encode(levels.astype(np.uint16) * 257)
    for bits in (1, 2, 4, 8):
        step = 255 // (2**bits - 1)
        if not (levels % step).any():
            found[f"gray {bits}"] = gray_png(levels // step, bits)
    return found | {"LA": saved(Image.fromarray(levels).convert("LA"))}


def palette_png(colors: np.ndarray, order: Sequence[int], unused: int, transparent: bool = False) -> bytes:
    """`colors` [H, W, 3] as a palette in `order`, with entries that no pixel has in front."""
    entries, place = np.unique(colors.reshape(-1, 3), axis=0, return_inverse=True)
    rank = np.argsort(order[: len(entries)])
    room = min(unused, 256 - len(entries))
    picture = Image.fromarray((rank[place.reshape(-1)] + room).astype(np.uint8).reshape(colors.shape[:2]), "P")
    listed = np.empty_like(entries)
    listed[rank] = entries
    picture.putpalette(bytes(3 * room) + listed.tobytes())
    return saved(picture, transparency=0) if transparent else saved(picture)


@st.composite
def stored(draw: st.DrawFn, picture: np.ndarray) -> bytes:
    """A PNG that shows `picture`, gray [H, W] or RGB [H, W, 3]."""
    found = {}
    if picture.ndim == 2:
        found = gray_storages(picture)
        if picture.dtype == np.uint16:
            if (picture % 257).any():
                return draw(st.sampled_from([*found.values()]))
            picture = (picture // 257).astype(np.uint8)
        picture = np.repeat(picture[..., None], 3, axis=-1)
    elif (picture == picture[..., :1]).all():
        found = gray_storages(picture[..., 0])
    found["RGB"] = saved(picture)
    found["RGBA"] = saved(Image.fromarray(picture).convert("RGBA"))
    order = draw(st.permutations(range(len(np.unique(picture.reshape(-1, 3), axis=0)))))
    found["palette"] = palette_png(picture, order, draw(st.sampled_from([0, 0, 1, 3])))
    found["palette, one color transparent"] = palette_png(picture, order, 0, transparent=True)
    return found[draw(st.sampled_from(sorted(found)))]


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[LabelTable, list[np.ndarray], list[bytes]]:
    """A table, masks of train ids, and these as ids or in colors, each as some lossless tool may have left it."""
    labels = draw(st.sampled_from([*TABLES.values()]))
    ids = [source for row in labels.labels for source in row.source_ids] + [9] * labels.ignore_rest
    meaning = draw(st.sampled_from(["ids", "ids", "ids of 16 bits", "colors"]))
    if meaning == "colors":
        ids = sorted(set(labels.source_id_of_color.values()))
    if not ids:
        ids, meaning = [labels.labels[0].source_ids[0]], "ids"
    if meaning == "ids":
        ids = [value for value in ids if value < 256]
    color_of = {source: color for color, source in labels.source_id_of_color.items()}
    train_ids, files = [], []
    for _ in range(draw(st.integers(1, 6))):
        some = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4))
        mask = np.array(some)[np.arange(32).reshape(4, 8) % len(some)]
        train_ids.append(labels.train_id_of[mask])
        if meaning == "colors":
            picture = np.array([[color_of[value] for value in line] for line in mask.tolist()], np.uint8)
        else:
            picture = mask.astype(np.uint8 if meaning == "ids" else np.uint16)
        files.append(draw(stored(picture)))
    return labels, train_ids, files


def surveyed(files: Sequence[bytes], labels: LabelTable) -> Surveyed:
    return decide([(str(n), stored_mask(data, *open_mask(data, LIMIT))) for n, data in enumerate(files)], labels)


def read_back(examples: int, phases: Sequence[Phase] = tuple(Phase)) -> Counter[str]:
    """Counts masks that are right, refused, and refused with their data set. Raises AssertionError for a wrong one."""
    counts: Counter[str] = Counter()

    @settings(max_examples=examples, phases=phases, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        labels, train_ids, files = data.draw(data_sets())
        looked_at = data.draw(st.integers(0, len(files)))
        try:
            reading = surveyed(files[:looked_at], labels).reading
        except BuildError:
            counts["refused with all"] += len(files)
            return
        for expected, file in zip(train_ids, files, strict=True):
            try:
                ids = decode_mask(file, labels, LIMIT, reading)
                check_ids(ids, labels)
            except BadInputError:
                counts["refused"] += 1
                continue
            assert np.array_equal(labels.train_id_of[ids], expected)
            counts["right"] += 1

    check()
    return counts


def test_indices_are_no_ids_where_levels_are_read() -> None:
    """Where the survey decided on levels, a palette without them is refused, and no index is named as an id."""
    labels = TABLES["stretched"]
    levels = np.array([[0, 1, 85, 170] * 2], np.uint8)
    mask = palette_png(np.repeat(levels[..., None], 3, axis=-1), range(4), 0, transparent=True)
    with pytest.raises(BadInputError, match="not opaque"):
        decode_mask(mask, labels, LIMIT, MaskReading((LEVELS,), (PALETTE,)))


def test_no_lossless_storage_makes_other_classes_of_a_mask(record_property: Callable[[str, object], None]) -> None:
    """And most are read, though the storages are drawn to be hard."""
    counts = read_back(examples=250)
    record_property(SHOWN, f"masks stored again: {dict(counts)}")
    assert counts["right"] > 0.4 * counts.total(), counts


def _without_colors(ways: tuple[str, ...], *_: object) -> tuple[str, ...]:
    return tuple(way for way in ways if way != COLORS)


BROKEN: dict[str, tuple[str, object]] = {
    "takes the first way": ("beam_pipelines.pixels.masks.agree", lambda *_: True),
    "does not stretch": ("beam_pipelines.pixels.mask_readings.all_ways", lambda _: (IDS, COLORS)),
    "does not look at colors": ("beam_pipelines.shards.survey._by_evidence", _without_colors),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_reader_is_found(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setattr(*BROKEN[broken])
    with pytest.raises(AssertionError, match=r"array_equal|assert False"):
        read_back(examples=5000, phases=[Phase.generate])


# --- one mask that is stored otherwise than all that were looked at


def ids_of_a_byte(labels: LabelTable) -> list[int]:
    return sorted({source for row in labels.labels for source in row.source_ids if source < 256})


@functools.cache
def reading_of_gray(name: str) -> MaskReading | None:
    """What a survey says of gray masks that hold all ids of the table; None where it refuses them."""
    gray = saved(np.resize(np.array(ids_of_a_byte(TABLES[name]), np.uint8), (4, 64)))
    try:
        return surveyed([gray] * 48, TABLES[name]).reading
    except BuildError:
        return None


@settings(max_examples=150)
@given(st.data())
@pytest.mark.slow
def test_one_palette_in_any_order_among_gray_masks_is_right_or_rejected(data: st.DataObject) -> None:
    """Of 200 masks, of which the survey looks at 48; its colors are gray levels, those of the table, or any others."""
    name = data.draw(st.sampled_from([*TABLES]))
    labels, ids, reading = TABLES[name], ids_of_a_byte(TABLES[name]), reading_of_gray(name)
    some = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4, unique=True))
    if reading is None:
        return
    mask = np.array(some, np.uint8)[np.arange(32).reshape(4, 8) % len(some)]
    color_of = {source: color for color, source in labels.source_id_of_color.items()}
    other = st.tuples(*[st.integers(0, 255)] * 3)  # neither levels nor colors that mean something
    other = other.filter(lambda color: len(set(color)) > 1 and color not in labels.source_id_of_color)
    any_color = data.draw(st.lists(other, min_size=4, max_size=4, unique=True))
    kinds = {
        "gray": {source: (source,) * 3 for source in some},
        "of the table": {source: color_of[source] for source in some if source in color_of},
        "any": dict(zip(some, any_color, strict=False)),
    }
    colors = kinds[data.draw(st.sampled_from([*kinds]))]
    if len(set(colors.values())) < len(some):  # two have the same color, or one has none
        return
    picture = np.array([[colors[value] for value in line] for line in mask.tolist()], np.uint8)
    order = data.draw(st.permutations(range(len(some))))
    file = palette_png(picture, order, data.draw(st.sampled_from([0, 1, 3])))
    with contextlib.suppress(BadInputError):
        found = decode_mask(file, labels, LIMIT, reading)
        check_ids(found, labels)
        assert np.array_equal(labels.train_id_of[found], labels.train_id_of[mask])


def test_a_palette_of_which_nothing_is_known_is_rejected_with_its_cure() -> None:
    mask = np.arange(32, dtype=np.uint8).reshape(4, 8) % 4
    picture = np.array([(9, 8, 7), (1, 2, 3), (200, 10, 10), (5, 60, 70)], np.uint8)[mask]
    file, reading = palette_png(picture, [2, 0, 3, 1], 0), surveyed([saved(mask)] * 48, CAMVID).reading
    with pytest.raises(BadInputError, match="--masks_are=ids"):
        decode_mask(file, CAMVID, LIMIT, reading)


# --- real masks


@pytest.fixture(scope="module")
def masks(camvid: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((camvid / "masks" / "val").glob("*.png"))[:12]]


def in_colors(mask: np.ndarray) -> np.ndarray:
    rows = {source: row.color for row in CAMVID.labels for source in row.source_ids}
    return np.array([rows[index] for index in range(12)], np.uint8)[mask]


def by_appearance(colors: np.ndarray) -> list[int]:
    _, first = np.unique(colors.reshape(-1, 3), axis=0, return_index=True)
    return np.argsort(first).tolist()


def by_frequency(colors: np.ndarray) -> list[int]:
    _, counts = np.unique(colors.reshape(-1, 3), axis=0, return_counts=True)
    return np.argsort(-counts).tolist()


@pytest.mark.parametrize("order", [by_appearance, by_frequency])
@pytest.mark.slow
def test_colors_of_camvid_in_a_palette_of_any_order_are_read_by_color(masks: list[np.ndarray], order) -> None:
    files = [palette_png(in_colors(mask), order(in_colors(mask)), 0) for mask in masks]
    found = surveyed(files, CAMVID)
    assert found.reading.ways == (COLORS,)
    assert found.notes == (
        "masks: 12 palette: the colors are those of the table; to read them in another way, give --masks_are",
    )
    for file, mask in zip(files, masks, strict=True):
        assert np.array_equal(decode_mask(file, CAMVID, LIMIT, found.reading), mask)


def test_ids_of_camvid_as_rgb_are_ids_and_that_is_said(masks: list[np.ndarray]) -> None:
    files = [saved(np.repeat(mask[..., None], 3, axis=-1)) for mask in masks]
    found = surveyed(files, CAMVID)
    assert COLORS not in found.reading.ways
    assert found.notes == (
        "masks: 12 RGB: the stored numbers are the ids; to read them in another way, give --masks_are",
    )
    for file, mask in zip(files, masks, strict=True):
        assert np.array_equal(decode_mask(file, CAMVID, LIMIT, found.reading), mask)


def test_indices_of_one_palette_that_is_not_the_tables_are_ids(masks: list[np.ndarray]) -> None:
    files = []
    for mask in masks:
        picture = Image.fromarray(mask, "P")
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        files.append(saved(picture))
    found = surveyed(files[:6], CAMVID)
    assert found.reading.ways == (IDS,)
    for file, mask in zip(files, masks, strict=True):
        assert np.array_equal(decode_mask(file, CAMVID, LIMIT, found.reading), mask)
    moved = palette_png(np.asarray(Image.open(io.BytesIO(files[0])).convert("RGB")), [*range(12)][::-1], 0)
    with pytest.raises(BadInputError, match="its indices are not ids"):
        decode_mask(moved, CAMVID, LIMIT, found.reading)
    with pytest.raises(BuildError, match="palettes of the masks differ in their order"):
        surveyed([*files, moved], CAMVID)


def test_one_bit_beside_masks_of_8_bits_is_refused_unless_it_is_said_what_it_is(masks: list[np.ndarray]) -> None:
    labels = table(*[(index, index, None) for index in range(12)], (255, IGNORE, None))
    beside = [saved(mask) for mask in masks] + [saved(np.where(masks[0] == 0, 255, masks[0]).astype(np.uint8))]
    mask = np.where(np.arange(64).reshape(8, 8) % 3, 255, 0)
    one_bit = gray_png(mask // 255, 1)
    assert np.array_equal(decode_mask(one_bit, labels, LIMIT, reading_of(LEVELS)), mask)
    with pytest.raises(BuildError, match=r"1 of 14 examined masks can be read as ids or as levels"):
        surveyed([*beside, one_bit], labels)
    with pytest.raises(BadInputError, match=r"can be read as ids or as levels; .*--masks_are=ids"):
        decode_mask(one_bit, labels, LIMIT, surveyed(beside, labels).reading)
    with pytest.raises(BuildError, match=r"1 of 1 examined masks can be read as ids or as levels"):
        surveyed([one_bit], labels)


def test_the_option_decides(masks: list[np.ndarray]) -> None:
    indices = np.arange(8, dtype=np.uint8).reshape(1, 8) % 2
    picture = Image.fromarray(indices, "P")
    picture.putpalette(bytes([1, 1, 1, 0, 0, 0]))
    for way, expected in ((IDS, indices), (LEVELS, 1 - indices), (COLORS, np.full((1, 8), 99))):
        reading = MaskReading((way,), tuple(KINDS))
        if way == COLORS:
            with pytest.raises(BadInputError):
                decode_mask(saved(picture), CAMVID, LIMIT, reading)
        else:
            assert np.array_equal(decode_mask(saved(picture), CAMVID, LIMIT, reading), expected)


def restore_in_colors(folder: Path) -> None:
    """Every mask of `make_flat` by the table's colors, in a palette by frequency."""
    for path in folder.glob("masks/*/*.png"):
        colors = in_colors(np.asarray(Image.open(path)))
        path.write_bytes(palette_png(colors, by_frequency(colors), 0))


@pytest.mark.parametrize("masks_are", ["auto", "colors"])
@pytest.mark.slow
def test_a_build_of_masks_that_were_stored_again_has_the_same_bytes(
    tmp_path: Path, masks_are: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_flat(tmp_path / "in")
    arguments = (f"--input={source}", "--labels=camvid11", "--image_size=native", "--image_encoding=uint8")
    with no_transform():
        assert build(*arguments, f"--output={tmp_path / 'before'}") == 0
        restore_in_colors(source)
        assert build(*arguments, f"--output={tmp_path / 'after'}", f"--masks_are={masks_are}") == 0
    assert digests(tmp_path / "before") == digests(tmp_path / "after")
    said = "16 palette: the colors are those" if masks_are == "auto" else "masks: --masks_are=colors"
    assert said in capsys.readouterr().out


@pytest.mark.slow
def test_a_build_that_could_read_its_masks_in_two_ways_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_flat(tmp_path / "in")
    for path in source.glob("masks/*/*.png"):
        path.write_bytes(gray_png(np.arange(32 * 64).reshape(32, 64) % 2, 1))
    table_file = tmp_path / "two.yaml"
    table_file.write_text("classes: [{name: no, ids: [0]}, {name: yes, ids: [1]}]\nignore: [255]")
    arguments = (f"--input={source}", f"--labels={table_file}", "--image_size=native", "--image_encoding=uint8")
    with no_transform():
        assert build(*arguments, f"--output={tmp_path / 'out'}") == 1
        assert "16 of 16 examined masks can be read as ids or as levels" in capsys.readouterr().err
        assert build(*arguments, f"--output={tmp_path / 'out'}", "--masks_are=ids") == 0
        assert build(*arguments, f"--output={tmp_path / 'out'}", "--masks_are=levels") == 1
    assert "masks_are: ids, not levels" in capsys.readouterr().err


# --- tables


def plain(*ids: int) -> list:
    mask = np.resize(np.array(ids, np.uint16 if max(ids) > 255 else np.uint8), (4, 8))
    data = imagecodecs.png_encode(mask)
    return [stored_mask(data, *open_mask(data, LIMIT))]


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes7"])
def test_train_ids_are_no_label_ids(name: str) -> None:
    labels = BUILTIN_TABLES[name]()
    with pytest.raises(BuildError, match="--labels=cityscapes_train_ids"):
        check_table(plain(0, 8, 10, 255), labels)
    with pytest.raises(BuildError, match="--labels=cityscapes_train_ids"):
        check_table(plain(0, 2, 8, 10, 13) * 16, labels)
    assert "--labels=cityscapes_train_ids" in check_table(plain(0, 2, 8, 10, 13), labels)[0]
    assert check_table(plain(7, 8, 11, 21, 23), labels) == ()


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes7"])
def test_small_label_ids_are_told_from_train_ids_by_their_pixels(name: str) -> None:
    def counted(*ids: int) -> list:
        return [mask.without_pixels() for mask in plain(*ids)] * 16

    assert check_table(counted(0, 7, 8, 11, 17), BUILTIN_TABLES[name]()) == ()
    with pytest.raises(BuildError, match=r"they fit --labels=cityscapes_train_ids\. "):
        check_table(counted(0, 0, 0, 2, 8, 10, 13), BUILTIN_TABLES[name]())


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes7"])
def test_masks_of_camvid_are_not_taken_for_train_ids(name: str, camvid: Path) -> None:
    """By the pixels of each id: the ids alone fit both tables."""
    paths = sorted((camvid / "masks" / "val").glob("*.png"))[:4]
    found = [
        stored_mask(data, *open_mask(data, LIMIT)).without_pixels() for path in paths for data in [path.read_bytes()]
    ]
    (note,) = check_table(found, BUILTIN_TABLES[name]())
    assert "they fit --labels=camvid11." in note


@pytest.mark.parametrize("file", [saved(np.array([[3, 3, 5]], np.uint8)), saved(np.full((2, 2, 3), 9, np.uint8))])
def test_the_pixels_of_each_value_are_counted(file: bytes) -> None:
    found = stored_mask(file, *open_mask(file, LIMIT))
    counts = found.without_pixels().counts
    assert counts is not None
    assert counts.tolist() == [int((found.samples == value).sum()) for value in found.values]


def test_a_note_on_the_masks_names_its_split(tmp_path: Path) -> None:
    source = make_flat(tmp_path)
    recipe = recipe_of("--labels=cityscapes19")
    chosen = choose_pairs(find_pairs(recipe, str(source)).pairs, recipe)
    notes = survey({split: pairs[:4] for split, pairs in chosen.items()}, recipe).notes
    assert [note.partition(":")[0] for note in notes] == ["train", "val"]


def test_label_ids_are_no_train_ids() -> None:
    labels = BUILTIN_TABLES["cityscapes_train_ids"]()
    with pytest.raises(BuildError, match="--labels=cityscapes19"):
        check_table(plain(7, 8, 11, 21, 23), labels)
    assert check_table(plain(0, 18, 255), labels) == ()


def test_the_table_of_train_ids_is_that_of_label_ids_read_later() -> None:
    labels, train = BUILTIN_TABLES["cityscapes19"](), BUILTIN_TABLES["cityscapes_train_ids"]()
    assert train.train_id_of[[*range(19), 255]].tolist() == [*range(19), IGNORE]
    assert [(row.name, row.color) for row in train.classes] == [(row.name, row.color) for row in labels.classes]


def test_minus_one_in_16_bits_is_told_where_the_rest_is_ignored() -> None:
    (note,) = check_table(plain(7, 65535), TABLES["rest"])
    assert note == "masks hold 65535, which is -1 in 16 bits: `ignore: rest` ignores it"


@pytest.mark.slow
def test_minus_one_in_16_bits_is_counted_beyond_the_masks_that_were_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a build that was stopped as well; the manifest of sound masks has no field for it."""
    monkeypatch.setattr("beam_pipelines.shards.survey.LOOKED_AT", 0)
    monkeypatch.setattr("beam_pipelines.shards.survey.LEAST_OF_SPLIT", 1)
    source, labels = make_uneven(tmp_path / "in", train=4, val=2), tmp_path / "rest.yaml"
    labels.write_text(json.dumps({"classes": [{"name": f"c{n}", "ids": [n]} for n in range(11)], "ignore": "rest"}))
    arguments = (f"--input={source}", f"--labels={labels}", "--image_size=native", "--shards=train=2,val=1")
    output = f"--output={tmp_path / 'out'}"
    assert build(*arguments, f"--output={tmp_path / 'sound'}") == 0
    assert "minus_one_pixels" not in json.loads((tmp_path / "sound" / "dataset.json").read_text())["additions"]
    assert "65535" not in capsys.readouterr().out
    for path in sorted((source / "masks" / "train").glob("train_*.png"))[:2]:
        mask = np.asarray(Image.open(path)).astype(np.uint16)
        mask[:3, :5] = 65535
        path.write_bytes(imagecodecs.png_encode(mask))
    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.shards.ownership.finish", stop)
        assert build(*arguments, output) == 130
    (tmp_path / "out" / "dataset.json").unlink()
    capsys.readouterr()
    assert build(*arguments, output) == 0
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["additions"]["minus_one_pixels"] == 30
    assert "warning: 30 pixels of masks are 65535, which is -1 in 16 bits" in capsys.readouterr().out


def stop(*_: object) -> None:
    raise KeyboardInterrupt


# What was stored again with an order, a depth or a mark that says other things than the ids.


@pytest.mark.slow
def test_a_palette_with_the_colors_of_the_table_at_other_indices_is_not_read_by_index(masks: list[np.ndarray]) -> None:
    """Void was erased: its entry is transparent, comes first, and has no color that could be looked up."""
    files = [palette_png(in_colors(mask), range(12), 0, transparent=True) for mask in masks]
    with pytest.raises(BuildError, match=r"indices can't be ids.*--masks_are"):
        surveyed(files, CAMVID)
    gray = [saved(mask) for mask in masks]
    with pytest.raises(BadInputError) as caught:
        decode_mask(files[0], CAMVID, LIMIT, surveyed(gray, CAMVID).reading)
    assert caught.value.reason == "contradictory_mask"


@pytest.mark.slow
def test_a_color_that_the_table_lacks_does_not_make_indices_ids(masks: list[np.ndarray]) -> None:
    road_off_by_one = CAMVID.palette.copy()
    road_off_by_one[3] += np.array([0, 0, 1], np.uint8)
    files = [palette_png(road_off_by_one[np.minimum(mask, 10)], range(11), 0) for mask in masks]
    with pytest.raises(BuildError, match="--masks_are"):
        surveyed(files, CAMVID)


def test_white_before_black_is_no_order_of_ids() -> None:
    binary = table((0, 0, None), (1, 1, None))
    picture = Image.fromarray(np.array([[0, 0, 1, 1]], np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    files = [saved(picture)] * 3
    with pytest.raises(BuildError, match=r"--masks_are"):
        surveyed(files, binary)


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_a_mask_that_is_turned_by_exif_is_rejected(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = saved(Image.fromarray(np.array([[0, 1]], np.uint8)), exif=exif)
    with pytest.raises(BadInputError) as caught:
        open_mask(turned, LIMIT)
    assert caught.value.reason == "rotated"


def test_ids_of_8_bits_in_16_are_not_ignored_as_the_rest() -> None:
    labels = table((0, 0, None), (1, 1, None), ignore_rest=True)
    deep = [imagecodecs.png_encode(np.array([[0, 1]], np.uint16) * np.uint16(factor)) for factor in (1, 1, 257)]
    reading = MaskReading((IDS,), (GRAY,))
    assert decode_mask(deep[0], labels, LIMIT, reading).tolist() == [[0, 1]]
    with pytest.raises(BadInputError, match="were 8-bit ids converted to 16 bits"):
        decode_mask(deep[2], labels, LIMIT, reading)


def test_masks_of_0_and_255_among_those_of_0_and_1_are_told() -> None:
    binary = TABLES["binary without colors"]
    files = [saved(np.array([pair], np.uint8)) for pair in ((0, 1), (0, 255))]
    ordinary, odd = (stored_mask(file, *open_mask(file, LIMIT)) for file in files)
    assert "warning: 1 of 4 examined masks" in check_table([ordinary] * 3 + [odd], binary)[0]
    assert not check_table([ordinary] * 4, binary)


@pytest.mark.parametrize("kind", ["RGB", "palette"])
def test_masks_with_several_colors_of_a_class_are_read_as_the_class(masks: list[np.ndarray], kind: str) -> None:
    """Real masks of SegNet, drawn in all of Cambridge's colors for each of its classes."""
    labels = BUILTIN_TABLES["camvid32_to_camvid11"]()
    void = next(row for row in labels.labels if row.train_id == IGNORE)
    files, masks = [], [mask[::4, ::4] for mask in masks[:4]]
    for mask in masks:
        colors = np.zeros((*mask.shape, 3), np.uint8)
        for row in (*labels.classes, void):
            several, there = np.array(row.colors_in_masks, np.uint8), mask == min(row.train_id, 11)
            colors[there] = several[np.arange(there.sum()) % len(several)]
        files.append(saved(colors) if kind == "RGB" else palette_png(colors, by_frequency(colors), 0))
    found = surveyed(files, labels)
    assert found.reading.ways == (COLORS,)
    for file, mask in zip(files, masks, strict=True):
        train_ids = labels.train_id_of[decode_mask(file, labels, LIMIT, found.reading)]
        assert np.array_equal(train_ids, np.where(mask == 11, IGNORE, mask))
