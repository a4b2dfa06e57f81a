"""Checks a data set: every record of every shard against the manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

import apache_beam as beam
import msgspec
import numpy as np

from beam_pipelines.contract import schema, tfrecord
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.index import file_name as index_name
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.names import BUILD
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.own_files import listed
from beam_pipelines.shards.record_check import RecordChecker, Tally

MOMENTS_TOLERANCE = 1e-4  # of mean 0 and std 1 of the normalized records
MAX_PROBLEMS = 20  # listed of one shard; the others are counted


@dataclass(frozen=True)
class Checked:
    """What was read, by split, and the problems that were found."""

    tallies: Mapping[str, Tally]
    problems: tuple[str, ...]

    def to_json(self) -> str:
        tallies = {
            split: [tally.examples, *(array.tolist() for array in tally.arrays())]
            for split, tally in self.tallies.items()
        }
        return json.dumps({"tallies": tallies, "problems": self.problems})

    @classmethod
    def from_json(cls, text: str, name: str) -> Checked:
        """Raises SchemaError, which calls the text `name`."""
        fields = schema.decode(_CheckedFields, text, name)
        return cls({split: _tally(*tally) for split, tally in fields.tallies.items()}, fields.problems)


_Rows = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
_Floats = tuple[float, float, float]


class _CheckedFields(msgspec.Struct, forbid_unknown_fields=True):
    tallies: dict[str, tuple[int, _Rows, tuple[int, ...], _Floats, _Floats]]
    problems: tuple[str, ...]


def _tally(examples: int, histogram: _Rows, class_pixels: tuple[int, ...], sums: _Floats, squares: _Floats) -> Tally:
    moments = Moments(np.array(histogram, np.int64))
    return Tally(examples, moments, np.array(class_pixels, np.int64), np.array(sums), np.array(squares))


class CheckShards(beam.PTransform):
    """(split, Shard) -> a single Checked of all shards."""

    def __init__(self, manifest: Manifest, root: str) -> None:
        super().__init__()
        self._manifest, self._root = manifest, root

    def expand(self, root: beam.Pipeline) -> beam.PCollection[Checked]:
        shards = [(split, shard) for split, shards in self._manifest.splits.items() for shard in shards]
        spread = root | "Shards" >> beam.Create(shards) | "Spread" >> beam.Reshuffle()
        checked = spread | "Check" >> beam.Map(_check, manifest=self._manifest, root=self._root)
        return checked | "Merge" >> beam.CombineGlobally(CombineCheckedFn())


class CombineCheckedFn(beam.CombineFn):
    """Adds tallies and joins problems."""

    def create_accumulator(self) -> Checked:
        return Checked({}, ())

    def add_input(self, total: Checked, checked: Checked) -> Checked:
        splits = total.tallies.keys() | checked.tallies.keys()
        tallies = {split: total.tallies.get(split, Tally()) + checked.tallies.get(split, Tally()) for split in splits}
        return Checked(tallies, total.problems + checked.problems)

    def merge_accumulators(self, totals: Iterable[Checked]) -> Checked:
        merged = self.create_accumulator()
        for total in totals:
            merged = self.add_input(merged, total)
        return merged

    def extract_output(self, total: Checked) -> Checked:
        return replace(total, problems=tuple(sorted(total.problems)))


def _check(element: tuple[str, Shard], manifest: Manifest, root: str) -> Checked:
    return check_shard(*element, manifest, root)


def check_shard(split: str, shard: Shard, manifest: Manifest, root: str) -> Checked:
    """Reads a shard record by record. A problem names the shard, the record, and what was expected."""
    path = storage.join(root, shard.file)
    cure = f"restore the file (its sha256 in dataset.json is {shard.sha256}), or build again with --overwrite"
    tally, problems = Tally(), []
    checker, stream = RecordChecker(manifest), None
    try:
        with cloud.errors(path), storage.open_read(path) as file:
            stream = HashingStream(file)
            try:
                for index, serialized in enumerate(tfrecord.read_records(stream, shard.file)):
                    found, of_record = checker.check(serialized)
                    tally += of_record
                    problems += [f"{shard.file}: record {index}: {problem}" for problem in found]
            except tfrecord.CorruptRecordError as error:
                problems.append(f"{error}; {cure}")
            stream.drain()
    except (OSError, BuildError) as error:
        place = f" beyond byte {stream.bytes:,}" if stream else ""
        problems.append(f"{shard.file}: can't be read{place}, {error}; {cure}")
        return Checked({split: tally}, _shortened(problems, shard.file))
    if stream.bytes != shard.bytes:
        problems.append(f"{shard.file}: {stream.bytes:,} bytes, and the manifest says {shard.bytes:,}; {cure}")
    elif stream.sha256 != shard.sha256:
        problems.append(f"{shard.file}: sha256 is {stream.sha256}; {cure}")
    if tally.examples != shard.examples:
        problems.append(f"{shard.file}: {tally.examples} good records, and the manifest says {shard.examples}")
    if manifest.indexed and not problems:
        problems += _problems_of_index(shard, tally, root)
    return Checked({split: tally}, _shortened(problems, shard.file))


def _problems_of_index(shard: Shard, tally: Tally, root: str) -> Iterator[str]:
    name = index_name(shard.file)
    try:
        found = Index.from_bytes(storage.read_bytes(storage.join(root, name)), name)
    except SchemaError as error:
        yield f"{error}; restore the file, or build again with --overwrite"
        return
    same = found.moments == tally.moments and np.array_equal(found.class_pixels, tally.class_pixels)
    if len(found.examples) != tally.examples or not same:
        yield f"{name}: is not the index of {shard.file}; restore the file, or build again with --overwrite"


def problems_of_splits(checked: Checked, manifest: Manifest) -> Iterator[str]:
    """Where the totals of a split differ from the manifest."""
    for split, shards in manifest.splits.items():
        tally = checked.tallies.get(split, Tally())
        if tally.examples != manifest.examples(split):
            yield f"{split}: {tally.examples:,} good records, and the manifest says {manifest.examples(split):,}"
            continue  # its totals can't match
        counted = tuple(tally.class_pixels[: manifest.labels.num_classes].tolist())
        if shards and counted != manifest.class_pixels[split]:
            yield f"{split}: class pixels are {counted}, and the manifest says {manifest.class_pixels[split]}"
        ignored = int(tally.class_pixels[IGNORE])
        if shards and ignored != manifest.ignored_pixels[split]:
            yield f"{split}: {ignored:,} pixels are ignored, and the manifest says {manifest.ignored_pixels[split]:,}"
    if manifest.moments_from is not None:
        return
    tally = checked.tallies.get(manifest.moments_split, Tally())
    if tally.examples == manifest.examples(manifest.moments_split):
        yield from _problems_of_moments(tally, manifest)


def _problems_of_moments(tally: Tally, manifest: Manifest) -> Iterator[str]:
    split = manifest.moments_split
    if tally.moments != manifest.moments:
        yield f"{split}: mean {tally.moments.mean} and std {tally.moments.std} are not those of the manifest"
    if not manifest.pixels.normalized:
        return
    mean, std = tally.stored_moments()
    wanted = np.array([1.0 if value else 0.0 for value in manifest.moments.std])
    if np.abs(mean).max() > MOMENTS_TOLERANCE or np.abs(std - wanted).max() > MOMENTS_TOLERANCE:
        yield f"{split}: the normalized mean is {mean} and the std {std}: expected 0 and 1 within {MOMENTS_TOLERANCE}"


def problems_of_manifest(contradictions: Iterable[str]) -> list[str]:
    """Where the manifest contradicts itself: mean and std, for example, must be those of the histogram."""
    return [f"dataset.json: {problem}" for problem in contradictions]


def strange_files(manifest: Manifest, place: Workspace) -> list[str]:
    """Shards in the folder that the manifest does not list: a reader with a wildcard would read them.

    Files in `_build` are left out: a build deletes them only after publishing. So are those of an unfinished update.
    """
    known = {shard.file for shards in manifest.splits.values() for shard in shards} | {*manifest.superseded}
    known |= {*listed(place)} if storage.exists(place.journal) else set()
    names = (name for name in storage.sizes(place.root) if not name.startswith(f"{BUILD}/"))
    found = [name for name in names if name.endswith(".tfrecord") and name not in known]
    return [f"{name}: is not in the manifest; delete it" for name in sorted(found)]


class HashingStream:
    """A stream that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.bytes = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self.bytes += len(data)
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _shortened(problems: list[str], file: str) -> tuple[str, ...]:
    more = len(problems) - MAX_PROBLEMS
    kept = problems[:MAX_PROBLEMS]
    if more > 0:
        reasons = Counter(problem.split(": ", 2)[-1].split(",")[0] for problem in problems[MAX_PROBLEMS:])
        kept.append(f"{file}: and {more} more problems, most often: {reasons.most_common(1)[0][0]}")
    return tuple(kept)
