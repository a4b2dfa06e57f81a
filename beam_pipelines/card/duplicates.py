"""What the page says about duplicates: how many there are where, and the first pairs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from beam_pipelines.card.pictures import photo, read_pictures
from beam_pipelines.card.statistics import Place
from beam_pipelines.contract import schema
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.schema import Count, PlainName, SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.previous import read_index

FILE_NAME = "duplicates.jsonl"
LISTED = 20_000  # lines of the file: with as many there may be more pairs
SHOWN = 8  # pairs
_LONGEST = 360  # pixels: the longer side of a picture
_KINDS = ("exact", "near", "mirrored")


class Line(msgspec.Struct):
    """A line of the file: two examples. `distance`: bits in which their perceptual hashes differ."""

    kind: str
    distance: Count
    keys: tuple[str, str]
    splits: tuple[str, str]
    filenames: tuple[str, str]
    shards: tuple[PlainName, PlainName]


@dataclass(frozen=True)
class Side:
    """One of two examples, with the address of its picture."""

    split: str
    filename: str
    image: str


@dataclass(frozen=True)
class Pair:
    """Two examples; `leaks` if they are in different splits."""

    kind: str
    distance: int
    leaks: bool
    sides: Sequence[Side]


@dataclass(frozen=True)
class InPlace:
    """Pairs by kind, within a split or across two."""

    name: str
    leaks: bool
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Duplicates:
    """All that is listed, and the first pairs, `shown`."""

    pairs: int
    cut_off: bool
    kinds: Sequence[str]
    places: Sequence[InPlace]
    shown: Sequence[Pair]


def duplicates(manifest: Manifest, workspace: Workspace) -> Duplicates | None:
    """None if no duplicates are listed.

    Raises:
      BuildError: the list or an index is damaged.
      CorruptRecordError, RecordError: a shard is damaged.
    """
    lines = _read(workspace)
    if not lines:
        return None
    kinds = [*dict.fromkeys([*_KINDS, *(line.kind for line in lines)])]
    return Duplicates(
        len(lines), len(lines) >= LISTED, kinds, _places(lines), _shown(lines[:SHOWN], manifest, workspace)
    )


def _read(workspace: Workspace) -> list[Line]:
    path = storage.join(workspace.root, FILE_NAME)
    data = storage.read_bytes(path) or b""
    try:
        return [schema.decode(Line, line, path) for line in data.splitlines()]
    except SchemaError as error:
        raise BuildError(f"{error}: restore the file, or build the data set again with --overwrite") from error


def _places(lines: Iterable[Line]) -> list[InPlace]:
    """Those across splits first."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for line in lines:
        counts.setdefault(tuple(sorted({*line.splits})), Counter())[line.kind] += 1
    ordered = sorted(counts, key=lambda splits: (-len(splits), splits))
    return [InPlace(_name(splits), len(splits) > 1, counts[splits]) for splits in ordered]


def _name(splits: Sequence[str]) -> str:
    return f"across {' and '.join(splits)}" if len(splits) > 1 else f"within {splits[0]}"


def _shown(lines: Sequence[Line], manifest: Manifest, workspace: Workspace) -> list[Pair]:
    places = _find({end for line in lines for end in _ends(line)}, workspace)
    images = {place: photo(each.image, _LONGEST) for place, each in read_pictures(places.values(), manifest, workspace)}
    return [
        Pair(
            line.kind,
            line.distance,
            line.splits[0] != line.splits[1],
            [
                Side(split, filename, images[places[end]])
                for split, filename, end in zip(line.splits, line.filenames, _ends(line), strict=True)
            ],
        )
        for line in lines
    ]


def _ends(line: Line) -> list[tuple[str, str]]:
    """(shard, key) of both examples."""
    return [*zip(line.shards, line.keys, strict=True)]


def _find(wanted: Iterable[tuple[str, str]], workspace: Workspace) -> dict[tuple[str, str], Place]:
    """(shard, key) -> where that example is. Raises BuildError if there is none."""
    found: dict[tuple[str, str], Place] = {}
    numbers: dict[str, dict[str, int]] = {}
    for shard, key in sorted(wanted):
        if shard not in numbers:
            index, _ = read_index(shard, workspace)
            numbers[shard] = {each.key: number for number, each in enumerate(index.examples)}
        if key not in numbers[shard]:
            raise BuildError(f"{FILE_NAME} of {workspace.root} names {key!r}, and {shard} has no such example")
        found[shard, key] = Place(shard, numbers[shard][key], key)
    return found
