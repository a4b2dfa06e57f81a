"""Splits the pairs into shards, by identity alone, and keeps the plan in a file that the pipeline reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import google_crc32c

from beam_pipelines.contract import schema
from beam_pipelines.contract.schema import Count, PlainName, SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.seal import last_line, unsealed
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.pixels.masks import PLAIN, MaskReading
from beam_pipelines.recipe import Recipe

MIN_SHARDS = 16  # of a split, where it has the pairs: work for many workers, and a shuffle of files for the reader
MIN_SHARD_PAIRS = 4
MOMENTS_SPLIT = "train"


@dataclass(frozen=True)
class ShardPlan:
    """The pairs that go, in this order, into one file. `digest` is of the recipe and of all that is listed here."""

    split: str
    index: int
    count: int
    pairs: tuple[Pair, ...]
    digest: str
    reading: MaskReading = PLAIN

    @property
    def file(self) -> str:
        return file_name(self.split, self.index, self.count)


@dataclass(frozen=True)
class ShardReference:
    """Where a shard's line is in the plan file: what travels through the pipeline in place of the paths."""

    path: str
    offset: int
    length: int


def choose_pairs(pairs: Sequence[Pair], recipe: Recipe) -> dict[str, list[Pair]]:
    """Split -> its pairs in the global shuffle's order, that of a hash of (seed, key); the first --max_pairs."""
    by_split = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: _place(pair.key, recipe.seed)):
        by_split[pair.split].append(pair)
    return {split: by_split[split][: recipe.max_pairs] for split in sorted(by_split)}


def first_keys(keys: Iterable[str], recipe: Recipe) -> list[str]:
    """Those of `keys`, all of one split, that `choose_pairs` would take."""
    return sorted(keys, key=lambda key: _place(key, recipe.seed))[: recipe.max_pairs]


def cut_shards(
    chosen: Mapping[str, Sequence[Pair]], recipe: Recipe, example_bytes: float, reading: MaskReading = PLAIN
) -> list[ShardPlan]:
    """Shards of each split, their numbers of pairs equal to ±1, with the way to read their masks.

    Raises:
      BuildError: there is no split to take the moments of, or --shards does not fit the splits.
    """
    empty = recipe.split_fractions.keys() - chosen.keys()
    if empty:
        raise BuildError(f"--splits: the hash gave no pair to {', '.join(sorted(empty))}: too few pairs or groups")
    if MOMENTS_SPLIT not in chosen:
        raise BuildError(f"mean and std are those of the split {MOMENTS_SPLIT!r}; the input has {', '.join(chosen)}")
    strange = recipe.shards.keys() ^ chosen.keys() if recipe.shards else ()
    if strange:
        raise BuildError(f"--shards must name each split ({', '.join(chosen)}) once: {', '.join(sorted(strange))}?")
    shards = []
    for split, pairs in chosen.items():
        count = recipe.shards.get(split) or _shard_count(len(pairs), example_bytes, recipe.shard_size_mb)
        if count > len(pairs):
            raise BuildError(f"--shards={split}={count} is more than its {len(pairs)} pairs")
        for index in range(count):
            start, end = index * len(pairs) // count, (index + 1) * len(pairs) // count
            shards.append(_shard(split, index, count, tuple(pairs[start:end]), recipe, reading))
    return shards


def write_plan(workspace: Workspace, shards: Sequence[ShardPlan]) -> None:
    """One JSON line for each shard, and the seal."""
    crc = 0
    with workspace.writing(workspace.plan) as file:
        for shard in shards:
            value = [shard.split, shard.index, shard.count, shard.digest, [astuple(pair) for pair in shard.pairs]]
            value.append(astuple(shard.reading))
            line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
            crc = google_crc32c.extend(crc, line)
            file.write(line)
        file.write(last_line(crc))


# A line as `write_plan` has it: split, index, count, digest, the fields of each pair, and those of the mask reading.
_Pair = tuple[str, str, str, str, str, Count, int]
_Reading = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, int, int, int], ...]]
_Line: Any = tuple[PlainName, Count, Count, str, tuple[_Pair, ...], _Reading]


def list_shards(path: str) -> Iterator[ShardReference]:
    """The shards of a plan file. Raises BuildError, at its end, where it is damaged."""
    offset, crc, line, whole = 0, 0, b"", False
    with cloud.errors(path), storage.open_read(path) as file:
        for line in file:
            whole = line == last_line(crc)
            if not whole:
                yield ShardReference(path, offset, len(line))
            offset, crc = offset + len(line), google_crc32c.extend(crc, line)
    if not whole:
        raise BuildError(f"{path} is damaged: something else changed it; run the same command again")


def list_files(path: str) -> list[str]:
    """The shard files of a plan that an earlier run left; none where it is not there, or damaged."""
    text = unsealed(storage.read_bytes(path)) or ""
    try:
        lines = [schema.decode(_Line, line, path) for line in text.split("\n")[:-1]]
    except SchemaError:
        return []
    return [file_name(split, index, count) for split, index, count, *_ in lines]


def file_name(split: str, index: int, count: int) -> str:
    """Of a shard."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def read_shard(reference: ShardReference) -> ShardPlan:
    """Reads one line of the plan file. Raises BuildError where it is damaged."""
    with cloud.errors(reference.path), storage.open_read(reference.path) as file:
        file.seek(reference.offset)
        text = file.read(reference.length)
    try:
        line: Any = schema.decode(_Line, text, f"{reference.path}: line at byte {reference.offset:,}")
    except SchemaError as error:
        raise BuildError(f"{error}; run the same command again, which writes it again") from error
    split, index, count, digest, pairs, (ways, kinds, palette) = line
    reading = MaskReading(tuple(ways), tuple(kinds), tuple(map(tuple, palette)))
    return ShardPlan(split, index, count, tuple(Pair(*pair) for pair in pairs), digest, reading)


def _place(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _shard_count(pairs: int, example_bytes: float, shard_size_mb: float) -> int:
    by_size = math.ceil(pairs * example_bytes / (shard_size_mb * 1e6))
    for_workers = min(MIN_SHARDS, max(1, pairs // MIN_SHARD_PAIRS))
    return min(pairs, max(by_size, for_workers))


def _shard(
    split: str, index: int, count: int, pairs: tuple[Pair, ...], recipe: Recipe, reading: MaskReading
) -> ShardPlan:
    identity: list[object] = [recipe.fingerprint, split, index, count, [astuple(pair) for pair in pairs]]
    if not reading.plain:
        identity.append(astuple(reading))
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return ShardPlan(split, index, count, pairs, digest, reading)
