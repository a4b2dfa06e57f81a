"""Writes files as PyTorch does, without PyTorch: see trainer/models/weights/pytorch_file.py.

write_state(path, {"_fc.bias": np.zeros(3, np.float32)})    # as before PyTorch 1.6
write_zip(path, {"_fc.bias": np.zeros(3, np.float32)})      # as since then
"""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trainer.models.weights.pytorch_file import MAGIC, VERSION

STORAGES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
}


class Storage:
    """The numbers that one or more tensors are views of."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers


class Tensor:
    """`shape` numbers of a storage from `offset` on, `strides` numbers apart; contiguous without `strides`."""

    def __init__(
        self, storage: Storage, shape: tuple[int, ...], offset: int = 0, strides: tuple[int, ...] | None = None
    ) -> None:
        contiguous = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        self.parts: tuple[Any, ...] = (
            storage,
            offset,
            shape,
            contiguous if strides is None else strides,
            False,
            OrderedDict(),
        )

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


def write_state(path: Path, state: Mapping[str, Any]) -> Path:
    """Writes a state dict of arrays, `Tensor`s, or whatever else pickle can write, in the older format."""
    facts = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with path.open("wb") as file, _torch():
        for part in (MAGIC, VERSION, facts):
            pickle.dump(part, file, protocol=2)
        pickler = _Pickler(file, protocol=2)
        pickler.dump(_tensors(state))
        pickle.dump(sorted(pickler.storages), file, protocol=2)
        for _, storage in sorted(pickler.storages.items()):
            file.write(storage.numbers.size.to_bytes(8, "little") + storage.numbers.tobytes())
    return path


def write_zip(path: Path, state: Mapping[str, Any], *, byteorder: bytes = b"little", compressed: bool = False) -> Path:
    """The same in the newer format."""
    file = io.BytesIO()
    with _torch():
        pickler = _Pickler(file, protocol=2)
        pickler.dump(_tensors(state))
    members = {"data.pkl": file.getvalue(), "byteorder": byteorder, "version": b"3\n"}
    members |= {f"data/{key}": storage.numbers.tobytes() for key, storage in pickler.storages.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"{path.stem}/{name}", data)
    return path


def _tensors(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    return OrderedDict(
        (name, Tensor(Storage(value.ravel()), value.shape) if isinstance(value, np.ndarray) else value)
        for name, value in state.items()
    )


class _Pickler(pickle.Pickler):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.storages: dict[str, Storage] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        key = str(id(value))
        self.storages[key] = value
        kind = getattr(sys.modules["torch"], STORAGES[str(value.numbers.dtype)])
        return "storage", kind, key, "cpu", value.numbers.size, None


@contextmanager
def _torch() -> Iterator[None]:
    """What pickle asks PyTorch's modules for while it writes names of them."""
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None:
        raise AssertionError("it is only named")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    sys.modules.update({"torch": torch, "torch._utils": inner})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
