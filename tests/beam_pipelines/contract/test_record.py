from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import random
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_pipelines.contract.record import (
    FIELDS,
    IMAGE_FORMATS,
    Record,
    RecordError,
    decode,
    encode,
    parse,
)
from beam_pipelines.pixels.conform import Sample
from tests.support.handmade import to_record

LARGEST = 2**63 - 1
MASK_FORMATS = ("raw_uint8", "png")

RECORDS = st.builds(
    Record,
    filename=st.text(st.characters(exclude_categories=["Cs"])),
    height=st.integers(0, LARGEST),
    width=st.integers(0, 65535),
    image=st.binary(max_size=400),
    image_format=st.sampled_from(IMAGE_FORMATS),
    mask=st.binary(max_size=200),
    mask_format=st.sampled_from(MASK_FORMATS),
    channels=st.integers(0, 300),
)
PLAIN = Record(
    filename="train/ä_0001.png",
    height=2,
    width=300,
    image=bytes(range(200)),
    image_format="raw_uint8",
    mask=b"\x00\xff" * 70,
    mask_format="png",
)


def feature(value: bytes | str | int) -> tf.train.Feature:
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    encoded = value.encode() if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))


def features_of(record: Record) -> dict[str, tf.train.Feature]:
    return {field: feature(getattr(record, attribute)) for field, attribute in FIELDS.items()}


def by_tensorflow(features: dict[str, tf.train.Feature]) -> bytes:
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


@given(RECORDS)
@example(PLAIN)
@settings(max_examples=200)
def test_a_record_equals_tensorflows_serialization_byte_for_byte(record: Record) -> None:
    assert encode(record) == by_tensorflow(features_of(record))


def test_a_record_of_real_size_equals_tensorflows_serialization() -> None:
    pixels = random.Random(0).randbytes(256 * 512 * 3)
    record = replace(PLAIN, image=pixels, mask=pixels[: 256 * 512], height=256, width=512)
    assert encode(record) == by_tensorflow(features_of(record))


def test_the_fields_are_those_of_the_model_garden_in_the_order_of_their_names() -> None:
    assert sorted(FIELDS) == [
        "image/channels",
        "image/encoded",
        "image/filename",
        "image/format",
        "image/height",
        "image/segmentation/class/encoded",
        "image/segmentation/class/format",
        "image/width",
    ]
    assert list(FIELDS) == sorted(FIELDS)


@given(RECORDS)
def test_decoding_is_the_inverse_of_encoding(record: Record) -> None:
    assert decode(encode(record)) == record


# What follows writes protobuf's wire format by its specification, in forms that TensorFlow's own writer may choose.


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry_of(name: str, value: bytes | str | int, packed: bool = True, value_first: bool = False) -> bytes:
    if isinstance(value, int):
        values = field(3, field(1, varint(value)) if packed else varint(1 << 3) + varint(value))
    else:
        values = field(1, field(1, value.encode() if isinstance(value, str) else value))
    parts = [field(1, name.encode()), field(2, values)]
    return field(1, b"".join(reversed(parts) if value_first else parts))


@given(RECORDS, st.permutations(list(FIELDS)), st.booleans(), st.booleans(), st.integers(0, 8))
def test_fields_in_any_order_packed_or_not_in_one_message_or_two_are_read(
    record: Record, order: list[str], packed: bool, value_first: bool, cut: int
) -> None:
    entries = [entry_of(name, getattr(record, FIELDS[name]), packed, value_first) for name in order]
    serialized = field(1, b"".join(entries[:cut])) + field(1, b"".join(entries[cut:]))
    assert tf.train.Example.FromString(serialized).SerializeToString(deterministic=True) == encode(record)
    assert decode(serialized) == record


def test_what_tensorflow_writes_without_an_order_is_read() -> None:
    example = tf.train.Example()
    for name, value in reversed(features_of(PLAIN).items()):
        example.features.feature[name].CopyFrom(value)
    assert decode(example.SerializeToString()) == PLAIN


def test_fields_that_others_add_are_passed_over() -> None:
    extra = {
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[3, 300, -1])),
        "image/object/area": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, 2.0])),
        "image/object/text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"b"])),
        "image/empty": tf.train.Feature(bytes_list=tf.train.BytesList()),
        "image/none": tf.train.Feature(),
    }
    assert decode(by_tensorflow(features_of(PLAIN) | extra)) == PLAIN


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("image/height", feature(b"32"), "image/height is not a number"),
        ("image/encoded", feature(32), "image/encoded is a number"),
        ("image/filename", feature(32), "image/filename is a number"),
        ("image/filename", feature(b"\xff"), "image/filename is not UTF-8: 'utf-8' codec can't decode byte 0xff"),
        ("image/width", tf.train.Feature(), "image/width has 0 values; it must have 1"),
        (
            "image/width",
            tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2])),
            "image/width has 2 values; it must have 1",
        ),
        (
            "image/encoded",
            tf.train.Feature(float_list=tf.train.FloatList(value=[1])),
            "image/encoded has 0 values; it must have 1",
        ),
    ],
)
def test_a_field_of_another_type_is_refused(name: str, value: tf.train.Feature, problem: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode(by_tensorflow(features_of(PLAIN) | {name: value}))
    assert str(caught.value).startswith(problem)


def test_missing_fields_are_named() -> None:
    features = features_of(PLAIN)
    del features["image/width"], features["image/encoded"]
    with pytest.raises(RecordError, match=r"^the Example has no image/encoded, image/width$"):
        decode(by_tensorflow(features))


@pytest.mark.parametrize("serialized", [b"", by_tensorflow({})])
def test_an_empty_example_has_no_fields(serialized: bytes) -> None:
    with pytest.raises(RecordError, match=r"^the Example has no image/channels, image/encoded"):
        decode(serialized)


@pytest.mark.parametrize(
    ("serialized", "problem"),
    [
        (b"\x0a\x05abc", "a field ends at byte 7 of 5"),
        (b"\x0b\x00", "unexpected wire type 3"),
        (b"\x08\x01", "field 1 is a number where bytes belong"),
        (b"\x0a", "index out of bounds on dimension 1"),
        (b"\x02\x00", "there is no field 0"),
        (b"\x80" * 1000 + b"\x01", "the varint before byte 10 does not end"),
        (
            field(1, field(1, field(1, b"a") + field(2, field(3, b"") + field(1, field(1, b"b"))))),
            "a feature with more than one list of values",
        ),
        (b"\x89PNG\r\n\x1a\n", "unexpected wire type"),
    ],
)
def test_bytes_that_are_no_example_are_refused_with_the_reason(serialized: bytes, problem: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode(serialized)
    assert str(caught.value).startswith(f"not a serialized tf.train.Example: {problem}")


def assert_like_tensorflow_or_refused(serialized: bytes) -> None:
    """Either a RecordError, or what TensorFlow reads; any other exception fails."""
    try:
        record = decode(serialized)
    except RecordError:
        return
    features = tf.train.Example.FromString(serialized).features.feature
    for name, attribute in FIELDS.items():
        value = getattr(record, attribute)
        if isinstance(value, int):
            assert [number % 2**64 for number in features[name].int64_list.value] == [value % 2**64]
        else:
            expected = value.encode() if isinstance(value, str) else value
            assert list(features[name].bytes_list.value) == [expected]


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_random_bytes_raise_nothing_but_record_error(serialized: bytes) -> None:
    assert_like_tensorflow_or_refused(serialized)


# Small messages that are nearly an Example: random bytes hardly ever get beyond the first field.
NEARLY = st.recursive(
    st.binary(max_size=6) | st.integers(0, 2**64 - 1).map(lambda value: varint(1 << 3) + varint(value)),
    lambda inner: st.lists(st.builds(field, st.integers(0, 4), inner), max_size=3).map(b"".join),
    max_leaves=20,
)


@given(NEARLY)
@settings(max_examples=500)
def test_messages_of_another_shape_raise_nothing_but_record_error(serialized: bytes) -> None:
    assert_like_tensorflow_or_refused(serialized)


@given(st.sampled_from(list(FIELDS)), NEARLY)
def test_a_field_with_strange_content_is_refused_or_read_as_tensorflow_does(name: str, content: bytes) -> None:
    strange = field(1, field(1, name.encode()) + field(2, content))
    others = [entry_of(other, getattr(PLAIN, FIELDS[other])) for other in FIELDS if other != name]
    assert_like_tensorflow_or_refused(field(1, b"".join([*others, strange])))


@given(RECORDS, st.data())
def test_a_truncated_record_is_refused(record: Record, data: st.DataObject) -> None:
    serialized = encode(record)
    cut = data.draw(st.integers(0, len(serialized) - 1))
    with pytest.raises(RecordError):
        decode(serialized[:cut])


@given(st.data())
@settings(max_examples=500)
def test_a_record_with_flipped_bits_is_refused_or_read_as_tensorflow_does(data: st.DataObject) -> None:
    serialized = bytearray(encode(replace(PLAIN, image=b"image", mask=b"mask")))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(serialized) - 1), min_size=1, max_size=3)):
        serialized[bit // 8] ^= 1 << bit % 8
    assert_like_tensorflow_or_refused(bytes(serialized))


IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
MASK = np.random.default_rng(1).integers(0, 256, (5, 7), np.uint8)


def record_of(image_format: str, mask_format: str) -> tuple[Record, np.ndarray]:
    """-> (record, the image it holds)."""
    if image_format in ("raw_float32", "raw_float16"):
        image = ((IMAGE / 255 - 0.5) / 0.25).astype(image_format.removeprefix("raw_"))
        record = to_record(Sample("a.png", IMAGE, MASK), "raw_uint8", mask_format)
        return replace(record, image=image.tobytes(), image_format=image_format), image
    return to_record(Sample("a.png", IMAGE, MASK), image_format, mask_format), IMAGE


@pytest.mark.parametrize("size", [(5, 7), (None, None), (5, None)])
@pytest.mark.parametrize("mask_format", MASK_FORMATS)
@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
@pytest.mark.parametrize("in_tf_data", [False, True])
def test_parse_gives_back_the_tensors(
    image_format: str, mask_format: str, size: tuple[int | None, int | None], in_tf_data: bool
) -> None:
    record, image = record_of(image_format, mask_format)
    height, width = size
    options: dict[str, Any] = {
        "image_format": image_format,
        "mask_format": mask_format,
        "height": height,
        "width": width,
    }
    if in_tf_data:
        dataset = tf.data.Dataset.from_tensors(encode(record)).map(lambda serialized: parse(serialized, **options))
        assert dataset.element_spec == {
            "image": tf.TensorSpec((height, width, 3), image.dtype),
            "mask": tf.TensorSpec((height, width), tf.uint8),
            "filename": tf.TensorSpec((), tf.string),
        }
        (parsed,) = dataset
    else:
        parsed = parse(tf.constant(encode(record)), **options)
    assert parsed["image"].dtype == image.dtype
    np.testing.assert_array_equal(parsed["image"], image)
    np.testing.assert_array_equal(parsed["mask"], MASK)
    assert parsed["filename"].numpy() == b"a.png"


def test_parse_refuses_a_record_of_another_size_than_the_manifest_says() -> None:
    record, _ = record_of("raw_uint8", "raw_uint8")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"not compatible with expected shape"):
        parse(tf.constant(encode(record)), image_format="raw_uint8", mask_format="raw_uint8", height=7, width=5)
