"""The index of a checkpoint: what TensorFlow writes is read, and what would end the process there is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from beam_pipelines.contract.tfrecord import masked_crc
from tests.support.published import write_checkpoint
from trainer.models.weights.checkpoint_index import read_index

HEADER = (b"", tensor_bundle_pb2.BundleHeaderProto(num_shards=1).SerializeToString())
Pair = tuple[bytes, bytes]


def test_an_index_of_several_blocks_is_what_tensorflow_makes_of_it(tmp_path: Path) -> None:
    """A block has a quarter of a mebibyte."""
    names = [f"{'deep/' * (number % 40)}{number}/weights" for number in range(8000)]
    prefix = write_checkpoint(tmp_path / "model.ckpt", dict.fromkeys(names, np.ones((2, 1), np.float32)))
    data = (tmp_path / "model.ckpt.index").read_bytes()
    assert len(data) > 2**18
    expected = tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()
    assert {name: [*entry.shape] for name, entry in read_index(data).items()} == expected


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (lambda: [(b"a", entry([2**62, 2**62, 0], size=0))], "a has the impossible shape"),
        (lambda: [(b"a", entry([2], size=8, dtype=101))], "a has the type float32_ref, which no tensor has"),
        (lambda: [(b"a", entry([2], size=8, dtype=99))], "a has the unknown type 99"),
        (lambda: [(b"a", entry([2], size=9))], r"a has 9 bytes from byte 0 on for the shape \(2,\)"),
        (lambda: [(b"a", entry([1] * 255, size=4))], "a has no shape"),
        (lambda: [(b"b", entry([2], size=8)), (b"a", entry([2], size=8))], "names in its index are not in order"),
        (lambda: [(b"a" * 1025, entry([2], size=8))], "a name of 1,026 bytes, more than 1,024"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_entries_are_refused(entries, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_index(table([HEADER, *entries()]))


def test_a_sound_table_is_read_and_a_block_only_once() -> None:
    pairs = [HEADER, (b"a", entry([2], size=8, offset=4))]
    assert read_index(table(pairs))["a"] == (tf.float32, (2,), ".data-00000-of-00001", 12)
    with pytest.raises(ValueError, match="the blocks of its index overlap"):
        read_index(table(pairs, times=2))


def entry(shape: Sequence[int], *, size: int, dtype: int = 1, offset: int = 0) -> bytes:
    found = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, size=size, offset=offset)
    for side in shape:
        found.shape.dim.add(size=side)
    return found.SerializeToString()


def table(pairs: Sequence[Pair], times: int = 1) -> bytes:
    """A table with a block of these pairs, which its index names so many times."""
    first, nothing = sealed(block(pairs)), sealed(block([]))
    place = varint(0) + varint(len(first) - 5)
    last = sealed(block([(pairs[-1][0] + bytes([number]), place) for number in range(times)]))
    footer = b"".join(
        varint(len(before)) + varint(len(each) - 5) for before, each in [(first, nothing), (first + nothing, last)]
    )
    return first + nothing + last + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def block(pairs: Sequence[Pair]) -> bytes:
    """Whole names, at each of which a search may begin."""
    entries = [varint(0) + varint(len(name)) + varint(len(value)) + name + value for name, value in pairs]
    begins = [0, *accumulate(map(len, entries))][: max(1, len(entries))]
    return b"".join(entries) + struct.pack(f"<{len(begins) + 1}I", *begins, len(begins))


def sealed(block: bytes) -> bytes:
    """Not compressed, and with its checksum."""
    return block + b"\0" + struct.pack("<I", masked_crc(block + b"\0"))


def varint(number: int) -> bytes:
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])
