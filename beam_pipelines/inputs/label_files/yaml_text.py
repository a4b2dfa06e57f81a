"""YAML, and with it JSON, as mappings, lists, text and whole numbers: nothing is resolved, expanded or constructed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from beam_pipelines.inputs.label_files.errors import FileError

_MAX_DEPTH = 20
_TEXT_KEYS = ("name", "category", "names", "readable")


def parse(text: str) -> Any:
    """The single document of a YAML text, built from its events, so that nothing is resolved or expanded."""
    import yaml

    try:
        events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        root: list[Any] = []
        stack: list[_Collection] = [_Collection(root, None)]
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise FileError(line, f"*{event.anchor} is an alias: write out its value")
            if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
                raise FileError(line, f"{event.tag} is a tag: remove it")
            if isinstance(event, yaml.ScalarEvent):
                _check_color(event, stack[-1].key, text)
                stack[-1].add(_scalar(event, stack[-1].key, line), line)
            elif isinstance(event, yaml.CollectionStartEvent):
                made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                key = stack[-1].key if isinstance(made, list) else None
                stack[-1].add(made, line)
                stack.append(_Collection(made, key))
                if len(stack) > _MAX_DEPTH:
                    raise FileError(line, f"lists and mappings are nested more than {_MAX_DEPTH} deep")
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.DocumentStartEvent) and root:
                raise FileError(line, "a second document begins here: a file holds one table")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileError(mark.line + 1 if mark else 0, _in_words(str(error.problem))) from error
    except yaml.YAMLError as error:
        raise FileError(0, str(error).splitlines()[0]) from error
    return root[0] if root else None


class _Collection:
    """A mapping or list that is being filled; `key` is the mapping's key of the next value."""

    def __init__(self, made: Any, key: str | None) -> None:
        self._made, self.key = made, key

    def add(self, value: Any, line: int) -> None:
        if isinstance(self._made, list):
            self._made.append(value)
        elif self.key is None:
            if isinstance(value, (dict, list)):
                raise FileError(line, "a mapping or list can't be a key")
            if str(value) in self._made:
                raise FileError(line, f"the key {str(value)!r} is repeated")
            self.key = str(value)
        else:
            self._made[self.key] = value
            self.key = None


def _check_color(event: Any, key: str | None, text: str) -> None:
    """Raises FileError if a color is empty because its # began a comment."""
    mark = event.end_mark
    if key == "color" and event.implicit[0] and not event.value and text[mark.index :].lstrip(" \t").startswith("#"):
        raise FileError(
            mark.line + 1, "`color` is empty: put a color that begins with # in quotes, since # begins a comment"
        )


def _scalar(event: Any, key: str | None, line: int) -> Any:
    """Text if it is quoted, a key or a name; otherwise whole numbers become integers, and an empty value None."""
    text: str = event.value
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise FileError(line, "half a character (a surrogate): save the file as UTF-8")
    plain = event.implicit[0] and not event.style and key is not None and key not in _TEXT_KEYS
    if plain and re.fullmatch(r"-?(0|[1-9][0-9]*)", text):
        return int(text) if len(text) < 20 else text
    return None if plain and text in ("", "~", "null") else text


def _in_words(problem: str) -> str:
    """A problem as PyYAML reports it, with its names of characters and tokens in words."""
    if "\\t" in problem:
        return "a tab: indent with spaces, not with tabs"
    return re.sub(r"'<([a-z ]+)>'", r"the \1", problem).replace("the stream end", "the end of the file")
