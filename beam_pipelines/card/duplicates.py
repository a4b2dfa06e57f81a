"""What the page says about duplicates: how many there are where, and the first pairs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.card.pictures import read_pictures
from beam_pipelines.card.statistics import Place
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.pages.pictures import photo
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.duplicate_search import KINDS, LISTED
from beam_pipelines.shards.index_files import read_index
from beam_pipelines.shards.leaks import DuplicateLine, read_duplicates

SHOWN = 8  # pairs
_LONGEST = 360  # pixels: the longer side of a picture


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
    """All pairs by place and kind, and the first of them, `shown`."""

    kinds: Sequence[str]
    places: Sequence[InPlace]
    shown: Sequence[Pair]

    @property
    def are_all_listed(self) -> bool:
        return self.pairs <= LISTED

    @property
    def pairs(self) -> int:
        return sum(sum(place.counts.values()) for place in self.places)


def duplicates(manifest: Manifest, workspace: Workspace) -> Duplicates:
    """Raises BuildError if the list of pairs, an index or a shard is damaged."""
    names = sorted(manifest.duplicates, key=lambda name: ("/" not in name, name))  # those across splits first
    places = [_place(name, manifest.duplicates[name]) for name in names]
    return Duplicates(KINDS, places, _shown(_read(workspace), manifest, workspace) if places else ())


def _place(name: str, counts: Mapping[str, int]) -> InPlace:
    splits = name.split("/")
    words = f"across {' and '.join(splits)}" if len(splits) > 1 else f"within {name}"
    return InPlace(words, len(splits) > 1, {kind: counts.get(kind, 0) for kind in KINDS})


def _read(workspace: Workspace) -> list[DuplicateLine]:
    try:
        return read_duplicates(storage.read_bytes(workspace.duplicates) or b"", workspace.duplicates)
    except SchemaError as error:
        raise BuildError(f"{error}: restore the file, or build the data set again with --overwrite") from error


def _shown(lines: Iterable[DuplicateLine], manifest: Manifest, workspace: Workspace) -> list[Pair]:
    """The first pairs. Those of an update that did not become the data set may be listed, too: they are left out."""
    places = _Places(manifest, workspace)
    chosen = [*itertools.islice(((line, ends) for line in lines if (ends := places.of(line))), SHOWN)]
    wanted = {place for _, ends in chosen for place in ends}
    images = {place: photo(each.image, _LONGEST) for place, each in read_pictures(wanted, manifest, workspace)}
    return [
        Pair(
            line.kind,
            line.distance,
            line.splits[0] != line.splits[1],
            [
                Side(split, filename, images[place])
                for split, filename, place in zip(line.splits, line.filenames, ends, strict=True)
            ],
        )
        for line, ends in chosen
    ]


class _Places:
    """Where examples are, by the indexes of their shards, of which each is read once."""

    def __init__(self, manifest: Manifest, workspace: Workspace) -> None:
        self._files = {shard.file for shards in manifest.splits.values() for shard in shards}
        self._workspace = workspace
        self._numbers: dict[str, dict[str, int]] = {}

    def of(self, line: DuplicateLine) -> list[Place]:
        """The places of both examples; nothing if one of them is not in the data set."""
        ends = [*zip(line.shards, line.keys, strict=True)]
        if not all(key in self._keys(shard) for shard, key in ends):
            return []
        return [Place(shard, self._keys(shard)[key], key) for shard, key in ends]

    def _keys(self, shard: str) -> dict[str, int]:
        if shard not in self._files:
            return {}
        if shard not in self._numbers:
            index, _ = read_index(shard, self._workspace)
            self._numbers[shard] = {each.key: number for number, each in enumerate(index.examples)}
        return self._numbers[shard]
