"""Other ways to make a data set of the same pictures, which the build is compared with. Each is a module with

    build(source, size, encoding, scratch) -> Taken

that reads the Cityscapes tree `source` and writes pictures of `size` (height, width) below `scratch`. What it takes is
counted from its first picture on: imports come before that.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

# Reference -> the image encodings that it has.
ENCODINGS = {
    "bare": ("float32", "float16"),
    "notebook": ("float32",),
    "tfds": ("float32", "png"),
}


@dataclass(frozen=True)
class Taken:
    """Wall seconds, and CPU seconds of all threads and of children that have ended."""

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._seconds, self._cpu_seconds = time.perf_counter(), _cpu_seconds()

    def taken(self) -> Taken:
        return Taken(time.perf_counter() - self._seconds, _cpu_seconds() - self._cpu_seconds)


def _cpu_seconds() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def cityscapes_pairs(source: Path, split: str = "*") -> list[tuple[Path, Path]]:
    """(image, mask of label ids) of a split, or of all."""
    images = sorted(source.glob(f"leftImg8bit/{split}/*/*_leftImg8bit.png"))
    masks = source / "gtFine"
    return [
        (image, masks.joinpath(*image.parts[-3:-1], image.name.replace("_leftImg8bit", "_gtFine_labelIds")))
        for image in images
    ]
