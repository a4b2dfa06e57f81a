"""Types of command-line arguments, the options that several commands have, and how help shows defaults.

A type parses a text, or raises an ArgumentTypeError that says what was expected.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

from beam_pipelines.contract.errors import unknown_option

LARGEST_SCALE = 8  # memory grows with the square of the scale


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to the help of each option that has one worth showing: not None, False, 0 or empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


class Parser(argparse.ArgumentParser):
    """Prints errors as one line; argparse would print the usage of all options first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_args(self, *arguments: Any) -> Any:  # type: ignore[override] # argparse has overloads
        """As argparse's, but suggests what an unknown option was meant to be."""
        values, unknown = self.parse_known_args(*arguments)
        if unknown:
            self.error(unknown_option(unknown[0], self._option_string_actions))
        return values


def place(text: str) -> str:
    """A file or folder, local or in a bucket. Expands `~`, which a shell leaves as it is after `--option=`."""
    if not text:
        raise argparse.ArgumentTypeError("expected a file or folder")
    return os.path.expanduser(text)


def dataset(text: str) -> str:
    """The folder of a data set, given as the folder or as its `dataset.json`."""
    folder, name = os.path.split(place(text))
    return (folder or ".") if name == "dataset.json" else place(text).rstrip("/") or "/"


def datasets(text: str) -> tuple[str, ...]:
    """A,B: folders of data sets, each as `dataset` takes it, without repetition; or one, whose name may have commas."""
    parts = [text] if os.path.isdir(os.path.expanduser(text)) else text.split(",")
    folders = tuple(dataset(part) for part in parts if text)
    if len(set(folders)) < len(folders):
        raise argparse.ArgumentTypeError(f"{text!r} names a data set twice; --mix sets the share of each")
    return folders


def folder(text: str) -> str:
    """A folder, without a slash at its end."""
    return place(text).rstrip("/") or "/"


def output_folder(text: str) -> str:
    """As `folder`, where a folder is or can be: no local file is at its path or above it."""
    there = path = folder(text)
    while "://" not in path and there and not os.path.lexists(there):
        there = os.path.dirname(there)
    if "://" not in path and there and not os.path.isdir(there):
        raise argparse.ArgumentTypeError(
            f"{there} is no folder, so nothing can be written to it: choose another --output"
        )
    return path


def folders(text: str) -> tuple[str, ...]:
    """A,B: folders; or one, whose name may have commas."""
    parts = [text] if os.path.isdir(os.path.expanduser(text)) else text.split(",")
    return tuple(folder(part) for part in parts)


def names(text: str) -> str:
    """A,B: names, without repetition."""
    parts = text.split(",")
    if "" in parts or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a name, or several different names with commas between")
    return text


def shares(text: str) -> tuple[float, ...]:
    """W,...: shares above 0, such as 0.7,0.3. -> the shares, whose sum is 1."""
    positive = number(above=0)
    values = [positive(part) for part in text.split(",")]
    return tuple(value / sum(values) for value in values)


def whole(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

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
    """A finite number: at least `least`, at most `most`, above `above` and below `below`."""
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    expected = " and ".join(f"{name} {limit:g}" for name, limit in limits.items() if math.isfinite(limit))

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
        if not (math.isfinite(value) and least <= value <= most and above < value < below):
            raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
        return value

    return parse


def boolean(text: str) -> bool:
    """The text true or false."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text == "true"


def image_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels, such as 256x512. -> (height, width)."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x512")
    return int(height), int(width)


def span(text: str) -> tuple[float, float]:
    """LEAST,MOST, such as 0.5,2. -> (least, most)."""
    try:
        least, most = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LEAST,MOST, such as 0.5,2") from error
    if not 0 < least <= most < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 < LEAST <= MOST")
    return least, most


def scales(text: str) -> tuple[float, ...]:
    """S,...: multiples of the image size, such as 0.75,1,1.25."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 0.75,1,1.25") from error
    if not all(0 < value <= LARGEST_SCALE for value in values):
        raise argparse.ArgumentTypeError(
            f"{text!r}: scales must be above 0 and at most {LARGEST_SCALE}, such as 0.75,1,1.25"
        )
    return values


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declares --model, of commands that read a trained model."""
    parser.add_argument(
        "--model", required=True, type=place, metavar="RUN|FILE", help="folder of a run, or a best.keras file"
    )


def add_views(parser: argparse.ArgumentParser, size: str) -> None:
    """Declares --scales, multiples of `size`, and --flip: test-time augmentation."""
    parser.add_argument(
        "--scales",
        type=scales,
        default=(1.0,),
        metavar="S,...",
        help=f"average the probabilities over these multiples of {size} (default: 1)",
    )
    parser.add_argument(
        "--flip", action="store_true", help="average the probabilities over each image and its mirror image"
    )


def add_window(parser: argparse.ArgumentParser, images: str) -> None:
    """Declares --window, of `images`, and --overlap."""
    parser.add_argument(
        "--window", type=image_size, metavar="HxW", help=f"let the model see windows of this size of {images}"
    )
    parser.add_argument(
        "--overlap",
        type=number(0, below=1),
        default=0.0,
        metavar="F",
        help="least overlap of neighboring windows, as a share of the window (default: 0)",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Declares --verbose."""
    parser.add_argument("--verbose", action="store_true", help="show TensorFlow's log, and tracebacks of errors")
