from __future__ import annotations

import io
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.contract.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    CorruptRecordError,
    footer_of,
    framed_bytes,
    header_of,
    read_chosen,
    read_records,
)

RECORDS = [b"a first record", b"", b"the third record, which is damaged below", b"a last one"]
START = sum(framed_bytes(len(record)) for record in RECORDS[:2])  # of the third record
WHERE = f"train.tfrecord: record 2 at byte {START:,}"


def framed(records: list[bytes]) -> bytes:
    return b"".join(header_of(record) + record + footer_of(record) for record in records)


def read(data: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(data), "train.tfrecord"))


def written_by_tensorflow(records: list[bytes], path: Path) -> bytes:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path.read_bytes()


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=50)
def test_a_file_equals_tensorflows_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "theirs.tfrecord"
    data = framed(records)
    assert data == written_by_tensorflow(records, path)
    assert len(data) == sum(framed_bytes(len(record)) for record in records)
    assert read(data) == records


def test_tensorflow_reads_what_is_written_here(tmp_path: Path) -> None:
    path = tmp_path / "ours.tfrecord"
    path.write_bytes(framed(RECORDS))
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == RECORDS


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.data())
def test_chosen_records_are_those_of_their_numbers(records: list[bytes], data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(records) - 1)))
    found = read_chosen(io.BytesIO(framed(records)), numbers, "train.tfrecord")
    assert list(found) == [(number, records[number]) for number in sorted(set(numbers))]


def test_records_that_are_not_chosen_are_skipped_unread() -> None:
    data = io.BytesIO(flipped(START + HEADER_BYTES))
    assert list(read_chosen(data, [1, 3], "train.tfrecord")) == [(1, b""), (3, b"a last one")]
    with pytest.raises(CorruptRecordError, match="data checksum mismatch"):
        list(read_chosen(data, [2], "train.tfrecord"))
    with pytest.raises(CorruptRecordError, match="the file ends after 0 of 12 header bytes"):
        list(read_chosen(data, [4], "train.tfrecord"))


def test_an_empty_file_has_no_records() -> None:
    assert read(b"") == []


def flipped(position: int) -> bytes:
    data = bytearray(framed(RECORDS))
    data[position] ^= 16
    return bytes(data)


FOOTER = START + HEADER_BYTES + len(RECORDS[2])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(flipped(START), "length checksum mismatch", id="length"),
        pytest.param(flipped(START + 8), "length checksum mismatch", id="checksum of the length"),
        pytest.param(flipped(START + HEADER_BYTES), "data checksum mismatch", id="data"),
        pytest.param(flipped(FOOTER), "data checksum mismatch", id="checksum of the data"),
        pytest.param(
            framed(RECORDS)[: START + 5], f"the file ends after 5 of {HEADER_BYTES} header bytes", id="cut in header"
        ),
        pytest.param(
            framed(RECORDS)[: START + HEADER_BYTES],
            f"the file ends inside the record, which has {len(RECORDS[2])} bytes",
            id="cut before data",
        ),
        pytest.param(
            framed(RECORDS)[: FOOTER - 1],
            f"the file ends inside the record, which has {len(RECORDS[2])} bytes",
            id="cut in data",
        ),
        pytest.param(
            framed(RECORDS)[: FOOTER + FOOTER_BYTES - 1],
            f"the file ends inside the record, which has {len(RECORDS[2])} bytes",
            id="cut in footer",
        ),
    ],
)
def test_damage_is_told_with_file_record_and_byte_after_the_good_records(data: bytes, problem: str) -> None:
    records = read_records(io.BytesIO(data), "train.tfrecord")
    good: list[bytes] = []
    with pytest.raises(CorruptRecordError) as caught:
        good.extend(records)
    assert str(caught.value) == f"{WHERE}: {problem}"
    assert good == RECORDS[:2]


def test_the_byte_of_a_late_record_is_readable() -> None:
    data = framed([bytes(1_234_567), b"late"])
    with pytest.raises(CorruptRecordError, match="record 1 at byte 1,234,583: data checksum mismatch"):
        read(data[:-1] + bytes([data[-1] ^ 1]))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_no_flipped_bit_goes_unseen(records: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(framed(records))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecordError, match=r"^train\.tfrecord: record \d at byte \d+: "):
        read(bytes(whole))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_a_cut_file_is_damaged_unless_it_ends_between_records(records: list[bytes], data: st.DataObject) -> None:
    whole = framed(records)
    ends = [len(framed(records[:count])) for count in range(len(records) + 1)]
    cut = data.draw(st.integers(0, len(whole)))
    if cut in ends:
        assert read(whole[:cut]) == records[: ends.index(cut)]
    else:
        with pytest.raises(CorruptRecordError, match="the file ends"):
            read(whole[:cut])
