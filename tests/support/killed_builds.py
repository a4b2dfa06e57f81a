"""Builds that are killed at a step, and what may be wrong with the files that they leave."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OPTIONS = ("--labels=camvid11", "--image_size=native", "--shards=train=2,val=1", "--direct_num_workers=1")
FIRST = "train-00000-of-00002.tfrecord"


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "NULs": lambda data: bytes(len(data)),
    "flipped": _flipped,
    "not UTF-8": lambda data: b"\xff" + data[1:],
}
SECOND, VAL = "train-00001-of-00002.tfrecord", "val-00000-of-00001.tfrecord"


@contextlib.contextmanager
def killed(when: str) -> Iterator[None]:
    """A build that ends at this function of the builder's, as if it were killed there."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(when, die)
        yield


def command(source: Path, output: Path, encoding: str) -> tuple[str, ...]:
    return (f"--input={source}", f"--output={output}", f"--image_encoding={encoding}", "--max_rejects=50%", *OPTIONS)
