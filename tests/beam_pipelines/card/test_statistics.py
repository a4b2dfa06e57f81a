"""Statistics: sums that are the same in any grouping, and that NumPy finds in the records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.card import statistics, statistics_file
from beam_pipelines.card.statistics import DISTRIBUTIONS, FIRST, MOST, CombineStatisticsFn, Statistics, bins_of
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.index import HEAT_MAP, ClassPlace, Example, Index
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.png import decode_png
from beam_pipelines.contract.schema import SchemaError
from tests.support.builds import build, make_uneven, no_transform

CLASSES = 3
sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    height, width = draw(sizes)
    values = 3 * height * width
    classes = draw(st.dictionaries(st.sampled_from([0, 1, 2, IGNORE]), st.integers(1, 9), min_size=1))
    level = draw(st.integers(0, 255))
    return Example(
        key=draw(st.text("ab", max_size=3)),
        filename="x.png",
        source_size=draw(sizes),
        size=(height, width),
        levels=(values * level, values * level**2 + draw(st.integers(0, 3))),
        classes={train_id: ClassPlace(pixels, bytes(32)) for train_id, pixels in classes.items()},
        pixels_digest="0" * 32,
        hashes=("0" * 16, "0" * 16),
    )


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    found = draw(st.lists(examples(), max_size=FIRST + 2))
    heat_maps: dict[int, np.ndarray] = {}
    for example in found:
        for train_id, place in example.classes.items():
            cells = heat_maps.setdefault(train_id, np.zeros(HEAT_MAP, np.int64))
            cells[draw(st.integers(0, 15)), draw(st.integers(0, 31))] += place.pixels
    histogram = np.zeros((3, 256), np.int64)
    histogram[:, draw(st.integers(0, 255))] = sum(int(cells.sum()) for cells in heat_maps.values())
    return Index(split="train", moments=Moments(histogram), heat_maps=heat_maps, examples=found)


def text(total: Statistics) -> str:
    return statistics_file.to_json({"train": total})


@given(st.lists(indexes(), min_size=1, max_size=6), st.data())
def test_any_grouping_and_order_of_a_sum_gives_the_same(found: list[Index], data: st.DataObject) -> None:
    shards = [f"train-{number:05d}-of-00006.tfrecord" for number in range(len(found))]
    parts = [Statistics.of(index, shard, CLASSES) for index, shard in zip(found, shards, strict=True)]
    expected = text(sum(parts, Statistics.zero(CLASSES)))
    combine = CombineStatisticsFn(CLASSES)
    bundles: list[Statistics] = [combine.create_accumulator() for _ in range(3)]
    for part in data.draw(st.permutations(parts)):
        bundle = data.draw(st.integers(0, 2))
        bundles[bundle] = combine.add_input(bundles[bundle], part)
    merged = combine.merge_accumulators(data.draw(st.permutations(bundles)))
    assert text(combine.extract_output(merged)) == expected


@given(indexes())
def test_the_file_holds_all(found: Index) -> None:
    total = Statistics.of(found, "train-00000-of-00001.tfrecord", CLASSES)
    again = statistics_file.from_json(text(total), CLASSES, "statistics.json")
    assert text(again["train"]) == text(total)
    assert total.classes == CLASSES
    assert total.examples == len(found.examples)


def test_sizes_are_told_apart_up_to_a_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_SIZES", 2)

    def of(*widths: int) -> Statistics:
        described = [describe(size=(1, width)) for width in widths]
        return Statistics.of(index_of(*described), "train-00000-of-00001.tfrecord", CLASSES)

    assert (of(1) + of(2, 2)).sizes == {(1, 1): 1, (1, 2): 2}
    assert (of(1) + of(2, 2) + of(3)).sizes is None
    assert (of(1, 2, 3) + of(1)).sizes is None


def describe(key: str = "a", size: tuple[int, int] = (1, 1), **pixels: int) -> Example:
    return Example(
        key=key,
        filename=key,
        source_size=size,
        size=size,
        levels=(0, 0),
        classes={int(name[1:]): ClassPlace(count, bytes(32)) for name, count in pixels.items()},
        pixels_digest="0" * 32,
        hashes=("0" * 16, "0" * 16),
    )


def index_of(*found: Example) -> Index:
    return Index(split="train", moments=Moments.zero(), heat_maps={}, examples=found)


def test_the_examples_with_the_most_pixels_are_kept_by_identity() -> None:
    shards = [f"train-{number:05d}-of-00002.tfrecord" for number in range(2)]
    first = index_of(*(describe(f"a{number}", _0=number + 1) for number in range(MOST)))
    second = index_of(describe("b0", _0=3), describe("b1", _0=100), describe("b2", _1=5))
    total = sum((Statistics.of(*each, CLASSES) for each in zip((first, second), shards, strict=True)), _zero())
    ranked = [(-pixels, place.shard, place.number, place.key) for pixels, place in total.most[0]]
    assert ranked == [
        (100, shards[1], 1, "b1"),
        (4, shards[0], 3, "a3"),
        (3, shards[0], 2, "a2"),  # of equal ones that of the first shard
        (3, shards[1], 0, "b0"),
    ]
    assert [place.key for _, place in total.most[1]] == ["b2"]
    assert [place.key for place in total.first] == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]


def _zero() -> Statistics:
    return Statistics.zero(CLASSES)


@given(sizes, st.data())
def test_bins_are_those_of_the_exact_values(size: tuple[int, int], data: st.DataObject) -> None:
    """Against NumPy in float64, where that is not at the edge of a bin."""
    image = np.array(data.draw(st.lists(st.integers(0, 255), min_size=3, max_size=30)), np.int64)
    image = image[: len(image) // 3 * 3]
    levels = (int(image.sum()), int((image**2).sum()))
    example = describe(size=size)
    found = bins_of(
        Example(**{**example.__dict__, "size": (1, len(image) // 3), "levels": levels, "source_size": size})
    )
    exact = {
        "long_side": max(size) / 64,
        "aspect_ratio": size[1] / size[0] / 0.05,
        "brightness": image.mean() / DISTRIBUTIONS["brightness"].width,
        "contrast": image.std() / DISTRIBUTIONS["contrast"].width,
    }
    for name, value in exact.items():
        assert found[name] in {int(value - 1e-9), int(value + 1e-9)}, name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 2}, "format_version: is 2, and this code reads 1"),
        ({"splits": {"train": 1}}, "splits.train: expected"),
        ({"splits": None}, "splits: expected"),
        ({"splits": {}}, "crc32c: is not the checksum of what stands before it"),
    ],
)
def test_a_file_that_is_not_as_written_is_refused(change: dict, told: str) -> None:
    value = json.loads(text(_zero())) | change
    with pytest.raises(SchemaError) as refused:
        statistics_file.from_json(json.dumps(value), CLASSES, "statistics.json")
    assert told in str(refused.value)


def test_a_file_of_another_number_of_classes_is_refused() -> None:
    with pytest.raises(SchemaError, match="class_pixels: does not hold 5 numbers"):
        statistics_file.from_json(text(_zero()), CLASSES + 1, "statistics.json")


# --- of a build, against the records


@pytest.fixture(scope="module", params=["float32", "png"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, output = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    make_uneven(source, train=9, val=3)
    with no_transform():
        options = ("--labels=camvid11", "--image_size=native", f"--image_encoding={request.param}")
        assert build(f"--input={source}", f"--output={output}", *options, "--shards=train=3,val=2") == 0
    return output


def pixels(encoded: bytes, form: str, *shape: int) -> np.ndarray:
    if form == "png":
        return decode_png(encoded)
    return np.frombuffer(encoded, form.removeprefix("raw_")).reshape(shape)


def decoded(dataset: Path, manifest: Manifest, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for shard in manifest.splits[split]:
        with (dataset / shard.file).open("rb") as file:
            for each in map(record.decode, tfrecord.read_records(file, shard.file)):
                image = pixels(each.image, each.image_format, each.height, each.width, 3)
                if manifest.pixels.normalized:
                    image = np.rint(255 * (image.astype(np.float64) * manifest.moments.std + manifest.moments.mean))
                found.append((image.astype(np.int64), pixels(each.mask, each.mask_format, each.height, each.width)))
    return found


def test_the_statistics_of_a_build_are_those_of_its_records(dataset: Path) -> None:
    manifest = Manifest.from_json((dataset / "dataset.json").read_text())
    path = dataset / "card" / "statistics.json"
    splits = statistics_file.from_json(path.read_text(), 11, str(path))
    assert splits.keys() == manifest.splits.keys()
    for split, total in splits.items():
        found = decoded(dataset, manifest, split)
        masks = [np.where(mask == IGNORE, 11, mask) for _, mask in found]
        counts = np.array([np.bincount(mask.reshape(-1), minlength=12) for mask in masks])
        assert total.examples == len(found)
        assert np.array_equal(total.class_pixels, counts.sum(0))
        assert np.array_equal(total.class_examples, (counts > 0).sum(0))
        for one in range(12):
            for other in range(12):
                assert total.together[one, other] == sum((counts[:, one] > 0) & (counts[:, other] > 0))
        assert np.array_equal(total.heat_maps.sum((1, 2)), counts.sum(0))
        histogram = [
            np.bincount(np.concatenate([image[..., channel].reshape(-1) for image, _ in found]), minlength=256)
            for channel in range(3)
        ]
        assert np.array_equal(total.moments.histogram, histogram)
        brightness = np.bincount([int(image.mean() / 4) for image, _ in found], minlength=64)
        assert np.array_equal(total.distributions["brightness"], brightness)
        contrast = np.bincount([int(image.std() / 2) for image, _ in found], minlength=64)
        assert np.array_equal(total.distributions["contrast"], contrast)
        ranked = [-each for each in sorted(-counts[:, 3])[:MOST] if each]
        assert [-pixels for pixels, _ in total.most[3]] == ranked
    assert splits["train"].sizes == {(24, 40): 1, (32, 64): 9}
