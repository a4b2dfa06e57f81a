"""Divides the pairs into shards, by hashes of their keys, and writes the plan that the pipeline reads."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import google_crc32c

from beam_pipelines.contract import schema
from beam_pipelines.contract.index import file_name as index_name
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.schema import Count, PlainName, SchemaError
from beam_pipelines.contract.seal import last_line, unsealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.spool import content_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.pixels.mask_readings import PLAIN, MaskReading
from beam_pipelines.recipe import Recipe
from beam_pipelines.wording import counted

MIN_SHARDS = 16  # of a split with enough pairs: work for many workers, and files for the reader to shuffle
MIN_SHARD_PAIRS = 4


@dataclass(frozen=True)
class ShardPlan:
    """The pairs of one file, in their order. `digest` is that of the recipe and of all other fields.

    An update takes the records of these pairs from the finished shard `source`; it keeps that as it is if `source` is
    the file itself.
    """

    split: str
    index: int
    count: int
    pairs: Sequence[Pair]
    digest: str
    reading: MaskReading = PLAIN
    source: Shard | None = None

    @property
    def file(self) -> str:
        return file_name(self.split, self.index, self.count)

    @property
    def files(self) -> tuple[str, str]:
        """The shard and its index."""
        return self.file, index_name(self.file)

    @property
    def is_whole(self) -> bool:
        """Whether all records of `source` stay."""
        return self.source is not None and self.source.examples == len(self.pairs)

    @property
    def is_kept(self) -> bool:
        return self.source is not None and self.source.file == self.file


@dataclass(frozen=True)
class ShardReference:
    """The place of a shard's line in the plan file: it passes through the pipeline in place of the paths."""

    path: str
    offset: int
    length: int


def choose_pairs(pairs: Sequence[Pair], recipe: Recipe) -> dict[str, PairList]:
    """Split -> its first --max_pairs pairs in the order of the global shuffle, by a hash of (seed, key)."""
    places, split_of = [], []
    for pair in pairs:
        places.append(_place(pair.key, recipe.seed))
        split_of.append(sys.intern(pair.split))
    by_split = defaultdict(list)
    for number in sorted(range(len(places)), key=places.__getitem__):
        by_split[split_of[number]].append(number)
    pairs = pairs if isinstance(pairs, PairList) else PairList(pairs)
    return {split: pairs.reordered(by_split[split][: recipe.max_pairs]) for split in sorted(by_split)}


def first_keys(keys: Iterable[str], recipe: Recipe) -> list[str]:
    """Those of `keys`, all of one split, that `choose_pairs` would take."""
    return sorted(keys, key=lambda key: _place(key, recipe.seed))[: recipe.max_pairs]


def cut_shards(
    chosen: Mapping[str, Sequence[Pair]], recipe: Recipe, example_bytes: float, reading: MaskReading = PLAIN
) -> list[ShardPlan]:
    """The shards of each split, whose numbers of pairs differ by at most 1, with the way to read their masks.

    Raises:
      BuildError: there is no split to compute the moments of, or --shards does not fit the splits.
    """
    check_splits(chosen, recipe)
    shards = []
    for split, pairs in chosen.items():
        count = recipe.shards.get(split) or shard_count(len(pairs), example_bytes, recipe.shard_size_mb)
        if count > len(pairs):
            raise BuildError(f"--shards={split}={count} is more than its {len(pairs)} pairs")
        for index in range(count):
            start, end = index * len(pairs) // count, (index + 1) * len(pairs) // count
            shards.append(shard_plan(split, index, count, pairs[start:end], recipe, reading))
    return shards


def check_splits(chosen: Mapping[str, Sequence[Pair]], recipe: Recipe) -> None:
    """Raises BuildError if there is no split to compute the moments of, or --shards does not fit the splits."""
    empty = recipe.split_fractions.keys() - chosen.keys()
    if empty:
        raise BuildError(_nothing_assigned(sorted(empty), chosen, recipe))
    if recipe.moments_split not in chosen and not recipe.moments_from:
        raise BuildError(
            f"mean and std are those of the split {recipe.moments_split!r}, but the input has only "
            f"{', '.join(chosen)}: give --moments_split={next(iter(chosen))}, or --moments_from=DATASET to take those "
            "of the data set that a model was trained on"
        )
    strange = recipe.shards.keys() ^ chosen.keys() if recipe.shards else ()
    if strange:
        raise BuildError(
            f"--shards must name each split ({', '.join(chosen)}) once; wrong or missing: {', '.join(sorted(strange))}"
        )


def _nothing_assigned(empty: Sequence[str], chosen: Mapping[str, Sequence[Pair]], recipe: Recipe) -> str:
    """Why splits with shares have no pair, and what helps: not --seed, since the hash is that of the key alone."""
    shares = " and ".join(f"{split}={recipe.split_fractions[split]:g}" for split in empty)
    keys = [pair.key for pairs in chosen.values() for pair in pairs]
    found = counted(len(keys), "pair")
    finer = ""
    if recipe.group_by:
        # The key of a pooled pair begins with the split that it had, which is no part of what is hashed.
        hashed = [key.partition("/")[2] if recipe.pool_splits and "/" in key else key for key in keys]
        groups = {
            str(match[1 if match.re.groups else 0]) for key in hashed if (match := re.search(recipe.group_by, key))
        }
        found, finer = (
            f"{found} in {counted(len(groups), 'group')}",
            f" a --group_by that makes more than {len(groups)},",
        )
    several = "them" if len(empty) > 1 else "it"
    return (
        f"--splits: of {found} the hash assigned none to {shares}: give {several} a larger share,{finer} "
        "or a list of pairs with the column split"
    )


def write_plan(workspace: Workspace, shards: Iterable[ShardPlan], path: str | None = None) -> None:
    """Writes a JSON line for each shard, and the checksum line, to `path`, by default the plan of a build."""
    crc = 0
    with workspace.writing(path or workspace.plan) as file:
        for shard in shards:
            value = [shard.split, shard.index, shard.count, shard.digest, [astuple(pair) for pair in shard.pairs]]
            value += [astuple(shard.reading), astuple(shard.source) if shard.source else None]
            line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
            crc = google_crc32c.extend(crc, line)
            file.write(line)
        file.write(last_line(crc))


# A line of `write_plan`: split, index, count, digest, the fields of each pair, of the mask reading, and of the source.
_Pair = tuple[str, str, str, str, str, Count, int]
_Reading = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, int, int, int], ...]]
_Source = tuple[PlainName, Count, Count, str] | None
_Line: Any = tuple[PlainName, Count, Count, str, tuple[_Pair, ...], _Reading, _Source]


def list_shards(path: str) -> Iterator[ShardReference]:
    """Yields the shards of a plan file. Raises BuildError, at its end, if it is damaged."""
    offset, crc, line, whole = 0, 0, b"", False
    with cloud.errors(path), storage.open_read(path) as file:
        for line in file:
            whole = line == last_line(crc)
            if not whole:
                yield ShardReference(path, offset, len(line))
            offset, crc = offset + len(line), google_crc32c.extend(crc, line)
    if not whole:
        raise BuildError(f"{path} is damaged: another program changed it; run the same command again")


def list_files(path: str) -> list[str]:
    """The shard files in the plan of an earlier run; empty if there is no plan, or if it is damaged."""
    text = unsealed(storage.read_bytes(path)) or ""
    try:
        lines = [schema.decode(_Line, line, path) for line in text.split("\n")[:-1]]
    except SchemaError:
        return []
    return [file_name(split, index, count) for split, index, count, *_ in lines]


def as_published(shard: ShardPlan, files: Collection[str]) -> ShardPlan:
    """The shard as one of the `files` of a data set: under the name of its source, if that was kept."""
    if shard.source is None or shard.file in files or shard.source.file not in files:
        return shard
    index, count = place_of(shard.source.file)
    return replace(shard, index=index, count=count)


def place_of(file: str) -> tuple[int, int]:
    """The (index, count) in the name of a shard."""
    _, index, _, count = file.removesuffix(".tfrecord").rsplit("-", 3)
    return int(index), int(count)


def file_name(split: str, index: int, count: int) -> str:
    """The name of a shard's file."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def read_shard(reference: ShardReference) -> ShardPlan:
    """Reads one line of the plan file. Raises BuildError if it is damaged."""
    with cloud.errors(reference.path), storage.open_read(reference.path) as file:
        file.seek(reference.offset)
        text = file.read(reference.length)
    try:
        return _plan_of(text, f"{reference.path}: line at byte {reference.offset:,}")
    except SchemaError as error:
        raise BuildError(f"{error}; run the same command again, which writes the plan again") from error


def read_plan(path: str) -> Iterator[ShardPlan]:
    """Yields the shards of the plan of a finished data set. Raises BuildError if it is missing or damaged."""
    cure = "restore it, or build the data set again with --overwrite"
    if not storage.exists(path):
        raise BuildError(f"{path} does not exist: {cure}")
    crc, whole = 0, False
    with cloud.errors(path), storage.open_read(path) as file:
        for number, line in enumerate(file, 1):
            whole = line == last_line(crc)
            try:
                if not whole:
                    yield _plan_of(line, f"line {number}")
            except SchemaError as error:
                raise BuildError(f"{path} is damaged ({error}): {cure}") from error
            crc = google_crc32c.extend(crc, line)
    if not whole:
        raise BuildError(f"{path} is damaged: {cure}")


def _plan_of(text: bytes, name: str) -> ShardPlan:
    """Raises SchemaError, which calls the line `name`."""
    line: Any = schema.decode(_Line, text, name)
    split, index, count, digest, pairs, (ways, kinds, palette), source = line
    reading = MaskReading(tuple(ways), tuple(kinds), tuple(map(tuple, palette)))
    packed = PairList(Pair(*pair) for pair in pairs)
    return ShardPlan(split, index, count, packed, digest, reading, Shard(**_named(source)) if source else None)


def _named(source: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("file", "examples", "bytes", "sha256"), source, strict=True))


def _place(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def shard_count(pairs: int, example_bytes: float, shard_size_mb: float) -> int:
    """The number of shards for the pairs of a split."""
    by_size = math.ceil(pairs * example_bytes / (shard_size_mb * 1e6))
    for_workers = min(MIN_SHARDS, max(1, pairs // MIN_SHARD_PAIRS))
    return min(pairs, max(by_size, for_workers))


def shard_plan(
    split: str,
    index: int,
    count: int,
    pairs: Sequence[Pair],
    recipe: Recipe,
    reading: MaskReading,
    source: Shard | None = None,
) -> ShardPlan:
    """A shard with the digest of all that determines its bytes."""
    contents = [astuple(replace(pair, mask=content_of(pair.mask))) for pair in pairs]
    identity: list[object] = [recipe.fingerprint, split, index, count, contents]
    if not reading.plain:
        identity.append(astuple(reading))
    if source:
        identity.append(astuple(source))
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return ShardPlan(split, index, count, pairs, digest, reading, source)
