"""Lists of pairs: a CSV file, or a JSON line for each pair, with the columns image, mask, and perhaps split and key."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TextIO

import msgspec

from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.reader import is_member, modified, read_bytes
from beam_pipelines.files.refusals import cannot_read, root_cause
from beam_pipelines.inputs.claims import composed
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.inputs.splits import GivenSplits
from beam_pipelines.inputs.templates import split_of_folder
from beam_pipelines.inputs.unique import unique
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected, rejected_pair

TYPES = (".csv", ".jsonl")
_NEEDED, _OPTIONAL = ("image", "mask"), ("split", "key")
_EXAMPLE = "image,mask,split"
_MAX_FIELD = 1 << 20
_MAX_MEMBER = 1 << 30  # bytes of a list in an archive, which is read as a whole


def is_list(inputs: str) -> bool:
    """Whether `inputs` is a list of pairs."""
    return inputs.lower().endswith(TYPES) and not os.path.isdir(inputs)


def read_pairs(recipe: Recipe, path: str) -> tuple[PairList, list[Rejected], list[str]]:
    """-> the pairs of a list by their keys, the pairing problems, and notes. Relative paths are relative to the list.

    A key is that of the column, or the image's path below the list's folder without its ending; the split, if any,
    comes before it.

    Raises:
      BuildError: the list can't be read, or has no splits and the recipe no shares.
    """
    reading = _Reading(recipe, path)
    for number, row in _rows(path):
        reading.add(row, number)
    notes = reading.splits.notes(path)
    pairs, repeated = unique(reading.pairs.sorted_by_key())
    return pairs, [*reading.rejected, *repeated], notes


class _Reading:
    """Makes the pairs of a list's rows."""

    def __init__(self, recipe: Recipe, path: str) -> None:
        self._path, self._folder = path, os.path.dirname(path)
        self.splits = GivenSplits(recipe)
        self.pairs, self.rejected = PairList(), list[Rejected]()
        self._images: set[int] = set()  # hashes of their paths, which take less memory

    def add(self, row: Mapping[str, str], number: int) -> None:
        given = row.get("split") or ""
        given = split_of_folder(given) or given
        image, mask = (_absolute(row[column], self._folder) for column in _NEEDED)
        below = image.removeprefix(storage.join(self._folder, "")) if self._folder else image
        own = composed(row.get("key") or os.path.splitext(below)[0].lstrip("/"))
        split = self.splits.of(given, own, f"line {number} of {self._path}")
        if split is None:
            return
        key = f"{given}/{own}" if given else own
        of_image, of_mask = _stat(image), _stat(mask)
        if hash(image) in self._images:
            detail = f"{image}, line {number} of the list, is in an earlier line as well"
            self.rejected.append(rejected_pair(key, split, image, mask, "duplicate_key", detail))
            return
        self._images.add(hash(image))
        if of_image and of_mask:
            changed = 2 * of_image[1] + of_mask[1]
            self.pairs.append(Pair(key, split, row["image"], image, mask, of_image[0] + of_mask[0], changed))
            return
        what, path = ("mask", mask) if of_image else ("image", image)
        detail = f"{path}, line {number} of the list, does not exist"
        self.rejected.append(rejected_pair(key, split, image, mask, f"missing_{what}", detail))


def _absolute(path: str, folder: str) -> str:
    if not storage.is_local(path):
        return path
    whole = path if path.startswith("/") or not folder else storage.join(folder, path)
    return os.path.normpath(whole) if storage.is_local(whole) else whole


def _stat(path: str) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns) of a local file; None if it does not exist; zeros in buckets, where only
    reading tells.
    """
    if not storage.is_local(path):
        return 0, 0
    if is_member(path):
        return 0, modified(path)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column -> text) of each pair. Raises BuildError."""
    read = _csv_rows if path.lower().endswith(".csv") else _json_rows
    try:
        with cloud.errors(path), _opened(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            for number, row in read(file, path):
                _check_row(row, path, number)
                yield number, row
    except FileNotFoundError as error:
        raise BuildError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise cannot_read(path, root_cause(error)) from error


def _opened(path: str) -> BinaryIO:
    return io.BytesIO(read_bytes(path, _MAX_MEMBER)) if is_member(path) else storage.open_read(path)


def _check_row(row: Mapping[str, Any], path: str, number: int) -> None:
    for column, value in row.items():
        if not isinstance(value, str) or "\0" in value or (column in _NEEDED and not value):
            raise BuildError(f"{path}, line {number}: {column} is {value!r}: a path or name, as text, is needed")


def _csv_rows(file: TextIO, path: str) -> Iterator[tuple[int, dict[str, str]]]:
    previous = csv.field_size_limit(_MAX_FIELD)
    try:
        reader = csv.reader(file, strict=True)
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(columns, path)
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(columns):
                raise BuildError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, and the first line has {len(columns)} "
                    'columns; a path that has a comma needs quotes, "a,b.png"'
                )
            yield (
                reader.line_num,
                {name: text for name, text in zip(columns, fields, strict=True) if name in (*_NEEDED, *_OPTIONAL)},
            )
    except csv.Error as error:
        raise BuildError(f"{path} is not a CSV file: {error}") from error
    finally:
        csv.field_size_limit(previous)


def _check_columns(columns: list[str], path: str) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    if missing or len(set(columns)) < len(columns):
        raise BuildError(
            f"{path}: the first line must name the columns image and mask, and perhaps split and key, as in "
            f"{_EXAMPLE}; it is {','.join(columns)[:200]!r}"
        )


def _json_rows(file: TextIO, path: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BuildError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(value, dict) or not all(name in value for name in _NEEDED):
            raise BuildError(
                f'{path}, line {number}: expected {{"image": ..., "mask": ...}}, found {line.strip()[:200]}'
            )
        yield number, {name: value[name] for name in (*_NEEDED, *_OPTIONAL) if value.get(name) is not None}
