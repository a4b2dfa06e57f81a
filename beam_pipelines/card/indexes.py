"""Statistics from the indexes of shards."""

from __future__ import annotations

from beam_pipelines.card.statistics import Statistics
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.previous import read_index


def statistics_of(manifest: Manifest, workspace: Workspace) -> dict[str, Statistics]:
    """split -> its statistics, from the indexes of its shards. Raises BuildError."""
    classes = manifest.labels.num_classes
    return {
        split: sum((statistics_of_shard(shard.file, workspace, classes) for shard in shards), Statistics.zero(classes))
        for split, shards in manifest.splits.items()
    }


def statistics_of_shard(file: str, workspace: Workspace, classes: int) -> Statistics:
    """The statistics of the shard `file`, from its index. Raises BuildError."""
    index, _ = read_index(file, workspace)
    return Statistics.of(index, file, classes)
