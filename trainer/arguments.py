"""Types of command-line arguments: each parses a text, or raises an error that says what was expected."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable

LARGEST_SCALE = 8  # memory grows with its square


def place(text: str) -> str:
    """A file or folder, local or in a bucket; `~` is the user's own folder, also where no shell has seen it."""
    if not text:
        raise argparse.ArgumentTypeError("a file or folder was expected")
    return os.path.expanduser(text)


def dataset(text: str) -> str:
    """The folder of a data set, which may be named by its `dataset.json`."""
    folder, name = os.path.split(place(text))
    return (folder or ".") if name == "dataset.json" else place(text).rstrip("/") or "/"


def whole(least: int) -> Callable[[str], int]:
    """A whole number of `least` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return parse


def number(
    least: float = -math.inf, *, above: float = -math.inf, most: float = math.inf, below: float = math.inf
) -> Callable[[str], float]:
    """A finite number of `least` or more, and of `most` or less; larger than `above`, smaller than `below`."""
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    expected = " and ".join(f"{name} {limit:g}" for name, limit in limits.items() if math.isfinite(limit))

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
        if not (math.isfinite(value) and least <= value <= most and above < value < below):
            raise argparse.ArgumentTypeError(f"{text}: {expected} was expected")
        return value

    return parse


def boolean(text: str) -> bool:
    """true or false."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text == "true"


def image_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH, as in 256x512."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, like 256x512")
    return int(height), int(width)


def span(text: str) -> tuple[float, float]:
    """LEAST,MOST, as in 0.5,2."""
    try:
        least, most = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LEAST,MOST, like 0.5,2") from error
    if not 0 < least <= most < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: 0 < LEAST <= MOST was expected")
    return least, most


def scales(text: str) -> tuple[float, ...]:
    """S,..., the multiples of a size to look at: as in 0.75,1,1.25."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, like 0.75,1,1.25") from error
    if not all(0 < value <= LARGEST_SCALE for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: scales are above 0 and at most {LARGEST_SCALE}, as in 0.75,1,1.25")
    return values


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Declares --verbose."""
    parser.add_argument("--verbose", action="store_true", help="show TensorFlow's own log, and tracebacks")
