"""Reads tensors from files of torch.save, without PyTorch and without running code that a file names.

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
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import layers

from trainer.errors import refusals
from trainer.models.errors import ModelError, WeightsError
from trainer.models.weights.transfer import Source

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
ZIP = b"PK\x03\x04"  # how files begin that PyTorch 1.6 and later write
_OBJECT = "/data.pkl"

# What a pickle of random bytes can raise.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
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
            tensor.storage.key: np.frombuffer(archive.read(f"{root}/data/{tensor.storage.key}"), tensor.storage.dtype)
            for tensor in state.values()
        }
    return _views(state, storages)


def _in_a_row(file: io.BytesIO) -> dict[str, np.ndarray]:
    if (_unpickled(file), _unpickled(file)) != (MAGIC, VERSION):
        raise ValueError("it does not begin as such files do")
    if not _unpickled(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    state = _state(file)
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {key: _numbers(file, dtypes[key]) for key in _unpickled(file)}
    return _views(state, storages)


def _state(file: io.BytesIO) -> dict[str, _Tensor]:
    state = _unpickled(file)
    if not isinstance(state, dict) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise ValueError("it is not a state dict: it holds something else than tensors")
    return {str(name): tensor for name, tensor in state.items()}


def _views(state: dict[str, _Tensor], storages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in state.items()}


def _numbers(file: io.BytesIO, dtype: np.dtype) -> np.ndarray:
    length = int.from_bytes(file.read(8), "little", signed=True)
    data = file.read(max(0, length) * dtype.itemsize)
    if length < 0 or len(data) != length * dtype.itemsize:
        raise ValueError(f"it ends in the middle: a storage of {length} numbers has {len(data)} bytes")
    return np.frombuffer(data, dtype)


def _view(numbers: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The tensor as an array of its own, after a check that it is inside its storage."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.shape, default=1) < 1 or min(tensor.strides, default=0) < 0 or tensor.offset < 0:
        raise ValueError(f"a tensor has the shape {tensor.shape} and the strides {tensor.strides}")
    if max(last + 1, math.prod(tensor.shape)) > numbers.size:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {numbers.size} numbers")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()


def _rebuilt(storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> _Tensor:
    """torch._utils._rebuild_tensor_v2; what follows the strides matters for gradients only."""
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


# All that a file may name.
_NAMES: dict[tuple[str, str], Callable[..., Any] | np.dtype] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of `_NAMES` only: a pickle runs whatever else it names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no file of weights needs")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it refers to {kind}, not to a storage of numbers")
        return _Storage(dtype, str(key), int(length))


def _unpickled(file: io.BytesIO) -> Any:
    return _Unpickler(file).load()
