from __future__ import annotations

import copy
import hashlib
import os
import pickle
import re
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pytorch_files import Storage, Tensor, write_state, write_zip
from trainer.models.errors import ModelError, WeightsError
from trainer.models.weights.pytorch_file import MAGIC, VERSION, open_state, read_tensors

both = pytest.mark.parametrize("write", [write_state, write_zip], ids=["before 1.6", "zip"])
shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(
        st.text(max_size=8), st.tuples(shapes, st.permutations(range(4)), st.booleans()), max_size=5
    )
)
def test_tensors_in_any_order_of_axes_come_back(tensors: dict[str, Any], tmp_path: Path) -> None:
    expected, written = {}, {}
    for number, (name, (shape, order, whole)) in enumerate(tensors.items()):
        dtype = np.int64 if whole else np.float32
        values = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape) + number
        axes = [axis for axis in order if axis < len(shape)]
        expected[name] = values.transpose(axes)
        strides = tuple(stride // values.itemsize for stride in expected[name].strides)
        written[name] = Tensor(Storage(values.ravel()), expected[name].shape, 0, strides)
    for write in (write_state, write_zip):
        read = read_tensors(str(write(tmp_path / "state.pth", written)))
        assert read.keys() == expected.keys()
        for name, values in expected.items():
            assert read[name].dtype == values.dtype
            np.testing.assert_array_equal(read[name], values)


@both
def test_tensors_share_a_storage(write: Any, tmp_path: Path) -> None:
    shared = Storage(np.arange(10, dtype=np.float32))
    state = {
        "first": Tensor(shared, (2, 2)),
        "last": Tensor(shared, (3,), offset=7),
        "every third": Tensor(shared, (4,), strides=(3,)),
    }
    read = read_tensors(str(write(tmp_path / "state.pth", state)))
    assert {name: values.tolist() for name, values in read.items()} == {
        "first": [[0, 1], [2, 3]],
        "last": [7, 8, 9],
        "every third": [0, 3, 6, 9],
    }


SMALL = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "updates": np.array(5)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_state(tmp_path / "small.pth", SMALL)


@both
def test_a_file_that_ends_anywhere_is_refused(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "small.pth", SMALL)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"small\.pth is not a file of PyTorch weights that can be read \("):
            read_tensors(str(path))
    path.write_bytes(whole)
    assert read_tensors(str(path))["updates"] == 5


@both
def test_a_changed_byte_is_a_refusal_or_another_number(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "small.pth", SMALL)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            found = read_tensors(str(path))
        except ModelError:
            refused += 1
        else:
            assert write is write_state or found["weight"].tolist() == SMALL["weight"].tolist(), "it has checksums"
    assert refused > len(whole) / 2


class Planted:
    """Makes a folder when a pickle of it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@both
def test_nothing_that_a_file_names_is_run(write: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    path = write(tmp_path / "state.pth", {"weight": Planted(planted)})
    with pytest.raises(ModelError, match=r"it names posix\.mkdir, which no file of weights needs"):
        read_tensors(str(path))
    assert not planted.exists()
    pickle.loads(pickle.dumps(Planted(planted)))  # pickle alone does run it
    assert planted.exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("words", "it is not a state dict: it holds something else than tensors"),
        (
            Tensor(Storage(np.zeros(4, np.float32)), (2, 3)),
            r"of shape \(2, 3\) reaches beyond its storage of 4 numbers",
        ),
        (Tensor(Storage(np.zeros(4, np.float32)), (2,), offset=3), r"of shape \(2,\) reaches beyond"),
        (Tensor(Storage(np.zeros(4, np.float32)), (9, 9), strides=(0, 0)), r"of shape \(9, 9\) reaches beyond"),
        (Tensor(Storage(np.zeros(4, np.float32)), (2,), 2, (-1,)), r"shape \(2,\) and the strides \(-1,\)"),
        (Tensor(Storage(np.zeros(4, np.float32)), (2,), -1), "a tensor has the shape"),
        (np.zeros(2, np.int32), r"has numbers of the kind Int, which can't be read: save it as float32 with PyTorch"),
    ],
)
@both
def test_what_is_no_tensor_is_refused(write: Any, value: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        read_tensors(str(write(tmp_path / "state.pth", {"weight": value})))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@both
def test_numbers_of_half_and_double_precision_become_float32(write: Any, dtype: Any, tmp_path: Path) -> None:
    values = np.array([[0.1, -3, 65504]], dtype)
    read = read_tensors(str(write(tmp_path / "state.pth", {"weight": values})))["weight"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))


def test_tensors_that_share_a_storage_take_no_memory_of_their_own(tmp_path: Path) -> None:
    shared = Storage(np.zeros(250_000, np.float32))
    path = write_zip(tmp_path / "state.pth", {str(number): Tensor(shared, (250_000,)) for number in range(1000)})
    assert path.stat().st_size < 1.2e6
    source, peak = watched(lambda: open_state(str(path)))
    assert peak < 10e6
    assert source.read("999").shape == (250_000,)
    assert not source.read("999").flags.writeable


def watched(function: Callable[[], Any]) -> tuple[Any, int]:
    """-> the result, and the largest number of bytes that Python had in use meanwhile."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Pickles that no PyTorch writes. `PROTO` and a dict precede them, and an item that ends the dict follows.
KEY = b"X\x01\x00\x00\x00k"
HOSTILE = {
    "a memo of 2 GiB": (KEY + b"r" + (2**28).to_bytes(4, "little") + b"N", "holds something else than tensors"),
    "a deep key": (b")" + b"\x85" * 150_000 + b"N", "a key is of the type tuple, not a string"),
    "a key that takes forever": (b")" + b"2\x86" * 60 + b"N", "it has the operation DUP"),
    "the same by its memo": (b")q\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"h\x00N", "it has the operation POP"),
    "an endless key": (b")q\x00" + b"h\x00\x86q\x00" * 60 + b"N", "a key is of the type tuple"),
    "a key None": (b"NN", "a key is of the type NoneType"),
    "an attribute": (
        KEY + b"ctorch._utils\n_rebuild_tensor_v2\n}" + KEY + KEY + b"sb",
        "it sets attributes of what is no state dict",
    ),
    "a deep id": (KEY + b")" + b"\x85" * 150_000 + b"Q", "refers to something else than a storage"),
    "an endless id": (KEY + b")q\x00" + b"h\x00\x86q\x00" * 60 + b"Q", "refers to something else than a storage"),
    "an endless kind": (
        KEY + b"()q\x00" + b"h\x00\x86q\x00" * 60 + b"NNNNtQ",
        "refers to something else than a storage of numbers",
    ),
    "an endless shape": (
        KEY + b"ctorch._utils\n_rebuild_tensor_v2\n(N)q\x00" + b"h\x00\x86q\x00" * 60 + b"))tR",
        "a tensor has no storage, shape or strides",
    ),
    "many arguments": (KEY + b"ccollections\nOrderedDict\n(" + b"N" * 9 + b"tR", "it calls what is no function"),
    "a call of a dtype": (KEY + b"ctorch\nFloatStorage\n)R", "it calls what is no function"),
    "items of a list": (KEY + b"]" + KEY + b"Ns", "it sets items of what is no dict"),
    "a string beyond the end": (b"X\xff\xff\xff\x7fk", "expected 2147483647 bytes"),
    "many operations": (KEY + b"N0" * 150_000 + b"N", "it has the operation POP"),
    "many values": (KEY + b"(" + b"}" * 300_000 + b"t", "it has more than 300,000 operations"),
    "a stack that ends": (b"\x87", "it takes more values than it has"),
    "no mark": (b"t", "pop from empty list"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_is_made_to_do_harm_is_refused(name: str, tmp_path: Path) -> None:
    """In little memory; pickle takes gigabytes, forever, or ends the process for some of them."""
    path, (body, reason) = tmp_path / "state.pth", HOSTILE[name]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/data.pkl", b"\x80\x02}" + body + b"s.")
    caught, peak = watched(lambda: refusal(path))
    assert re.search(reason, caught), caught
    assert peak < 100e6


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_tensors(str(path))
    return str(caught.value)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "state.pth", {"weight": np.zeros(1000, np.float32)})
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(3):
            twin = copy.copy(archive.infolist()[-1])
            twin.filename = twin.orig_filename = f"state/data/{number}"
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    assert "its members have more bytes than the file" in refusal(path)


def test_the_versions_of_modules_in_a_state_dict_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    state: OrderedDict[str, Any] = OrderedDict()
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/data.pkl", pickle.dumps(state, protocol=2))
    assert b"b." in pickle.dumps(state, protocol=2)
    assert read_tensors(str(path)) == {}


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    parts: tuple[Any, ...] = (MAGIC, VERSION, {"little_endian": False}, {})
    (tmp_path / "state.pth").write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(ModelError, match="its numbers are big-endian"):
        read_tensors(str(tmp_path / "state.pth"))


def test_an_archive_that_torch_would_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    with pytest.raises(ModelError, match="its numbers are big-endian"):
        read_tensors(str(write_zip(path, SMALL, byteorder=b"big")))
    with pytest.raises(ModelError, match="it is compressed, which such files are not"):
        read_tensors(str(write_zip(path, SMALL, compressed=True)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/else", b"")
    with pytest.raises(ModelError, match=r"state\.pth is not a file of PyTorch weights that can be read \(it has no"):
        read_tensors(str(path))


def test_a_known_digest_is_checked(small: Path) -> None:
    digest = hashlib.sha256(small.read_bytes()).hexdigest()
    assert "weight" in read_tensors(str(small), digest)
    small.write_bytes(small.read_bytes()[:-1] + b"\x01")  # another number, which the format does not show
    assert "weight" in read_tensors(str(small))
    with pytest.raises(ModelError, match=rf"small\.pth is damaged: .*, not {digest[:8]}\.\.\.; get the file again"):
        read_tensors(str(small), digest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match=r"there is no file .*; set the path of a weights file"):
            read_tensors(str(path))
