"""Reads tensors from files of torch.save (Python 3), without PyTorch and without running code that a file names.

There are two formats (torch/serialization.py); in both, the object refers to storages by persistent ids.

Before PyTorch 1.6 (_legacy_save): four pickles (a magic number, a version, facts about the machine, the object), a
pickled list of the keys of storages, and each storage as its length (int64) and its numbers, in the order of that list.

Since 1.6 (_save): a zip archive that is not compressed, of NAME/data.pkl, which is the object, NAME/data/KEY, the
numbers of a storage each, and possibly NAME/byteorder.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import layers

from trainer.errors import refusals
from trainer.models.errors import ModelError, WeightsError
from trainer.models.weights.state_pickle import read_pickle
from trainer.models.weights.transfer import Source

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
ZIP = b"PK\x03\x04"  # how files begin that PyTorch 1.6 and later write
_OBJECT = "/data.pkl"
_MOST_AXES = 32  # of an array of NumPy 1

# What random bytes can raise.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def open_state(path: str, digest: str | None = None) -> Source:
    """The state dict in a file; see `read_tensors`."""
    tensors = read_tensors(path, digest)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Source(path=path, shapes=shapes, read=tensors.__getitem__, in_keras_order=in_keras_order)


def in_keras_order(tensor: np.ndarray, layer: layers.Layer) -> np.ndarray:
    """PyTorch has kernels [out, in, H, W], for depthwise convolutions [in, 1, H, W], and matrices [out, in]."""
    if isinstance(layer, layers.Dense):
        return tensor.T
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return tensor.transpose(axes) if tensor.ndim == 4 else tensor


def read_tensors(path: str, digest: str | None = None) -> dict[str, np.ndarray]:
    """The state dict in a file, local or gs://: name -> float32 or int64 array, in the order of axes of PyTorch.

    The arrays can't be written to: they are views of the storages, which tensors may share. float16 and float64 become
    float32.

    Args:
      path: of the file.
      digest: its SHA-256 in hex, if that is known. The older format has no checksums.

    Raises:
      ModelError: the file is not a state dict in one of the formats, or does not have this digest.
      WeightsError: there is no such file, or it can't be read.
    """
    data = _read(path)
    if digest is not None and (found := hashlib.sha256(data).hexdigest()) != digest:
        raise ModelError(f"{path} is damaged: its SHA-256 is {found[:8]}..., not {digest[:8]}...; get the file again")
    file = io.BytesIO(data)
    try:
        return _zipped(file) if data.startswith(ZIP) else _in_a_row(file)
    except _OtherNumbersError as error:
        raise ModelError(
            f"{path} has numbers of the kind {error}, which can't be read: save it as float32 with PyTorch, as "
            "torch.save({name: t.float() for name, t in state.items()}, FILE)"
        ) from error
    except _DAMAGE as error:
        raise ModelError(
            f"{path} is not a file of PyTorch weights that can be read ({error}); get the file again, or set the path "
            "of another one"
        ) from error


def _read(path: str) -> bytes:
    try:
        with refusals(), tf.io.gfile.GFile(path, "rb") as file:
            data: bytes = file.read()
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError) as error:
        raise WeightsError(f"there is no file {path}; set the path of a weights file") from error
    return data


def _zipped(file: io.BytesIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if sum(member.file_size for member in archive.infolist()) > file.getbuffer().nbytes:
            raise ValueError("its members have more bytes than the file")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("it is compressed, which such files are not")
        roots = [name.removesuffix(_OBJECT) for name in members if name.endswith(_OBJECT)]
        if len(roots) != 1:
            raise ValueError(f"it has {'several of' if roots else 'no'} {_OBJECT[1:]}")
        (root,) = roots
        if f"{root}/byteorder" in members and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        state = _state(io.BytesIO(archive.read(f"{root}{_OBJECT}")))
        storages = {
            key: _as_read(np.frombuffer(archive.read(f"{root}/data/{key}"), dtype))
            for key, dtype in _dtypes(state).items()
        }
    return _views(state, storages)


def _in_a_row(file: io.BytesIO) -> dict[str, np.ndarray]:
    if (_unpickled(file), _unpickled(file)) != (MAGIC, VERSION):
        raise ValueError("it does not begin as such files do")
    if not _unpickled(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    state = _state(file)
    dtypes = _dtypes(state)
    storages = {key: _as_read(_numbers(file, dtypes[key])) for key in _unpickled(file)}
    return _views(state, storages)


def _state(file: io.BytesIO) -> dict[str, _Tensor]:
    state = _unpickled(file)
    if not isinstance(state, dict) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise ValueError("it is not a state dict: it holds something else than tensors")
    return state


def _dtypes(state: Mapping[str, _Tensor]) -> dict[str, np.dtype]:
    """Key -> dtype, of the storages."""
    return {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}


def _as_read(numbers: np.ndarray) -> np.ndarray:
    """float16 and float64 as float32; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32) if numbers.dtype.kind == "f" and numbers.itemsize != 4 else numbers


def _views(state: dict[str, _Tensor], storages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in state.items()}


def _numbers(file: io.BytesIO, dtype: np.dtype) -> np.ndarray:
    length = int.from_bytes(file.read(8), "little", signed=True)
    data = file.read(max(0, length) * dtype.itemsize)
    if length < 0 or len(data) != length * dtype.itemsize:
        raise ValueError(f"it ends in the middle: a storage of {length} numbers has {len(data)} bytes")
    return np.frombuffer(data, dtype)


def _view(numbers: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The tensor as a view, after a check that it is inside its storage."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.shape, default=1) < 1 or min(tensor.strides, default=0) < 0 or tensor.offset < 0:
        raise ValueError(f"a tensor has the shape {tensor.shape} and the strides {tensor.strides}")
    if max(last + 1, math.prod(tensor.shape)) > numbers.size:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {numbers.size} numbers")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


def _rebuilt(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """torch._utils._rebuild_tensor_v2; what follows the strides matters for gradients only."""
    sizes = (shape, strides)
    if not isinstance(storage, _Storage) or not all(isinstance(each, tuple) for each in sizes):
        raise ValueError("a tensor has no storage, shape or strides")
    if max(map(len, sizes)) > _MOST_AXES or not all(type(number) is int for number in (offset, *shape, *strides)):
        raise ValueError(f"a tensor has more than {_MOST_AXES} axes, or others than of whole numbers")
    return _Tensor(storage, offset, shape, strides)


def _empty() -> OrderedDict[str, Any]:
    return OrderedDict()


# All that a file may name.
_NAMES: dict[str, Callable[..., Any] | np.dtype] = {
    "collections OrderedDict": _empty,
    "torch._utils _rebuild_tensor_v2": _rebuilt,
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
}


def _named(name: str) -> Any:
    """What a name of a file stands for."""
    if name in _NAMES:
        return _NAMES[name]
    if found := re.fullmatch(r"torch (\w+)Storage", name):
        raise _OtherNumbersError(found[1])
    raise ValueError(
        f"it names {name.replace(' ', '.')[:80]}, which no file of weights needs; nothing was run here, but other "
        "programs would run it"
    )


class _OtherNumbersError(Exception):
    """The kind of the numbers of a storage, which NumPy does not have or no weights are of."""


def _storage(reference: Any) -> _Storage:
    """What a persistent id refers to: ("storage", dtype, key, device, length), in the older format with a view."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6):
        raise ValueError("it refers to something else than a storage")
    kind, dtype, key, _, length, *_ = reference
    if not isinstance(kind, str) or kind != "storage" or not isinstance(dtype, np.dtype):
        raise ValueError("it refers to something else than a storage of numbers")
    if not isinstance(key, str) or type(length) is not int:
        raise ValueError("a storage has no key or no length")
    return _Storage(dtype, key, length)


def _unpickled(file: io.BytesIO) -> Any:
    return read_pickle(file, _named, _storage)
