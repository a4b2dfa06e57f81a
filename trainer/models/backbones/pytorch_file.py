"""Reads tensors from files of torch.save, without PyTorch and without running code that a file names.

The format is that of PyTorch before 1.6 (torch/serialization.py, _legacy_save): four pickles (a magic number, a
version, facts about the machine, the object), a pickled list of the keys of storages, and each storage as its length
(int64) and its numbers, in the order of that list. The object refers to storages by persistent ids.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainer.errors import refusals
from trainer.models.errors import ModelError, WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
ZIP = b"PK\x03\x04"  # how files begin that PyTorch 1.6 and later write

# What a pickle of random bytes can raise.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
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


def read_tensors(path: str, digest: str | None = None) -> dict[str, np.ndarray]:
    """The state dict in a file, local or gs://: name -> float32 or int64 array, in the order of axes of PyTorch.

    Args:
      path: of the file.
      digest: its SHA-256 in hex, if that is known. The format itself has no checksums.

    Raises:
      ModelError: the file is not a state dict in this format, or does not have this digest.
      WeightsError: there is no such file, or it can't be read.
    """
    data = _read(path)
    if digest is not None and (found := hashlib.sha256(data).hexdigest()) != digest:
        raise ModelError(
            f"backbone_weights: {path} is damaged: its SHA-256 is {found[:8]}..., not {digest[:8]}...; get the file "
            "again"
        )
    if data.startswith(ZIP):
        raise ModelError(
            f"backbone_weights: {path} has the format of PyTorch 1.6 and later; write it with torch.save(state_dict, "
            "path, _use_new_zipfile_serialization=False)"
        )
    try:
        return _tensors(io.BytesIO(data))
    except _DAMAGE as error:
        raise ModelError(
            f"backbone_weights: {path} is not a file of PyTorch weights that can be read ({error}); set `none`, "
            "`imagenet` or the path of a weights file"
        ) from error


def _read(path: str) -> bytes:
    try:
        with refusals(), tf.io.gfile.GFile(path, "rb") as file:
            data: bytes = file.read()
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError) as error:
        raise WeightsError(
            f"backbone_weights: there is no file {path}; set `none`, `imagenet` or the path of a weights file"
        ) from error
    return data


def _tensors(file: io.BytesIO) -> dict[str, np.ndarray]:
    if (_unpickled(file), _unpickled(file)) != (MAGIC, VERSION):
        raise ValueError("it does not begin as such files do")
    if not _unpickled(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    state = _unpickled(file)
    if not isinstance(state, dict) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise ValueError("it is not a state dict: it holds something else than tensors")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {key: _numbers(file, dtypes[key]) for key in _unpickled(file)}
    return {str(name): _view(storages[tensor.storage.key], tensor) for name, tensor in state.items()}


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
