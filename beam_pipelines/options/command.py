"""A recipe -> the command that builds it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.options import parse_build


def _assigned(numbers: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={number}" for name, number in numbers.items())


def _joined(sides: tuple[int, int] | None) -> str:
    return "x".join(map(str, sides)) if sides else "native"


# Field of the recipe -> its option and the option's text. All others are options of their own name.
_OPTIONS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "split_names": ("splits", ",".join),
    "split_fractions": ("splits", _assigned),
    "image_size": ("image_size", _joined),
    "shards": ("shards", _assigned),
    "moments_from": ("moments_from", lambda borrowed: str(borrowed["dataset"])),
}


def command_of(recipe: Mapping[str, Any], output: str, *options: str) -> str | None:
    """The command that builds `output` by a recipe in the form of `Recipe.to_json`, with `options`. None if the recipe
    has a user's label table, since it does not tell the file.
    """
    if recipe.get("labels") not in BUILTIN_TABLES:
        return None
    default = parse_build([]).recipe.to_json()
    different = {name: value for name, value in recipe.items() if _plain(value) != _plain(default.get(name))}
    if "input" in different:
        different["labels"] = recipe["labels"]  # without it, the layout of the input decides
    if "image_encoding" in different:
        different["mask_encoding"] = recipe["mask_encoding"]  # the default depends on the other option
    arguments = [_argument(*_OPTIONS.get(name, (name, str)), value) for name, value in different.items()]
    return shlex.join(["python", "-m", "beam_pipelines.build", *arguments, f"--output={output}", *options])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _argument(name: str, text_of: Callable[[Any], str], value: Any) -> str:
    return f"--{name}" if value is True else f"--{name}={text_of(value)}"
