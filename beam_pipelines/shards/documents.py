"""Moves the documents that planning spooled to where the workers read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import BinaryIO

from beam_pipelines.files import storage
from beam_pipelines.files.spool import SpoolReader, reference_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.shards.plan import ShardPlan


def publish_documents(workspace: Workspace, shards: Sequence[ShardPlan]) -> list[ShardPlan]:
    """Copies the documents of the pairs into one file in `_build`, in the plan's order: a worker reads those of a shard
    in one go. -> the shards, with references to that file. Without documents no file is written.
    """
    if not any(has_documents(shard.pairs) for shard in shards):
        return [*shards]
    with contextlib.closing(SpoolReader()) as reader, workspace.writing(workspace.polygons) as file:
        target = _Target(workspace.polygons, file, reader)
        return [replace(shard, pairs=PairList(map(target.take, shard.pairs))) for shard in shards]


def copy_documents(pairs: Sequence[Pair], path: str) -> PairList:
    """Copies the documents of the pairs into the file `path`, which ends in `spool.DOCUMENTS`. -> the pairs, with
    references to that file.
    """
    with contextlib.closing(SpoolReader()) as reader, storage.writing(path) as file:
        return PairList(map(_Target(path, file, reader).take, pairs))


def has_documents(pairs: Iterable[Pair]) -> bool:
    """Whether a mask is a document that planning spooled."""
    return any(reference_of(pair.mask) for pair in pairs)


class _Target:
    def __init__(self, path: str, file: BinaryIO, reader: SpoolReader) -> None:
        self._path, self._file, self._reader = path, file, reader
        self._bytes = 0

    def take(self, pair: Pair) -> Pair:
        """Copies the document of `pair`, if it has one. -> the pair with the new reference."""
        reference = reference_of(pair.mask)
        if reference is None:
            return pair
        moved = reference.at(self._path, self._bytes)
        self._file.write(self._reader.read(reference) + b"\n")
        self._bytes += reference.length + 1
        return replace(pair, mask=str(moved))
