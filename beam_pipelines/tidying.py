"""What is done after `dataset.json` is written: files for people and other libraries, and an end to what only the build
needs. The next call does what a build that was killed here left undone.
"""

from __future__ import annotations

import shlex

from rich.console import Console

from beam_pipelines import runners
from beam_pipelines.card import files as card
from beam_pipelines.contract import index
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import lease, storage
from beam_pipelines.files.recipe_check import finished_build
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import libraries
from beam_pipelines.metadata.transform_process import TransformProcess
from beam_pipelines.options import BuildSettings
from beam_pipelines.shards import leftovers, ownership
from beam_pipelines.shards.plan import as_published, read_plan, write_plan
from beam_pipelines.shards.previous import read_previous

_MOST_SECONDS = 120.0  # for which a process with TensorFlow waits for the pipeline


def complete(settings: BuildSettings, place: Workspace) -> Manifest | None:
    """The manifest, if there is nothing left to do. Only reads, and so needs no lease."""
    has_ended = not storage.exists(place.journal)
    manifest = finished_build(place, settings.recipe, check_sizes=has_ended)
    if manifest is None or not has_ended or not _describes_itself(manifest, place):
        return None
    is_done = not settings.transform_fn or not manifest.pixels.uniform or leftovers.transform_is_whole(place)
    return manifest if is_done else None


def _describes_itself(manifest: Manifest, place: Workspace) -> bool:
    return libraries.are_written(manifest, place) and card.is_written(manifest, place)


def tidy(
    manifest: Manifest,
    settings: BuildSettings,
    place: Workspace,
    console: Console,
    is_last: bool = True,
    transform: TransformProcess | None = None,
) -> None:
    """The steps after the manifest: writes what people and other libraries read, and deletes what only the build needs.

    is_last: whether the command ends then and gives its lease back.
    transform: a process that may have started before.
    """
    before = read_previous(place)
    if storage.exists(place.refused[0]):
        ownership.publish_lists(place)
    if before:
        ownership.remove_unpublished(place, files_of(manifest))
    notes = libraries.write_files(manifest, place, before.manifest if before else None)
    for note in [*notes, *_write_card(manifest, place)]:
        console.print(note, highlight=False)
    if before and (before.manifest.moments != manifest.moments or not manifest.pixels.uniform):
        ownership.remove_transform(place)  # it is that of the data set before
    if settings.transform_fn:
        _write_transform(manifest, place, console, transform)
    lease.check(place.lease)
    place.check()
    _keep_plan(manifest, place, of_update=before is not None)
    ownership.finish(place, is_last)


def _write_card(manifest: Manifest, place: Workspace) -> list[str]:
    """-> a line if that is not possible: the data set is published all the same."""
    try:
        return card.write_missing(manifest, place)
    except BuildError as error:
        return [
            f"no card is written: {error}; then `python -m beam_pipelines.card {shlex.quote(place.root)}` writes it"
        ]


def files_of(manifest: Manifest) -> list[str]:
    """The shards of a data set and their indexes, with those that a reader may still have open."""
    shards = [*(shard.file for shards in manifest.splits.values() for shard in shards), *manifest.superseded]
    return [*shards, *map(index.file_name, shards)]


def _keep_plan(manifest: Manifest, place: Workspace, of_update: bool) -> None:
    """An update and a later call compare the input with it. A shard that is as it was before an update has the name
    that it had there.
    """
    if not storage.exists(place.plan):
        return
    if not of_update:
        place.copy(place.plan, place.kept_plan)
        return
    files = {shard.file for shards in manifest.splits.values() for shard in shards}
    write_plan(place, (as_published(shard, files) for shard in read_plan(place.plan)), place.kept_plan)


def begins_early(settings: BuildSettings, pipeline_seconds: float) -> bool:
    """Whether the process that makes `transform_fn` starts with the pipeline: not if it would hold its memory for long,
    or might have nothing to do.
    """
    runs_here = runners.runner_in(settings.beam_args).in_process and settings.recipe.image_size is not None
    return settings.transform_fn and not settings.update and runs_here and pipeline_seconds < _MOST_SECONDS


def _write_transform(
    manifest: Manifest, place: Workspace, console: Console, transform: TransformProcess | None
) -> None:
    if not manifest.pixels.uniform:
        console.print("no transform_fn is written: its graph needs one image size, and these images have several")
        return
    if leftovers.transform_is_whole(place):
        return
    with console.status("writing transform_fn"), transform or TransformProcess(place) as process:
        process.write()
