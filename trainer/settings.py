"""Settings: frozen dataclasses whose fields are command-line options.

    class Optimizer:
        momentum: float = setting(0.9, type=number(0, below=1), help="of SGD", needs=(one_of("optimizer", "sgd"),))
        terms: Mapping[str, float] = table(OPTIONS_OF_TERMS, identity=True)      # one option each

An option is declared once, at its field or in its row of a table. The parser, `config.json`, the identity of a run and
the refusal of options that contradict each other are derived from it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

Section = TypeVar("Section")


@dataclass(frozen=True)
class Needs:
    """The choice that an option belongs to: it has an effect only with some values of another option.

    Attributes:
      option: name of the other option.
      accepts: its value -> whether the option has an effect with it. None is not asked: it is left to the model.
      instead: how to set it on the command line so that it has.
    """

    option: str
    accepts: Callable[[Any], bool]
    instead: str


def one_of(option: str, *values: Any) -> Needs:
    """Needs one of `values`."""
    return Needs(option, values.__contains__, " or ".join(_as_argument(option, value) for value in values))


def other_than(option: str, value: Any) -> Needs:
    """Needs any value but this one."""
    return Needs(option, lambda found: bool(found != value), f"another --{option}")


@dataclass(frozen=True)
class Option:
    """`--name` on the command line.

    Attributes:
      type: from the text to the value; bool makes `--name`, or `--no-name` if `default` is True.
      aliases: earlier names, which are still accepted and not shown.
      exclusive: name of a group of options, of which a command line may have one.
      needs: unless all are met, the option has no effect and is refused.
    """

    name: str
    type: Callable[[str], Any] = str
    default: Any = None
    help: str = ""
    metavar: str | None = None
    choices: Collection[str] | None = None
    aliases: tuple[str, ...] = ()
    exclusive: str = ""
    needs: tuple[Needs, ...] = ()

    def add_to(self, group: Any) -> None:
        """Declares the option in an argparse parser or group, and its aliases."""
        if self.type is bool:
            action = argparse.BooleanOptionalAction if self.default else "store_true"
            group.add_argument(f"--{self.name}", action=action, default=self.default, help=self.help)
            return
        shown = {"metavar": self.metavar, "choices": self.choices, "default": self.default, "help": self.help}
        group.add_argument(f"--{self.name}", type=self.type, **shown)
        for alias in self.aliases:
            hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS, "choices": self.choices}
            group.add_argument(f"--{alias}", dest=self.name, type=self.type, **hidden)


class Declared(NamedTuple):
    """An option of a settings class: at a field of its own, or a row of the table that the field holds."""

    field: str
    option: Option
    identity: bool
    is_row: bool


def setting(default: Any = None, *, identity: bool = False, name: str = "", **option: Any) -> Any:
    """A field that is one option, `--name`; the name of the field if `name` is empty.

    identity: a run can't be resumed with another value.
    """
    metadata = {"option": Option(name, default=default, **option), "identity": identity}
    return dataclasses.field(metadata=metadata)


def table(options: Iterable[Option], *, identity: bool = False) -> Any:
    """A field that maps the name of each of `options` to its value."""
    return dataclasses.field(metadata={"rows": tuple(options), "identity": identity})


def declared_by(section: type) -> Iterator[Declared]:
    """The options of a settings class, in order."""
    for field in dataclasses.fields(section):
        for option in field.metadata.get("rows", ()):
            yield Declared(field.name, option, field.metadata["identity"], is_row=True)
        if "option" in field.metadata:
            option = field.metadata["option"]
            named = option if option.name else dataclasses.replace(option, name=field.name)
            yield Declared(field.name, named, field.metadata["identity"], is_row=False)


def add_options(parser: argparse.ArgumentParser, section: type, title: str) -> None:
    """Declares the options of a settings class, in a group of their own in the help."""
    group = parser.add_argument_group(title)
    exclusive: dict[str, Any] = {}
    for _, option, _, _ in declared_by(section):
        if option.exclusive and option.exclusive not in exclusive:
            exclusive[option.exclusive] = group.add_mutually_exclusive_group()
        option.add_to(exclusive.get(option.exclusive, group))


def given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> set[str]:
    """The names of the options that a command line sets, to their default or to another value."""
    unset = argparse.Namespace(**{action.dest: None for action in parser._actions})
    values, _ = parser.parse_known_args(argv, unset)
    return {name for name, value in vars(values).items() if value is not None}


def contradiction(options: Iterable[Option], names: Collection[str], values: Mapping[str, Any]) -> str | None:
    """What is wrong with a command line that sets the options `names`; None if nothing is.

    argparse itself accepts two exclusive options if one of them is set to its default.

    Args:
      values: option -> value, of all options.
    """
    first_of: dict[str, str] = {}
    for option in options:
        if option.name not in names:
            continue
        first = first_of.setdefault(option.exclusive, option.name) if option.exclusive else option.name
        if first != option.name:
            return f"argument --{option.name}: not allowed with argument --{first}"
        if needed := _unmet(option, values):
            found = _as_argument(needed.option, values[needed.option])
            return f"argument --{option.name}: has no effect with {found}; leave it out, or set {needed.instead}"
    return None


def has_effect(option: Option, values: Mapping[str, Any]) -> bool:
    """Whether an option has an effect with the other options' `values`."""
    return _unmet(option, values) is None


def _unmet(option: Option, values: Mapping[str, Any]) -> Needs | None:
    for needed in option.needs:
        value = values[needed.option]
        if value is not None and not needed.accepts(value):
            return needed
    return None


def take(section: type[Section], values: dict[str, Any]) -> Section:
    """Makes a settings class from parsed `values`, and removes from them what it uses."""
    fields: dict[str, Any] = {}
    for field, option, _, is_row in declared_by(section):
        value = values.pop(option.name)
        if is_row:
            fields.setdefault(field, {})[option.name] = value
        else:
            fields[field] = value
    return section(**fields)


def flat(settings: Any) -> dict[str, Any]:
    """Option -> value."""
    values: dict[str, Any] = {}
    for field, option, _, is_row in declared_by(type(settings)):
        value = getattr(settings, field)
        values[option.name] = value[option.name] if is_row else value
    return values


def identity_defaults(sections: Iterable[type]) -> dict[str, Any]:
    """Option -> default, of all options that belong to the identity of a run."""
    return {
        each.option.name: each.option.default for section in sections for each in declared_by(section) if each.identity
    }


def _as_argument(name: str, value: Any) -> str:
    """An option with its value, as on a command line."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value:g}" if isinstance(value, float) else f"--{name}={value}"
