"""Normalizes staged shards into their final files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import CHANNELS
from beam_pipelines.contract.record import Record
from beam_pipelines.contract.seal import sealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.pixels.normalize import Normalizer
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.carry import previous_of, records_of, restored
from beam_pipelines.shards.index_files import read_index
from beam_pipelines.shards.receipts import FinishedShard, StagedShard, finished_receipt
from beam_pipelines.shards.stage import ShardWriter
from beam_pipelines.shards.written import WrittenShard


def finish_shard(staged: StagedShard, moments: Moments, recipe: Recipe, workspace: Workspace) -> WrittenShard:
    """Streams a staged shard through normalization into its final file. The staged shard is kept until the data set is
    published: if a fixed image changes the moments, the other shards need not be decoded again.

    A shard that an earlier run finished with the same moments is kept, and so is one of the data set before an update
    if its moments are still the same.

    Raises:
      BuildError: a file can't be read or written, or another build has taken the folder (ReplacedBuildError).
    """
    workspace.check()  # before minutes of work
    if not moments.pixels:  # every pair of the moments' split was rejected: publishing reports that
        return WrittenShard.of(staged, staged.shard, None)
    if staged.source and previous_of(workspace).manifest.moments == moments:
        return WrittenShard.of(staged, staged.source, None)
    if staged.source and staged.source.file == staged.shard.file:
        raise BuildError(
            f"the index of {staged.shard.file} does not fit {workspace.manifest}: build again with --overwrite"
        )
    digest = hashlib.sha256(staged.plan_digest.encode() + moments.histogram.tobytes()).hexdigest()
    if staged.source:
        _copy_index(staged.source.file, staged.shard.file, workspace)
    done = _finished_before(staged.shard.file, digest, workspace) or _finish(staged, digest, moments, recipe, workspace)
    return WrittenShard.of(staged, done.shard, done.crc32c)


def _copy_index(source: str, file: str, workspace: Workspace) -> None:
    """Writes the index of the shard `source` as that of `file`, unless it is there."""
    _, written = read_index(source, workspace)
    if storage.read_bytes(workspace.index(file)) != written:
        workspace.write(workspace.index(file), written)


def _finish(staged: StagedShard, digest: str, moments: Moments, recipe: Recipe, workspace: Workspace) -> FinishedShard:
    """Writes the final file and its receipt."""
    normalizer = Normalizer(moments.normalization, record.RAW_DTYPES[recipe.image_format])
    with workspace.writing(workspace.final(staged.shard.file)) as file:
        writer = ShardWriter(file)
        for found in _unnormalized(staged, workspace):
            writer.write(record.encode(normalized(found, normalizer, recipe.image_format)))
    finished = FinishedShard(digest=digest, shard=writer.shard(staged.shard.file), crc32c=writer.crc32c)
    workspace.write(workspace.finished_receipt(finished.shard.file), sealed(finished.to_json()))
    return finished


def _unnormalized(staged: StagedShard, workspace: Workspace) -> Iterator[Record]:
    """The records of a staged shard, or of a finished one from which they are restored."""
    if staged.source:
        normalization = previous_of(workspace).manifest.moments.normalization
        for found in records_of(staged.source, workspace):
            yield restored(found, normalization)
        return
    path, count = workspace.staged(staged.shard.file), 0
    with _staged_again(staged, workspace), storage.open_read(path) as source:
        for serialized in tfrecord.read_records(source, path):
            count += 1
            yield record.decode(serialized)
        if count != staged.shard.examples:
            raise tfrecord.CorruptRecordError(f"{path} has {count} of {staged.shard.examples} records")


def normalized(staged: Record, normalizer: Normalizer, image_format: str) -> Record:
    """The record with its raw_uint8 image normalized."""
    image = np.frombuffer(staged.image, np.uint8).reshape(staged.height, staged.width, CHANNELS)
    return replace(staged, image=normalizer(image).tobytes(), image_format=image_format)


def _finished_before(file: str, digest: str, workspace: Workspace) -> FinishedShard | None:
    found = finished_receipt(file, workspace)
    there = found and found.digest == digest and storage.size_of(workspace.final(file)) == found.shard.bytes
    return found if there else None


@contextlib.contextmanager
def _staged_again(staged: StagedShard, workspace: Workspace) -> Iterator[None]:
    """If a staged shard can't be read, deletes its receipt, so that the next run stages it again."""
    try:
        yield
    except (tfrecord.CorruptRecordError, FileNotFoundError) as error:
        workspace.delete(workspace.staged_receipt(staged.shard.file))
        raise BuildError(f"{error}: run the same command again, which stages it again") from error
