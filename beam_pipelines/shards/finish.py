"""Normalizes staged shards into their final files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.manifest import Shard
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
from beam_pipelines.shards.previous import read_index
from beam_pipelines.shards.receipts import FinishedShard, StagedShard, finished_receipt
from beam_pipelines.shards.stage import ShardWriter


def finish_shard(staged: StagedShard, moments: Moments, recipe: Recipe, workspace: Workspace) -> Shard:
    """Streams a staged shard through normalization into its final file. The staged shard is kept until the data set is
    published: if a fixed image changes the moments, the other shards need not be decoded again.

    A shard that an earlier run finished with the same moments is kept, and so is one of the data set before an update
    if its moments are still the same.
    """
    if not moments.pixels:
        return staged.shard  # every pair of the moments' split was rejected: publishing reports that
    if staged.source and previous_of(workspace).manifest.moments == moments:
        return staged.source
    if staged.source and staged.source.file == staged.shard.file:
        raise BuildError(
            f"the index of {staged.shard.file} does not fit {workspace.manifest}: build again with --overwrite"
        )
    digest = hashlib.sha256(staged.plan_digest.encode() + moments.histogram.tobytes()).hexdigest()
    done = _finished_before(staged.shard.file, digest, workspace)
    if done:
        return done
    normalizer = Normalizer(moments.normalization, record.RAW_DTYPES[recipe.image_format])
    if staged.source:
        workspace.write(workspace.index(staged.shard.file), read_index(staged.source.file, workspace)[1])
    with workspace.writing(workspace.final(staged.shard.file)) as file:
        writer = ShardWriter(file)
        for found in _unnormalized(staged, workspace):
            writer.write(record.encode(normalized(found, normalizer, recipe.image_format)))
    finished = FinishedShard(digest=digest, shard=writer.shard(staged.shard.file), crc32c=writer.crc32c)
    workspace.write(workspace.finished_receipt(finished.shard.file), sealed(finished.to_json()))
    return finished.shard


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


def _finished_before(file: str, digest: str, workspace: Workspace) -> Shard | None:
    found = finished_receipt(file, workspace)
    there = found and found.digest == digest and storage.size_of(workspace.final(file)) == found.shard.bytes
    return found.shard if found and there else None


@contextlib.contextmanager
def _staged_again(staged: StagedShard, workspace: Workspace) -> Iterator[None]:
    """If a staged shard can't be read, deletes its receipt, so that the next run stages it again."""
    try:
        yield
    except (tfrecord.CorruptRecordError, FileNotFoundError) as error:
        storage.delete([workspace.staged_receipt(staged.shard.file)])
        raise BuildError(f"{error}: run the same command again, which stages it again") from error
