"""Texts of the command line -> values. What is wrong with a text is an argparse.ArgumentTypeError that names it."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS

_MAX_SIDE = 65535


def splits(text: str) -> tuple[tuple[str, ...], dict[str, float]]:
    """The value of --splits -> (names to take, shares to assign); at most one of them is not empty."""
    if not text:
        return (), {}
    if "=" not in text:
        names = tuple(name.strip() for name in text.split(","))
        if not all(names):
            raise argparse.ArgumentTypeError(f"--splits={text}: a name is empty")
        return names, {}
    shares = {name: share(number) for name, number in _assignments(text, "--splits").items()}
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise argparse.ArgumentTypeError(f"--splits={text}: the shares add up to {sum(shares.values()):g}, not to 1")
    return (), shares


def shards(text: str) -> dict[str, int]:
    """`train=32,val=8` -> split -> number."""
    return {name: positive(int)(number) for name, number in _assignments(text, "--shards").items()}


def _assignments(text: str, option: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and value for name, equals, value in parts):
        raise argparse.ArgumentTypeError(f"{option}={text}: expected NAME=NUMBER,NAME=NUMBER")
    found = {name.strip(): value.strip() for name, _, value in parts}
    if len(found) < len(parts):
        raise argparse.ArgumentTypeError(f"{option}={text}: a name occurs twice")
    return found


def image_size(text: str) -> tuple[int, int] | None:
    """`HEIGHTxWIDTH` -> (height, width); None for `native`."""
    if text == "native":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, like 256x512, nor native")
    size = int(match[1]), int(match[2])
    if not all(1 <= side <= _MAX_SIDE for side in size):
        raise argparse.ArgumentTypeError(f"{text!r}: height and width must be from 1 to {_MAX_SIDE:,}, as in 256x512")
    return size


def check_pixels(size: tuple[int, int] | None, max_image_pixels: int) -> None:
    """What is written is bounded like what is read: a worker holds several pictures of either."""
    limit = max(max_image_pixels, MAX_IMAGE_PIXELS)
    height, width = size or (0, 0)
    if height * width > limit:
        raise argparse.ArgumentTypeError(
            f"--image_size={height}x{width} has {height * width:,} pixels, and the most are {limit:,}: give a smaller "
            "size, or, if the workers have the memory, a larger --max_image_pixels"
        )


def share(text: str) -> float:
    """`0.01` or `1%` -> a number from 0 to 1."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: give 0.01 or 1%")
    return value


def whole(text: str) -> int:
    """A whole number, which may be below 0."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, like 0 or 7") from None


def positive(number: type) -> Any:
    """An argparse type: a `number` above 0."""

    def parse(text: str) -> Any:
        try:
            value = number(text)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return parse


def template(text: str) -> str:
    """A template of file names below the input."""
    unknown = [part for part in re.findall(r"\{.*?\}|\{|\}", text) if part not in ("{split}", "{key}", "{type}")]
    if unknown:
        raise argparse.ArgumentTypeError(f"{text!r} has {unknown[0]}; known are {{split}}, {{key}} and {{type}}")
    if "{key}" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} has no {{key}}, by which an image and its mask are paired")
    if text.startswith("/") or "://" in text or ".." in text.split("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not below --input: give a path relative to it")
    return text


def regex(text: str) -> str:
    """The text itself, which must be a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error
    return text
