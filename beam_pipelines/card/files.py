"""The files of the card: which there are, and what they are made from."""

from __future__ import annotations

from collections.abc import Mapping

from beam_pipelines.card import page, statistics_file
from beam_pipelines.card.indexes import statistics_of
from beam_pipelines.card.statistics import Statistics
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.names import CARD
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards import ownership

_NO_INDEXES = "an earlier version built the data set, without indexes: --overwrite builds it again"


def is_written(manifest: Manifest, workspace: Workspace) -> bool:
    """Whether the card exists, or can't be made."""
    return not manifest.indexed or ownership.there(workspace, CARD) == [*CARD]


def write_missing(manifest: Manifest, workspace: Workspace) -> list[str]:
    """Writes the card of a data set that has just been built, or that has none. -> a line if that is not possible."""
    if not manifest.indexed:
        return [f"no card is written: {_NO_INDEXES}"]
    if storage.exists(workspace.journal) or not is_written(manifest, workspace):
        _write(_read_statistics(manifest, workspace), manifest, workspace)
    return []


def write_again(manifest: Manifest, workspace: Workspace) -> None:
    """Writes the card of a finished data set from its indexes, whatever there is of it.

    Raises:
      BuildError: the shards have no indexes, one of these is damaged, or the card is behind a link.
    """
    if not manifest.indexed:
        raise BuildError(f"{workspace.root} can't have a card: {_NO_INDEXES}")
    _write(statistics_of(manifest, workspace), manifest, workspace)


def _read_statistics(manifest: Manifest, workspace: Workspace) -> Mapping[str, Statistics]:
    """As the build wrote them; from the indexes, if that file is damaged or gone, or was written for an update that did
    not become the data set.
    """
    try:
        text = storage.read_text(workspace.card_statistics)
        found = statistics_file.from_json(text or "", manifest.labels.num_classes, workspace.card_statistics)
        if _are_of(manifest, found):
            return found
    except (BuildError, SchemaError):
        pass
    return statistics_of(manifest, workspace)


def _are_of(manifest: Manifest, statistics: Mapping[str, Statistics]) -> bool:
    """Whether the statistics count what the manifest counts, and know no other shards."""
    files = {shard.file for shards in manifest.splits.values() for shard in shards}
    places = [place for each in statistics.values() for place in each.places]
    counted = {split: (each.examples, tuple(each.class_pixels[:-1].tolist())) for split, each in statistics.items()}
    return {place.shard for place in places} <= files and counted == {
        split: (manifest.examples(split), manifest.class_pixels[split]) for split in manifest.splits
    }


def _write(statistics: Mapping[str, Statistics], manifest: Manifest, workspace: Workspace) -> None:
    """Writes what differs, the page last."""
    ownership.refuse(workspace, CARD)
    texts = {
        workspace.card_statistics: statistics_file.to_json(statistics),
        workspace.card_page: page.render(manifest, statistics, workspace),
    }
    changed = [path for path, text in texts.items() if storage.read_bytes(path) != text.encode()]
    if changed:
        ownership.add_to_journal(workspace, CARD)  # it marks `_build` as ours, where files are written first
    for path in changed:
        workspace.write(path, texts[path].encode())
