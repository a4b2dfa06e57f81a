from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import moments_of, to_record, write_shard
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.conform import Sample
from beam_pipelines.contract.labels import IGNORE, Label, LabelTable
from beam_pipelines.contract.manifest import FORMAT_VERSION, Manifest, ManifestError, PixelFormat, Shard, not_built
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.record import RAW_DTYPES, encode

# A reader of tomorrow must read what was written today: a change of these files is a change of FORMAT_VERSION.
GOLDEN = Path(__file__).parent.parent / "golden"
GOLDEN_MANIFEST = GOLDEN / "dataset.json"

LABELS = LabelTable(
    name="small",
    labels=(
        Label(name="Straße", source_ids=(7, 8), train_id=0, color=(128, 64, 128), category="flat"),
        Label(name="car", source_ids=(26,), train_id=1, color=None, category="vehicle"),
        Label(name="void", source_ids=(0,), train_id=IGNORE, color=(0, 0, 0), category="void"),
    ),
    ignore_rest=True,
)


def gradient(phase: int) -> np.ndarray:
    """uint8[4, 6, 3], the same on every machine."""
    rows, columns, channels = np.ogrid[:4, :6, :3]
    return ((rows * 61 + columns * 17 + channels * 89 + phase * 37) % 256).astype(np.uint8)


SAMPLES = [Sample(f"train/scene_{index}.png", gradient(index), gradient(index)[..., 0] % 2) for index in (0, 1)]
MOMENTS = moments_of(*(sample.image for sample in SAMPLES))


def written_by_the_pipeline(image_format: str) -> bytes:
    """The samples staged, decoded again, normalized."""
    pytest.importorskip("apache_beam", reason="apache-beam is not installed")
    from beam_pipelines.normalize import Normalizer
    from beam_pipelines.shards import ShardWriter, normalized
    from beam_pipelines.shards import to_record as stage

    file = io.BytesIO()
    writer = ShardWriter(file)
    for sample in SAMPLES:
        staged = stage(sample, "raw_uint8", "raw_uint8")
        if image_format == "raw_uint8":
            writer.write(encode(staged))
        else:
            writer.write(encode(normalized(staged, Normalizer(MOMENTS, RAW_DTYPES[image_format]), image_format)))
    return file.getvalue()


def small_manifest() -> Manifest:
    data = (GOLDEN / "raw_float32.tfrecord").read_bytes()
    shard = Shard(
        file="train-00000-of-00001.tfrecord",
        examples=len(SAMPLES),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    road = sum(int((sample.mask == 0).sum()) for sample in SAMPLES)
    return Manifest(
        fingerprint="0123456789abcdef" * 4,
        recipe={"input": "gs://bücket/scenes", "image_size": [4, 6], "shards": {}, "seed": 0, "max_pairs": None},
        pixels=PixelFormat(height=4, width=6, image_format="raw_float32", mask_format="raw_uint8"),
        labels=LABELS,
        moments_split="train",
        moments=MOMENTS,
        class_pixels={"train": (road, 48 - road), "val": (0, 0)},
        ignored_pixels={"train": 0, "val": 0},
        splits={"train": (shard,), "val": ()},
        rejected={"image_unreadable": 2, "unknown_id": 1},
        timing={"seconds": 1.5, "images_per_second": 1.25},
    )


def test_the_manifest_is_written_as_the_golden_file_has_it() -> None:
    assert small_manifest().to_json() == GOLDEN_MANIFEST.read_text(encoding="utf-8")


def test_the_golden_manifest_is_read() -> None:
    assert Manifest.from_json(GOLDEN_MANIFEST.read_text(encoding="utf-8")) == small_manifest()


@pytest.mark.parametrize("image_format", RAW_DTYPES)
def test_a_shard_is_written_as_the_golden_file_has_it(image_format: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", [to_record(sample, image_format, moments=MOMENTS) for sample in SAMPLES])
    assert (tmp_path / "shard").read_bytes() == (GOLDEN / f"{image_format}.tfrecord").read_bytes()


@pytest.mark.parametrize("image_format", RAW_DTYPES)
def test_the_pipeline_writes_a_shard_as_the_golden_file_has_it(image_format: str) -> None:
    assert written_by_the_pipeline(image_format) == (GOLDEN / f"{image_format}.tfrecord").read_bytes()


def test_derived_numbers_stand_in_the_json_for_other_readers() -> None:
    manifest = small_manifest()
    value = json.loads(manifest.to_json())
    pixels = np.stack([sample.image for sample in SAMPLES]).reshape(-1, 3) / 255
    np.testing.assert_allclose(value["moments"]["mean"], pixels.mean(0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(value["moments"]["std"], pixels.std(0), rtol=0, atol=1e-12)
    assert value["moments"]["pixels"] == 2 * 4 * 6
    assert value["format_version"] == FORMAT_VERSION
    assert (value["pixels"]["channels"], value["pixels"]["normalized"]) == (3, True)
    assert value["splits"]["train"]["examples"] == manifest.examples("train") == 2
    assert manifest.bytes("train") == (GOLDEN / "raw_float32.tfrecord").stat().st_size
    assert value["rejected"]["pairs"] == 3


counts = st.integers(0, 2**53)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain = st.none() | st.booleans() | counts | st.floats(allow_nan=False) | names
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    splits = draw(st.lists(names, unique=True, max_size=3))
    shard = st.builds(Shard, file=names, examples=counts, bytes=counts, sha256=names)
    histogram = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2**40, (3, 256))
    return Manifest(
        fingerprint=draw(names),
        recipe=draw(st.dictionaries(names, values, max_size=4)),
        pixels=PixelFormat(
            height=draw(st.none() | counts),
            width=draw(st.none() | counts),
            image_format=draw(st.sampled_from(["raw_float32", "raw_float16", "raw_uint8", "png"])),
            mask_format=draw(st.sampled_from(["raw_uint8", "png"])),
        ),
        labels=replace(LABELS, name=draw(names), ignore_rest=draw(st.booleans())),
        moments_split=draw(names),
        moments=Moments(histogram),
        class_pixels={split: tuple(draw(st.lists(counts, max_size=3))) for split in splits},
        ignored_pixels={split: draw(counts) for split in splits},
        splits={split: tuple(draw(st.lists(shard, max_size=2))) for split in splits},
        rejected=draw(st.dictionaries(names, counts, max_size=3)),
        timing=draw(st.dictionaries(names, values, max_size=3)),
    )


@given(manifests())
def test_a_manifest_survives_json(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text
    assert Manifest.from_json(text.encode().decode()) == manifest


@pytest.mark.parametrize(
    ("image_format", "normalized", "dtype"),
    [
        ("raw_float32", True, "float32"),
        ("raw_float16", True, "float16"),
        ("raw_uint8", False, "uint8"),
        ("png", False, "uint8"),
    ],
)
def test_the_image_format_says_type_and_normalization(image_format: str, normalized: bool, dtype: str) -> None:
    pixels = PixelFormat(height=1, width=1, image_format=image_format, mask_format="png")
    assert (pixels.normalized, pixels.dtype) == (normalized, dtype)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_version_is_refused_with_what_to_do(version: object) -> None:
    value = json.loads(small_manifest().to_json()) | {"format_version": version}
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(value), "gs://b/dataset.json")
    assert str(caught.value) == (
        f"gs://b/dataset.json has format version {version!r} and this code reads 1: "
        "use the version of this project that wrote it, or build the data set again"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"text"', "{}", '{"fingerprint": "0"}', "\x00"])
def test_a_text_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"^d\.json is not the manifest of a data set \(.+\); build the data set$"):
        Manifest.from_json(text, "d.json")


FIELDS = [name for name in json.loads(GOLDEN_MANIFEST.read_text(encoding="utf-8")) if name != "format_version"]


@pytest.mark.parametrize("name", FIELDS)
def test_a_manifest_without_one_of_its_fields_is_damaged(name: str) -> None:
    value = json.loads(small_manifest().to_json())
    del value[name]
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(value))
    assert str(caught.value) == f"dataset.json is damaged (KeyError('{name}')); build the data set again"


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value inside `value`, but of one number only in each list of numbers."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:1] if isinstance(value[0] if value else 0, int) else value))
    found = [place] if place else []
    for key, item in inner:
        found += places(item, (*place, key))
    return found


def refusal_of(text: str) -> str | None:
    try:
        Manifest.from_json(text)
    except ManifestError as error:
        return str(error)
    return None


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_value_raises_nothing_but_manifest_error(data: st.DataObject) -> None:
    value = json.loads(small_manifest().to_json())
    *parents, last = data.draw(st.sampled_from(places(value)))
    holder = value
    for key in parents:
        holder = holder[key]
    holder[last] = data.draw(values | st.just(2**80))
    refusal = refusal_of(json.dumps(value))
    assert refusal is None or refusal.startswith("dataset.json ")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("splits", []),
        ("splits", {"train": {"shards": [{"file": "a"}]}}),
        ("class_pixels", 5),
        ("moments", {"split": "train", "histogram": [[1]]}),
        ("moments", {"split": "train", "histogram": [[2**80]]}),
        ("labels", {"name": "empty", "ignore_rest": False, "labels": []}),
        ("pixels", None),
    ],
)
def test_a_field_of_another_shape_is_damaged(place: str, value: object) -> None:
    manifest = json.loads(small_manifest().to_json()) | {place: value}
    with pytest.raises(ManifestError, match=r"^dataset\.json is damaged \(.+\); build the data set again$"):
        Manifest.from_json(json.dumps(manifest))


def test_the_user_of_a_folder_without_a_manifest_is_told_how_to_go_on() -> None:
    assert not_built("gs://b/scenes") == (
        "gs://b/scenes has no dataset.json: there is no data set, or its build did not finish. "
        "Start the same `python -m beam_pipelines.build` command again; it goes on where it stopped"
    )
