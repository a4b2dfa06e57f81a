"""The data set that an update starts from: its manifest, kept in `_build` until the update ends, and its pairs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from beam_pipelines.contract import index
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.manifest import Manifest, ManifestError, Shard
from beam_pipelines.contract.schema import Count, Digest, SchemaError
from beam_pipelines.contract.seal import decoded, sealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace, is_published, read_manifest
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards import plan
from beam_pipelines.shards.plan import ShardPlan

_AGAIN = "build the data set again with --overwrite"


class _Fields(msgspec.Struct, forbid_unknown_fields=True):
    sha256: Digest
    manifest: str
    changes: dict[str, Count]


@dataclass(frozen=True)
class Previous:
    """The manifest before an update, and how many pairs the update adds, changes and so on."""

    manifest: Manifest
    changes: Mapping[str, int]

    @property
    def shards(self) -> dict[str, Shard]:
        """File -> shard."""
        return {shard.file: shard for shards in self.manifest.splits.values() for shard in shards}


def read_previous(workspace: Workspace) -> Previous | None:
    """None if there is no update. Raises BuildError if the file is damaged; `mend_previous` is the cure."""
    data = storage.read_bytes(workspace.previous)
    if data is None:
        return None
    found = decoded(_Fields, data, workspace.previous)
    try:
        if found is not None:
            return Previous(Manifest.from_json(found.manifest, workspace.previous), found.changes)
    except ManifestError:
        pass
    raise BuildError(f"{workspace.previous} is damaged: another program changed it; run the same command again")


def mend_previous(workspace: Workspace) -> bool:
    """Writes the file again if it is damaged, or deletes it if the update is published. -> whether it was damaged."""
    with contextlib.suppress(BuildError):
        read_previous(workspace)
        return False
    found = None if is_published(workspace) else read_manifest(workspace)
    if found is None:
        storage.delete([workspace.previous])
    else:
        write_previous(workspace, Previous(found, {}))
    return True


def write_previous(workspace: Workspace, previous: Previous) -> None:
    """Keeps what `read_previous` reads, and the digest of `dataset.json`, by which a stopped update is known."""
    digest = hashlib.sha256(storage.read_bytes(workspace.manifest) or b"").hexdigest()
    value = {"sha256": digest, "manifest": previous.manifest.to_json(), "changes": dict(previous.changes)}
    workspace.write(workspace.previous, sealed(json.dumps(value)))


@dataclass(frozen=True)
class PreviousShard:
    """A line of the plan: its shard, None if that has no records, with the pairs of its records, in their order, and
    those that were rejected.
    """

    split: str
    shard: Shard | None
    pairs: Sequence[Pair]
    rejected: Sequence[Pair]
    planned: ShardPlan


def shards_of(workspace: Workspace, manifest: Manifest) -> Iterator[PreviousShard]:
    """Yields the shards of the finished data set.

    Raises:
      BuildError: an earlier version built the data set, or a file that lists its pairs is missing or damaged.
    """
    if not manifest.indexed:
        raise BuildError(f"{workspace.root} was built by a version that kept no list of its pairs: {_AGAIN}")
    there = {shard.file: shard for shards in manifest.splits.values() for shard in shards}
    for planned in plan.read_plan(workspace.kept_plan):
        shard = there.pop(planned.file, None)
        pairs, rejected = _divided(planned.pairs, shard, workspace)
        if shard is not None and shard.examples != len(pairs):
            raise BuildError(f"{workspace.kept_plan} does not list the pairs of {shard.file}: {_AGAIN}")
        yield PreviousShard(planned.split, shard, pairs, rejected, planned)
    if there:
        raise BuildError(f"{workspace.kept_plan} does not list {min(there)}: {_AGAIN}")


def _divided(pairs: Sequence[Pair], shard: Shard | None, workspace: Workspace) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """-> those of the planned `pairs` that are in the shard, and those that were rejected."""
    if shard is None or shard.examples == len(pairs):
        return (pairs, ()) if shard else ((), pairs)
    keys = {example.key for example in read_index(shard.file, workspace)[0].examples}
    return [pair for pair in pairs if pair.key in keys], [pair for pair in pairs if pair.key not in keys]


def pairing_problems(workspace: Workspace) -> list[Rejected] | None:
    """Those of the finished data set; None if its list of rejected pairs was changed."""
    try:
        lines = (storage.read_bytes(workspace.rejected) or b"").splitlines()
        return [found for line in lines if (found := Rejected.from_json(line)).stage == "pair"]
    except SchemaError:
        return None


def read_index(file: str, workspace: Workspace) -> tuple[Index, bytes]:
    """The index of a shard of the finished data set, and its bytes. Raises BuildError if it is damaged."""
    path = workspace.index(file)
    data = storage.read_bytes(path)
    try:
        return Index.from_bytes(data, path), data or b""
    except SchemaError as error:
        raise BuildError(f"{error}: restore {index.file_name(file)}, or {_AGAIN}") from error
