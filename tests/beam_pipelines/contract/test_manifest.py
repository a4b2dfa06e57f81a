from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.contract.labels import IGNORE, Label, LabelTable
from beam_pipelines.contract.manifest import FORMAT_VERSION, Manifest, ManifestError, PixelFormat, Shard, not_built
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.record import IMAGE_FORMATS, RAW_DTYPES, encode, least_bytes
from beam_pipelines.pixels.conform import Sample
from tests.support.handmade import moments_of, to_record, write_shard

# A reader of tomorrow must read what was written today: a change of these files is a change of FORMAT_VERSION.
GOLDEN = Path(__file__).parents[2] / "golden"
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
    from beam_pipelines.pixels.normalize import Normalizer
    from beam_pipelines.shards.finish import normalized
    from beam_pipelines.shards.stage import ShardWriter
    from beam_pipelines.shards.stage import to_record as stage

    file = io.BytesIO()
    writer = ShardWriter(file)
    for sample in SAMPLES:
        staged = stage(sample, "raw_uint8", "raw_uint8")
        if image_format == "raw_uint8":
            writer.write(encode(staged))
        else:
            writer.write(
                encode(normalized(staged, Normalizer(MOMENTS.normalization, RAW_DTYPES[image_format]), image_format))
            )
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


counts = st.integers(0, 2**40)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain_names = names.filter(lambda name: name not in ("", ".", "..") and not re.search(r"[/\x00-\x1f\x7f]", name))
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
plain = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | names
)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@st.composite
def shards(draw: st.DrawFn, splits: list[str], pixels: PixelFormat) -> dict[str, tuple[Shard, ...]]:
    least = least_bytes(pixels.image_format, pixels.mask_format, pixels.height, pixels.width)
    found: dict[str, tuple[Shard, ...]] = {}
    for split in splits:
        examples = draw(st.lists(st.integers(0, 9), max_size=2))
        found[split] = tuple(
            Shard(
                file=f"{split}-{index}",
                examples=count,
                bytes=count * least and count * least + draw(counts),
                sha256=draw(digests),
            )
            for index, count in enumerate(examples)
        )
    return found


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Whose numbers fit each other."""
    splits = draw(st.lists(plain_names, unique=True, min_size=1, max_size=3))
    size = draw(st.tuples(*[st.integers(1, 2**15)] * 2) | st.just((None, None)))
    pixels = PixelFormat(
        height=size[0],
        width=size[1],
        image_format=draw(st.sampled_from(["raw_float32", "raw_float16", "raw_uint8", "png"])),
        mask_format=draw(st.sampled_from(["raw_uint8", "png"])),
    )
    found = draw(shards(splits, pixels))
    found[splits[0]] += (Shard(file="first", examples=1, bytes=2**40, sha256=draw(digests)),)
    examples = {split: sum(shard.examples for shard in found[split]) for split in splits}
    held = {split: count * size[0] * size[1] if size[0] else draw(counts) + 1 for split, count in examples.items()}
    cuts = {split: sorted(draw(st.tuples(*[st.integers(0, held[split])] * 2))) for split in splits}
    histogram = np.zeros((3, 256), np.int64)
    histogram[np.arange(3), draw(st.tuples(*[st.integers(0, 255)] * 3))] = held[splits[0]]
    return Manifest(
        fingerprint=draw(digests),
        recipe=draw(st.dictionaries(names, values, max_size=4)),
        pixels=pixels,
        labels=replace(LABELS, name=draw(names), ignore_rest=draw(st.booleans())),
        moments_split=splits[0],
        moments=Moments(histogram),
        class_pixels={split: (cuts[split][0], cuts[split][1] - cuts[split][0]) for split in splits},
        ignored_pixels={split: held[split] - cuts[split][1] for split in splits},
        splits=found,
        rejected=draw(st.dictionaries(names, counts, max_size=3)),
        timing=draw(st.dictionaries(names, values, max_size=3)),
        additions=draw(st.dictionaries(names, values, max_size=2)),
        minus_one_pixels=draw(counts),
        repairs=draw(st.dictionaries(st.sampled_from(["shift", "threshold"]), counts)),
        duplicates=draw(
            st.dictionaries(
                st.sampled_from(["train", "train/val"]), st.dictionaries(st.sampled_from(["exact", "near"]), counts)
            )
        ),
        leaks=draw(counts),
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


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, True, 1.0])
def test_another_version_is_refused_with_what_to_do(version: object) -> None:
    value = json.loads(small_manifest().to_json()) | {"format_version": version}
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(value), "gs://b/dataset.json")
    assert str(caught.value) == (
        f"gs://b/dataset.json has format version {json.dumps(version)} and this code reads 1: "
        "use the version of this project that wrote it, or build the data set again"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON: it is cut off"),
        ("{", "is not JSON: it is cut off"),
        ("[]", "expected object, found []"),
        ("null", "expected object, found null"),
        ('"text"', 'expected object, found "text"'),
        ("{}", "has no field format_version"),
        ('{"fingerprint": "0"}', "has no field format_version"),
        ("\x00", "is not JSON: invalid character (byte 0)"),
        ("\ufeff{}", "is not JSON: invalid character (byte 0)"),
        (
            "\ud800",
            "is not UTF-8: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed",
        ),
        (b"\xff", "is not JSON: invalid character (byte 0)"),
        (
            b'{"format_version": "\xff"}',
            "is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        ('{"format_version": NaN}', "is not JSON: invalid character (byte 19)"),
        ('{"format_version": -Infinity}', "is not JSON: invalid character (byte 20)"),
        ('{"format_version": 1e999}', "is not JSON: a number is out of range"),
        ('{"format_version": ' + "9" * 5000 + "}", "is not JSON: a number is out of range"),
        ('{"format_version": 1, "a": 1, "a": 1}', 'the key "a" occurs more than once'),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "more than 64 objects and arrays inside each other"),
        ('{"a": ' * 65 + "1" + "}" * 65, "more than 64 objects and arrays inside each other"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(text, "d.json")
    assert str(caught.value) == f"d.json: {problem}; restore the file or build the data set again"


FIELDS = [name for name in json.loads(GOLDEN_MANIFEST.read_text(encoding="utf-8")) if name != "format_version"]


def edited(change: Callable[[dict[str, Any]], None]) -> str:
    value = json.loads(small_manifest().to_json())
    change(value)
    return json.dumps(value)


def refused_as(problem: str) -> str:
    return f"dataset.json: {problem}; restore the file or build the data set again"


@pytest.mark.parametrize("name", FIELDS)
def test_a_manifest_without_one_of_its_fields_is_refused(name: str) -> None:
    assert refusal_of(edited(lambda value: value.pop(name))) == refused_as(f"has no field {name}")


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


def has_default(field: Field[Any]) -> bool:
    return not (field.default is field.default_factory is MISSING)


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
    assert refusal is None or refusal.startswith("dataset.json")


# The place of a value, the value that is put there, and how it is refused.
WRONG: list[tuple[str, Any, str]] = [
    ("splits", [], "splits: expected object, found []"),
    ("splits.train.shards.0", {"file": "a"}, "splits.train.shards[0]: has no field examples"),
    ("splits.train.shards.0.bytes", -5, "splits.train.shards[0].bytes: expected int >= 0, found -5"),
    ("splits.train.shards.0.bytes", 2**63, f"splits.train.shards[0].bytes: expected int <= {2**53}, found {2**63}"),
    ("splits.train.shards.0.bytes", None, "splits.train.shards[0].bytes: expected int, found null"),
    ("splits.train.shards.0.examples", True, "splits.train.shards[0].examples: expected int, found true"),
    ("splits.train.shards.0.examples", 2.0, "splits.train.shards[0].examples: expected int, found 2.0"),
    ("splits.train.shards.0.examples", "2", 'splits.train.shards[0].examples: expected int, found "2"'),
    ("splits.train.shards.0.file", "../x", 'splits.train.shards[0].file: expected a plain name, found "../x"'),
    ("splits.train.shards.0.file", "/x", 'splits.train.shards[0].file: expected a plain name, found "/x"'),
    ("splits.train.shards.0.file", "gs://b/x", 'splits.train.shards[0].file: expected a plain name, found "gs://b/x"'),
    ("splits.train.shards.0.file", "..", 'splits.train.shards[0].file: expected a plain name, found ".."'),
    ("splits.train.shards.0.file", "", 'splits.train.shards[0].file: expected a plain name, found ""'),
    ("splits.train.shards.0.file", "a\nb", 'splits.train.shards[0].file: expected a plain name, found "a\\nb"'),
    ("splits.train.shards.0.file", "a\x00", 'splits.train.shards[0].file: expected a plain name, found "a\\u0000"'),
    (
        "splits.train.shards.0.sha256",
        "f" * 63,
        f'splits.train.shards[0].sha256: expected 64 hexadecimal digits, found "{"f" * 59}...',
    ),
    ("splits.train.shards.0.color", 1, "splits.train.shards[0]: has a field color, which this version does not know"),
    ("splits.train.examples", 3, "splits.train.examples is 3, and the rest of the file says 2"),
    ("splits.train.shards.0.bytes", 9, "splits.train: train-00000-of-00001.tfrecord has 9 bytes, and its 2 examples "),
    ("splits.val.shards", [{"file": "v", "examples": 0, "bytes": 7, "sha256": "0" * 64}], "splits.val: v has 7 bytes "),
    ("splits.test", {"examples": 0, "shards": []}, 'class_pixels: names "test" and `splits` has "train, val, test"'),
    ("splits.a/b", {"examples": 0, "shards": []}, "splits: its keys: expected a plain name"),
    ("moments.split", "all", 'moments.split: names "all" and `splits` has "train, val"'),
    ("moments.histogram", [[1]], "moments.histogram: expected array of length 3, found [[1]]"),
    ("moments.histogram.1", [1] * 257, "moments.histogram[1]: expected array of length <= 256, found [1, 1, 1, "),
    ("moments.histogram.2.7", 2**80, f"moments.histogram[2][7]: expected int <= {2**53}, found {2**80}"),
    ("moments.histogram.2.7", -1, "moments.histogram[2][7]: expected int >= 0, found -1"),
    ("moments.histogram", [[0] * 256] * 3, "moments.histogram: no pixel was counted"),
    (
        "moments.histogram.2.7",
        9,
        "moments.histogram: each channel counts every pixel once, and the sums are [48, 48, 56]",
    ),
    ("moments.pixels", 47, "moments.pixels is 47, and the rest of the file says 48"),
    ("moments.mean.0", 0.5, "moments.mean is [0.5, 0.50784313"),
    ("moments.mean.0", "0.5", 'moments.mean[0]: expected float, found "0.5"'),
    ("class_pixels", 5, "class_pixels: expected object, found 5"),
    ("class_pixels.val.1", -1, "class_pixels.val[1]: expected int >= 0, found -1"),
    ("class_pixels.val", [0], "class_pixels.val: has 1 numbers for 2 classes"),
    ("class_pixels.val.1", 1, "class_pixels.val: 1 pixels with the ignored ones, and the examples have 0"),
    ("class_pixels.test", [0, 0], 'class_pixels: names "test" and `splits` has "train, val"'),
    ("ignored_pixels.train", None, "ignored_pixels.train: expected int, found null"),
    ("ignored_pixels", {"train": 0}, 'ignored_pixels: names "val" and `splits` has "train, val"'),
    ("labels.labels", [], "labels: label table 'small': it has no classes"),
    ("labels.labels.1.train_id", 0, "labels: label table 'small': train ids must be 0 to 1 without gaps or repeats"),
    ("labels.labels.1.train_id", True, "labels.labels[1].train_id: expected int, found true"),
    ("labels.labels.0.color.0", 256, "labels.labels[0].color[0]: expected int <= 255, found 256"),
    ("labels.labels.0.color", [1, 2], "labels.labels[0].color: expected array of length 3, found [1, 2]"),
    ("labels.labels.0.source_ids.0", 65536, "labels.labels[0].source_ids[0]: expected int <= 65535, found 65536"),
    ("labels.labels.0.name", 7, "labels.labels[0].name: expected str, found 7"),
    ("labels.ignore_rest", 1, "labels.ignore_rest: expected bool, found 1"),
    ("pixels", None, "pixels: expected object, found null"),
    ("pixels.height", 0, "pixels.height: expected int >= 1, found 0"),
    ("pixels.height", 5, "class_pixels.train: 48 pixels with the ignored ones, and the examples have 60"),
    ("pixels.width", 2**31, f"pixels.width: expected int <= {2**31 - 1}, found {2**31}"),
    ("pixels.image_format", "gif", "pixels.image_format: 'gif' is none of the values that it may have"),
    ("pixels.image_format", "png", "pixels.normalized is true, and the rest of the file says false"),
    ("pixels.channels", 4, "pixels.channels: 4 is none of the values that it may have"),
    ("fingerprint", "0" * 63 + "G", 'fingerprint: expected 64 hexadecimal digits, found "000'),
    ("fingerprint", "0" * 64 + "\n", 'fingerprint: expected 64 hexadecimal digits, found "000'),
    ("rejected.pairs", 4, "rejected.pairs is 4, and the rest of the file says 3"),
    ("rejected.by_reason.unknown_id", 1.5, "rejected.by_reason.unknown_id: expected int, found 1.5"),
    ("recipe", None, "recipe: expected object, found null"),
    ("timing", [], "timing: expected object, found []"),
    ("additions", 1, "additions: expected object, found 1"),
    ("additions", {"repairs": {"shift": -1}}, "additions.repairs.shift: expected int >= 0, found -1"),
    ("additions", {"duplicates": {"val": {"near": -2}}}, "additions.duplicates.val.near: expected int >= 0, found -2"),
    ("additions", {"minus_one_pixels": -1}, "additions.minus_one_pixels: expected int >= 0, found -1"),
    ("format", 1, "has a field format, which this version does not know"),
]


@pytest.mark.parametrize(
    ("place", "wrong", "problem"), WRONG, ids=[f"{place}={wrong}"[:60] for place, wrong, _ in WRONG]
)
def test_a_wrong_value_is_refused_with_its_place(place: str, wrong: Any, problem: str) -> None:
    def change(value: Any) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
        for key in parents:
            value = value[key]
        value[last] = wrong

    refusal = refusal_of(edited(change))
    assert refusal is not None
    assert refusal.startswith(f"dataset.json: {problem}")
    assert refusal.endswith("; restore the file or build the data set again")


def test_a_shard_that_is_there_twice_is_refused() -> None:
    def change(value: dict[str, Any]) -> None:
        value["splits"]["val"] = value["splits"]["train"]

    assert refusal_of(edited(change)) == refused_as("splits: the shard train-00000-of-00001.tfrecord occurs 2 times")


def test_the_first_of_several_contradictions_is_told_with_their_number() -> None:
    def change(value: dict[str, Any]) -> None:
        value["rejected"]["pairs"] = value["splits"]["train"]["examples"] = 7

    assert refusal_of(edited(change)) == refused_as(
        "splits.train.examples is 7, and the rest of the file says 2 (and 1 more)"
    )


def test_what_a_later_version_adds_is_read_and_written_again() -> None:
    text = edited(lambda value: value.update(additions={"later": [{"file": "a"}]}))
    manifest = Manifest.from_json(text)
    assert manifest.additions == {"later": [{"file": "a"}]}
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert "additions" not in small_manifest().to_json()


def test_a_field_that_earlier_versions_may_ignore_is_an_addition() -> None:
    manifest = replace(small_manifest(), minus_one_pixels=7, additions={"later": 1})
    assert json.loads(manifest.to_json())["additions"] == {"later": 1, "minus_one_pixels": 7}
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", [field.name for field in fields(Manifest) if has_default(field)])
def test_a_field_with_a_default_is_not_written_and_may_be_missing(name: str) -> None:
    text = small_manifest().to_json()
    assert f'"{name}"' not in text
    assert getattr(Manifest.from_json(text), name) == getattr(small_manifest(), name)


def test_the_formats_of_the_manifest_are_those_of_the_records() -> None:
    for image_format in IMAGE_FORMATS:
        value = replace(small_manifest().pixels, image_format=image_format)
        Manifest.from_json(replace(small_manifest(), pixels=value).to_json())


def test_the_user_of_a_folder_without_a_manifest_is_told_how_to_go_on() -> None:
    assert not_built("gs://b/scenes") == (
        "gs://b/scenes has no dataset.json: there is no data set, or its build did not finish. "
        "Run the same `python -m beam_pipelines.build` command again; it resumes where it stopped"
    )
