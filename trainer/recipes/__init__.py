"""Recipes: files of values for the options of a training run, which the command line overrides.

A recipe is a YAML file `option: value`. Those that come with the project are in this folder, and are named without
`.yaml`; the comment at the beginning of each says for which data and machine it is, how long it takes, and which score
was measured, and by whom.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import settings
from trainer.arguments import Parser, place
from trainer.recipes.errors import RecipeError as RecipeError
from trainer.settings import Option

FOLDER = Path(__file__).parent
OPTION = "recipe"


@dataclass(frozen=True)
class Expanded:
    """A command line without `--recipe`. `source_of`: option -> "command line", or the name of the recipe."""

    argv: Sequence[str]
    source_of: Mapping[str, str]


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def expanded(argv: Sequence[str], parser: argparse.ArgumentParser, options: Iterable[Option]) -> Expanded:
    """Puts the values of the recipe that `argv` names before its other arguments.

    Values are left out that have no effect with the arguments of the command line: `momentum` with
    `--optimizer=adamw`, `epochs` with `--steps`.

    Raises:
      RecipeError: the recipe does not exist, can't be read, or has a value that is wrong.
    """
    chooser = Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    chooser.add_argument(f"--{OPTION}", type=place)
    chosen, rest = chooser.parse_known_args(argv)
    given = settings.given(parser, rest)
    sources = dict.fromkeys(sorted(given), "command line")
    if chosen.recipe is None:
        return Expanded(rest, sources)
    by_name = {option.name: option for option in options}
    values = read_recipe(chosen.recipe, by_name)
    tokens = _kept(values, given, rest, parser, by_name, chosen.recipe)
    kept = {name: chosen.recipe for name in tokens if name not in given}
    return Expanded([*tokens.values(), *rest], sources | kept)


def read_recipe(recipe: str, options: Collection[str]) -> dict[str, Any]:
    """Option -> value, of a recipe that comes with the project or of a file. Raises RecipeError."""
    from trainer.recipes.reading import read_values  # YAML, which --help need not wait for

    path = FOLDER / f"{recipe}.yaml" if recipe in names() else Path(recipe)
    if not path.is_file():
        raise RecipeError(f"--{OPTION}={recipe}: there is no such file, and no such recipe: {', '.join(names())}")
    found = read_values(path, recipe)
    for name in found:
        if name not in options:
            near = difflib.get_close_matches(name, options, 1)
            hint = f"; is it {near[0]}?" if near else ""
            raise RecipeError(f"{recipe}: there is no option {name!r}{hint}")
    return found


def _kept(
    values: Mapping[str, Any],
    given: Collection[str],
    rest: Sequence[str],
    parser: argparse.ArgumentParser,
    options: Mapping[str, Option],
    recipe: str,
) -> dict[str, str]:
    """Option -> argument, of the values that have an effect with the arguments `rest`."""
    tokens = {name: _argument(name, value, options[name], recipe) for name, value in values.items()}
    tokens = {name: token for name, token in tokens.items() if token}
    alone = _parsed([*tokens.values()], parser, recipe)
    if problem := settings.contradiction(options.values(), values.keys(), alone):
        raise RecipeError(f"{recipe}: {problem}")
    groups = {options[name].exclusive for name in given if name in options} - {""}
    tokens = {name: token for name, token in tokens.items() if options[name].exclusive not in groups}
    together = vars(parser.parse_args([*tokens.values(), *rest]))
    idle = {name for name in tokens if not settings.has_effect(options[name], together)}
    return {name: token for name, token in tokens.items() if name not in idle}


def _argument(name: str, value: Any, option: Option, recipe: str) -> str:
    """The value as it is written on a command line; empty for the default of a switch."""
    if option.type is bool and isinstance(value, bool):
        if value == option.default:
            return ""
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, list) and all(isinstance(each, (int, float)) for each in value):
        value = ",".join(map(str, value))
    if not isinstance(value, (str, int, float)) or option.type is bool:
        raise RecipeError(f"{recipe}: {name}: {value!r} is not a value of --{name}")
    return f"--{name}={value}"


def _parsed(argv: Sequence[str], parser: argparse.ArgumentParser, recipe: str) -> dict[str, Any]:
    """Option -> value. Raises RecipeError with argparse's message."""

    def fail(message: str) -> None:
        raise RecipeError(f"{recipe}: {message}")

    error, parser.error = parser.error, fail  # type: ignore[method-assign,assignment]
    try:
        return vars(parser.parse_args(argv))
    finally:
        parser.error = error  # type: ignore[method-assign]
