"""Reads pickles of torch.save by the operations that it writes for state dicts, and by no others.

The unpickler of Python is not for files of strangers, whatever names it is kept from: a few bytes make it allocate a
memo of gigabytes, hash tuples that are nested a million times, or set attributes of what it can reach. Here a value is
a constant, a container of values, or what the caller makes; keys are strings; memory and time grow with the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

MOST_OPERATIONS = 300_000  # each takes some hundred bytes of memory; a state dict has about 20 for each tensor
_MOST_ARGUMENTS = 8  # of a function; _rebuild_tensor_v2 has 7


class _Machine:
    """The stack of a pickle, its marks and its memo: the format is described in Python's pickletools.py."""

    def __init__(self, named: Callable[[str], Any], find: Callable[[Any], Any]) -> None:
        self.named, self.find = named, find
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def take(self, number: int) -> list[Any]:
        """The last values, which leave the stack."""
        if number > len(self.stack):
            raise ValueError("it takes more values than it has")
        start = len(self.stack) - number
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def take_marked(self) -> list[Any]:
        return self.take(max(0, len(self.stack) - self.marks.pop()))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def name(self, name: str) -> None:
        self.push(self.named(name))

    def reduce(self, _: None) -> None:
        function, arguments = self.take(2)
        if not callable(function) or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise ValueError("it calls what is no function of a state dict")
        self.push(function(*arguments))

    def build(self, _: None) -> None:
        """Drops the attributes of a value: a state dict has `_metadata`, the versions of its modules."""
        value, _ = self.take(2)
        if not isinstance(value, dict):
            raise ValueError("it sets attributes of what is no state dict")
        self.push(value)

    def refer(self, _: None) -> None:
        (reference,) = self.take(1)
        self.push(self.find(reference))

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        keys, target = values[::2], self.stack[-1]
        for other in (key for key in keys if not isinstance(key, str)):
            raise ValueError(f"it is not a state dict: a key is of the type {type(other).__name__}, not a string")
        if not isinstance(target, dict):
            raise ValueError("it sets items of what is no dict")
        target.update(zip(keys, values[1::2], strict=True))


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.take_marked())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.take_marked()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.take_marked()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}


def read_pickle(file: IO[bytes], named: Callable[[str], Any], find: Callable[[Any], Any]) -> Any:
    """The value of the pickle that begins where `file` is; afterwards the file is at its end.

    Args:
      named: ("module name") -> what it stands for. Functions get up to 8 values of the pickle as arguments.
      find: (persistent id) -> the value that it refers to.

    Raises:
      ValueError, LookupError, TypeError: it has other operations or keys, is damaged, or is too long.
    """
    machine = _Machine(named, find)
    for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name == "STOP":
            (value,) = machine.take(1)
            return value
        if number == MOST_OPERATIONS:
            raise ValueError(f"it has more than {MOST_OPERATIONS:,} operations")
        if operation.name not in _OPERATIONS:
            raise ValueError(f"it has the operation {operation.name}, which no file of weights needs")
        _OPERATIONS[operation.name](machine, argument)
    raise ValueError("it has no end")
