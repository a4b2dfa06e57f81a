"""Takes records of a finished data set into an updated one: no picture is decoded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.index import Example
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.pixel import CHANNELS
from beam_pipelines.contract.png import decode_png
from beam_pipelines.contract.record import RAW_DTYPES, Record, is_normalized
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.index_files import read_index
from beam_pipelines.shards.plan import ShardPlan
from beam_pipelines.shards.previous import Previous, read_previous
from beam_pipelines.shards.receipts import StagedShard


def previous_of(workspace: Workspace) -> Previous:
    """Raises BuildError if there is no update."""
    found = read_previous(workspace)
    if found is None:
        raise BuildError(f"{workspace.previous} does not exist: run the same command again")
    return found


def staged_whole(plan: ShardPlan, source: Shard, workspace: Workspace) -> StagedShard:
    """A shard of which all records stay: nothing is written yet, for its moments tell whether anything must be."""
    index, written = read_index(source.file, workspace)
    if len(index.examples) != source.examples:
        raise BuildError(f"{workspace.index(source.file)} is not the index of {source.file}: restore it")
    shard = source if plan.is_kept else replace(source, file=plan.file)
    return StagedShard.of(index, written, plan_digest=plan.digest, shard=shard, crc32c=None, rejected=(), source=source)


def carried(plan: ShardPlan, source: Shard, workspace: Workspace) -> Iterator[tuple[Example, Record]]:
    """The records of `source` whose pairs the plan has, as they were staged: raw_uint8 if they are normalized.

    Raises:
      BuildError: the shard or its index is damaged.
    """
    index, _ = read_index(source.file, workspace)
    stay = {pair.key for pair in plan.pairs}
    normalization = previous_of(workspace).manifest.moments.normalization
    for example, found in zip(index.examples, records_of(source, workspace), strict=True):
        if found.filename != example.filename:
            raise BuildError(f"{workspace.index(source.file)} is not the index of {source.file}: restore it")
        if example.key in stay:
            yield example, restored(found, normalization)


def records_of(shard: Shard, workspace: Workspace) -> Iterator[Record]:
    """The records of a finished shard. Raises BuildError if it is damaged or has another number of them."""
    path = workspace.final(shard.file)
    number = 0
    try:
        with storage.open_read(path) as file:
            for serialized in tfrecord.read_records(file, path):
                number += 1
                yield record.decode(serialized)
        if number != shard.examples:
            raise tfrecord.CorruptRecordError(f"{path} has {number} of {shard.examples} records")
    except (tfrecord.CorruptRecordError, FileNotFoundError) as error:
        raise BuildError(f"{error}: restore the file, or build the data set again with --overwrite") from error


def restored(stored: Record, normalization: Normalization) -> Record:
    """A normalized record as raw_uint8, with the exact pixels; others as they are."""
    if not is_normalized(stored.image_format):
        return stored
    return replace(stored, image=image_of(stored, normalization).tobytes(), image_format="raw_uint8")


def image_of(stored: Record, normalization: Normalization | None = None) -> np.ndarray:
    """The image of a record, uint8[H, W, 3], before `normalization`; only a normalized record needs that."""
    if stored.image_format == "png":
        return decode_png(stored.image)
    shape = (stored.height, stored.width, CHANNELS)
    values = np.frombuffer(stored.image, RAW_DTYPES[stored.image_format]).reshape(shape)
    return normalization.to_pixels(values) if normalization and is_normalized(stored.image_format) else values


def mask_of(stored: Record) -> np.ndarray:
    """The mask of a record, uint8[H, W]."""
    if stored.mask_format == "png":
        return decode_png(stored.mask)
    return np.frombuffer(stored.mask, np.uint8).reshape(stored.height, stored.width)
