"""Reads JSON into typed values. A value of another type, form or range is refused with its place.

A document is described by its types: `msgspec.Struct` with `forbid_unknown_fields`, `tuple` for arrays, and
`Annotated` for ranges and forms:

    class _Receipt(msgspec.Struct, forbid_unknown_fields=True):
        digest: Digest
        examples: Count

    receipt = schema.decode(_Receipt, text, "finished/train-00000-of-00001.tfrecord.json")
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.pixel import MAX_SIZE

_T = TypeVar("_T")

MAX_COUNT = 2**53  # integers up to here are exact in readers that use doubles
MAX_DEPTH = 64  # of objects and arrays inside each other
_SHOWN = 60  # characters of a wrong value in a message
_TRIED = 1000  # keys that are tried to find the one of an error

_HEX = r"\A[0-9a-f]{64}\Z"
_PLAIN = r"\A(?!\.\.?\Z)[^/\x00-\x1f\x7f]+\Z"
_BELOW = r"\A(?!.*(?:\A|/)\.{0,2}(?:/|\Z))[^\x00-\x1f\x7f]+\Z"
_FORMS = {
    f"`str` matching regex {form!r}": words
    for form, words in (
        (_HEX, "64 hexadecimal digits"),
        (_PLAIN, "a plain name"),
        (_BELOW, "a name below the folder"),
    )
}
_WORDS = (
    (r"^Expected", "expected"),
    (r"^Object missing required field (.*)", r"has no field \1"),
    (r"^Object contains unknown field (.*)", r"has a field \1, which this version does not know"),
    (r"^Invalid enum value (.*)", r"\1 is none of the values that it may have"),
    (r"^JSON is malformed: ", ""),
    (r"^Input data was truncated", "it is cut off"),
    (r"^(Number|Integer value) out of range", "a number is out of range"),
)
_STEP = re.compile(r"\[(\.\.\.|\d+)\]|\.(\w+)")  # of msgspec's paths
_ANY = "..."  # there, a key of an object

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)]
Digest = Annotated[str, msgspec.Meta(pattern=_HEX)]  # SHA-256
PlainName = Annotated[str, msgspec.Meta(pattern=_PLAIN)]  # of a file in the folder that the document is about


def is_plain_name(text: str) -> bool:
    """Whether `text` is a PlainName."""
    return re.match(_PLAIN, text) is not None


NameBelow = Annotated[str, msgspec.Meta(pattern=_BELOW)]  # of a file there, or in a folder of it: `a/b`
Crc = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class SchemaError(UserError, ValueError):
    """JSON that does not fit its type. `path` is the place of the wrong value, such as `splits.train.shards[3].bytes`;
    it is empty for the whole document.
    """

    def __init__(self, name: str, path: str, problem: str) -> None:
        super().__init__(": ".join(part for part in (name, path, problem) if part))
        self.name, self.path, self.problem = name, path, problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.path, self.problem)


def decode(kind: type[_T], text: str | bytes, name: str) -> _T:
    """JSON -> a value of the type `kind`. Numbers are exact: neither a boolean nor a float is accepted as an integer.

    Raises:
      SchemaError: `text` is not JSON, is not of this type, repeats a key, or is nested deeper than `MAX_DEPTH`. The
        message calls it `name`.
    """
    try:
        value = msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise _too_deep(name) from error
    except UnicodeError as error:
        raise SchemaError(name, "", f"is not UTF-8: {error}") from error
    except _RepeatedKeyError as error:
        raise SchemaError(name, "", str(error)) from error
    except ValueError as error:  # msgspec.DecodeError is one
        raise SchemaError(name, "", f"is not JSON: {_worded(str(error).partition(' - at ')[0])}") from error
    return convert(kind, value, name)


def convert(kind: type[_T], value: Any, name: str) -> _T:
    """The same for JSON that is already decoded."""
    _check_nesting(value, name)
    _prepare(kind)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _located(str(error), kind, value, name) from error


_prepared: set[Any] = set()
_preparing = threading.Lock()


def _prepare(kind: Any) -> None:
    """Lets msgspec (0.22) look at a type once, in one thread: it shows what it knows of a type before that is complete,
    and a second thread that uses it meanwhile ends the process.
    """
    if kind not in _prepared:
        with _preparing:
            msgspec.json.Decoder(kind)
            _prepared.add(kind)


def shown(value: object) -> str:
    """`value` as JSON, shortened for a message."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class _RepeatedKeyError(ValueError):
    pass


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _RepeatedKeyError(f"the key {shown(key)} occurs more than once")
    return found


def _check_nesting(value: Any, name: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for holder in level for item in _items(holder)]
        if not level:
            return
    raise _too_deep(name)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep(name: str) -> SchemaError:
    return SchemaError(name, "", f"more than {MAX_DEPTH} objects and arrays inside each other")


def _located(told: str, kind: Any, document: Any, name: str) -> SchemaError:
    """msgspec's message with the keys that it writes as `[...]`, and with the value that it found."""
    problem, _, place = told.partition(" - at `")
    of_key, _, place = place.rpartition("in `")
    keys: list[str | int] = []
    for index, field in _STEP.findall(place):
        keys.append(field or (int(index) if index != _ANY else _wrong_key(told, kind, document, keys)))
    problem = _worded(problem)
    if problem.startswith("expected "):
        problem = problem.partition(", got ")[0]
        problem += "" if of_key else f", found {shown(_value_at(document, keys))}"
    return SchemaError(name, _path(keys), f"its keys: {problem}" if of_key else problem)


def _wrong_key(told: str, kind: Any, document: Any, keys: Sequence[str | int]) -> str:
    """The key of the object at `keys` whose value alone gives the same message."""
    if _ANY in keys:
        return _ANY  # which object it is could not be told
    candidates = itertools.islice(_value_at(document, keys), _TRIED)
    return next((key for key in candidates if _message(kind, _narrowed(document, keys, key)) == told), _ANY)


def _message(kind: Any, document: Any) -> str | None:
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _narrowed(document: Any, keys: Sequence[str | int], key: str) -> Any:
    """A copy in which the object at `keys` has no other key."""
    if not keys:
        return {key: document[key]}
    copy = document.copy()
    copy[keys[0]] = _narrowed(document[keys[0]], keys[1:], key)
    return copy


def _value_at(document: Any, keys: Sequence[str | int]) -> Any:
    for key in keys:
        if key == _ANY:
            return _ANY
        document = document[key]
    return document


def _path(keys: Sequence[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _worded(problem: str) -> str:
    for form, words in _FORMS.items():
        problem = problem.replace(form, words)
    for pattern, words in _WORDS:
        problem = re.sub(pattern, words, problem)
    return problem.replace("`", "")
