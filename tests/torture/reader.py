"""What a reader is to the tortures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.mutations import Mutation


@dataclass(frozen=True)
class Reader:
    """`read` gets bytes and a path that may be written to; what it returns is compared by `==`."""

    samples: Sequence[bytes]
    damage: Mutation
    read: Callable[[bytes, Path], Any]
    refusals: tuple[type[Exception], ...]
    slowness: int = 1  # a case in so many is tried
