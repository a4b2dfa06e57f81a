"""Plans an update: which pairs are new, changed or gone since the data set was built, and which shards that touches.

Shards whose pairs are the same stay as they are. Records of the other shards are copied, without those of changed and
missing pairs, and new pairs get shards of their own. If the moments change, normalized shards are normalized again from
their records. No shard, index or list of the finished data set is changed before the next manifest is published, and
its shards can be read until the next update.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.errors import BuildError
from beam_pipelines.files.spool import content_of, reference_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.plan import ShardPlan, check_splits, place_of, shard_count, shard_plan
from beam_pipelines.shards.previous import PreviousShard, pairing_problems, shards_of
from beam_pipelines.wording import counted

_NAMED = 3  # keys in a message
_Identity = tuple[str, str]  # split and key


@dataclass(frozen=True)
class Changes:
    """Keys of pairs, by what happened to them since the data set was built. `again` are pairs that were rejected."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    again: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in self.__dataclass_fields__}

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def lines(self) -> Iterator[str]:
        """A line for each kind of change of the input."""
        for name in ("added", "changed", "removed"):
            if keys := getattr(self, name):
                more = ", ..." if len(keys) > _NAMED else ""
                yield f"{counted(len(keys), 'pair')} {name}: {', '.join(keys[:_NAMED])}{more}"


@dataclass(frozen=True)
class _Kept:
    """A shard of the finished data set, and the pairs whose records stay."""

    before: PreviousShard
    shard: Shard
    pairs: Sequence[Pair]

    @property
    def is_whole(self) -> bool:
        return len(self.pairs) == self.shard.examples


@dataclass(frozen=True)
class Difference:
    """What `compare` found: the changes, the shards with the pairs that stay, the pairs to decode of each split, and
    whether other files than before have no partner.
    """

    changes: Changes
    kept: Sequence[_Kept]
    new: Mapping[str, Sequence[Pair]]
    has_other_problems: bool

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.has_other_problems


def compare(
    workspace: Workspace, manifest: Manifest, chosen: Mapping[str, PairList], problems: Sequence[Rejected]
) -> Difference:
    """Compares the `chosen` pairs with those of the finished data set, by names, sizes and times, and the pairing
    `problems` with its.

    Raises:
      BuildError: the data set keeps no list of its pairs, or the list is damaged.
    """
    comparison = _Comparison(chosen)
    kept = []
    for before in shards_of(workspace, manifest):
        same = comparison.stay(before)
        if before.shard is not None and before.shard.examples:
            kept.append(_Kept(before, before.shard, same))
    has_other_problems = pairing_problems(workspace) != [*problems]
    return Difference(comparison.changes(), kept, comparison.new(), has_other_problems)


class _Comparison:
    """Tells, shard by shard, which pairs of a finished data set are still as they were."""

    def __init__(self, chosen: Mapping[str, PairList]) -> None:
        self._chosen = chosen
        self._places = {(split, pair.key): n for split, pairs in chosen.items() for n, pair in enumerate(pairs)}
        self._found = defaultdict[str, list[str]](list)

    def stay(self, before: PreviousShard) -> list[Pair]:
        """The pairs of a shard that are still the same."""
        same = []
        for pair in before.pairs:
            place = self._places.get((before.split, pair.key))
            if place is None:
                self._found["removed"].append(pair.key)
            elif _is_same(pair, self._chosen[before.split][place]):
                del self._places[before.split, pair.key]
                same.append(self._chosen[before.split][place])  # its paths may have changed
            else:
                self._found["changed"].append(pair.key)
        for pair in before.rejected:
            place = self._places.get((before.split, pair.key))
            same_files = place is not None and _is_same(pair, self._chosen[before.split][place])
            self._found["removed" if place is None else "again" if same_files else "changed"].append(pair.key)
        return same

    def new(self) -> dict[str, PairList]:
        """Split -> the pairs that are not in the data set as they are, in their order."""
        left = defaultdict(list)
        for (split, _), place in self._places.items():
            left[split].append(place)
        return {split: self._chosen[split].reordered(left[split]) for split in sorted(left)}

    def changes(self) -> Changes:
        known = {*self._found["changed"], *self._found["again"]}
        added = [key for _, key in self._places if key not in known]
        return Changes(added, self._found["changed"], self._found["removed"], self._found["again"])


def _is_same(before: Pair, now: Pair) -> bool:
    """Without size and time, as of the objects in a list of pairs, nothing tells; paths may differ."""
    if not (now.bytes or now.modified):
        return False
    drawn = reference_of(now.mask) is not None or reference_of(before.mask) is not None
    if drawn and content_of(before.mask) != content_of(now.mask):
        return False
    return (before.filename, before.bytes, before.modified) == (now.filename, now.bytes, now.modified)


def update_shards(
    difference: Difference,
    manifest: Manifest,
    chosen: Mapping[str, Sequence[Pair]],
    recipe: Recipe,
    example_bytes: float,
    reading: MaskReading,
) -> list[ShardPlan]:
    """The shards of the updated data set.

    Raises:
      BuildError: the masks are read in another way than before, or there is no split to compute the moments of.
    """
    check_splits(chosen, replace(recipe, shards={}))
    _check_reading(difference, reading)
    names = _Names(manifest)
    renormalized = recipe.normalized and not recipe.moments_from and _touches(recipe.moments_split, difference)
    shards = []
    for each in difference.kept:
        before = each.before.planned
        if each.is_whole and not renormalized:
            place = place_of(each.shard.file)
        elif each.pairs:
            place = names.next(before.split)
        else:
            continue
        shards.append(shard_plan(before.split, *place, each.pairs, recipe, before.reading, each.shard))
    for split, pairs in difference.new.items():
        count = shard_count(len(pairs), example_bytes, recipe.shard_size_mb)
        for number in range(count):
            part = pairs[number * len(pairs) // count : (number + 1) * len(pairs) // count]
            shards.append(shard_plan(split, *names.next(split, count), part, recipe, reading))
    return shards


def _check_reading(difference: Difference, reading: MaskReading) -> None:
    """Ways that no mask contradicted before may be contradicted now: those that are left gave the same ids."""
    for each in difference.kept:
        before = each.before.planned.reading
        if each.pairs and not {*reading.ways} <= {*before.ways}:
            raise BuildError(
                f"the masks are read as {' and '.join(reading.ways)} now, and were read as {' and '.join(before.ways)} "
                "when the data set was built: store the new masks like the others, or build it again with --overwrite"
            )


def _touches(split: str, difference: Difference) -> bool:
    """Whether the moments of `split` may change."""
    return split in difference.new or any(not each.is_whole for each in difference.kept if each.before.split == split)


class _Names:
    """Gives new shards the numbers after those of the finished data set, whose names they go on with."""

    def __init__(self, manifest: Manifest) -> None:
        self._counts: dict[str, int] = {}
        used: Counter[str] = Counter()
        files = [shard.file for shards in manifest.splits.values() for shard in shards]
        for file in (*files, *manifest.superseded):
            split = file.rsplit("-", 3)[0]
            index, self._counts[split] = place_of(file)
            used[split] = max(used[split], index + 1)
        self._next = {split: itertools.count(first) for split, first in used.items()}

    def next(self, split: str, count: int = 1) -> tuple[int, int]:
        """The (index, count) of the next shard of `split`; `count` is that of a split that is new."""
        self._next.setdefault(split, itertools.count())
        return next(self._next[split]), self._counts.setdefault(split, count)
