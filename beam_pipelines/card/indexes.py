"""The indexes of shards, and statistics from them."""

from __future__ import annotations

from beam_pipelines.card.statistics import Statistics
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace


def statistics_of(manifest: Manifest, workspace: Workspace) -> dict[str, Statistics]:
    """split -> its statistics, from the indexes of its shards. Raises BuildError."""
    classes = manifest.labels.num_classes
    return {
        split: sum((statistics_of_shard(shard.file, workspace, classes) for shard in shards), Statistics.zero(classes))
        for split, shards in manifest.splits.items()
    }


def statistics_of_shard(file: str, workspace: Workspace, classes: int) -> Statistics:
    """The statistics of the shard `file`, from its index. Raises BuildError."""
    return Statistics.of(read_index(file, workspace), file, classes)


def read_index(file: str, workspace: Workspace) -> Index:
    """The index of the shard `file`. Raises BuildError if it is missing or damaged."""
    path = workspace.index(file)
    try:
        return Index.from_bytes(storage.read_bytes(path), path)
    except SchemaError as error:
        raise BuildError(f"{error}: restore the file, or build the data set again with --overwrite") from error
