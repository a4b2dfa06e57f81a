"""What is done after `dataset.json` is written: files for people and other libraries, and an end to what only the build
needs. The next call does what a build that was killed here left undone.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from rich.console import Console

from beam_pipelines.card import files as card
from beam_pipelines.contract import index
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import lease, storage, workspace
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import libraries
from beam_pipelines.options import BuildSettings
from beam_pipelines.shards import leftovers, ownership
from beam_pipelines.shards.plan import as_published, read_plan, write_plan
from beam_pipelines.shards.previous import read_previous


def complete(settings: BuildSettings, place: Workspace) -> Manifest | None:
    """The manifest, if there is nothing left to do. Only reads, and so needs no lease."""
    has_ended = not storage.exists(place.journal)
    manifest = workspace.finished_build(place, settings.recipe, check_sizes=has_ended)
    if manifest is None or not has_ended or not _describes_itself(manifest, place):
        return None
    is_done = not settings.transform_fn or not manifest.pixels.uniform or leftovers.transform_is_whole(place)
    return manifest if is_done else None


def _describes_itself(manifest: Manifest, place: Workspace) -> bool:
    return libraries.are_written(manifest, place) and card.is_written(manifest, place)


def tidy(manifest: Manifest, settings: BuildSettings, place: Workspace, console: Console, is_last: bool = True) -> None:
    """The steps after the manifest: writes what people and other libraries read, and deletes what only the build needs.

    is_last: whether the command ends then and gives its lease back.
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
        _write_transform(manifest, place, console)
    lease.check(place.lease)
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


def _write_transform(manifest: Manifest, place: Workspace, console: Console) -> None:
    """Runs in a separate process, so that this one does not load TensorFlow."""
    if not manifest.pixels.uniform:
        console.print("no transform_fn is written: its graph needs one image size, and these images have several")
        return
    if leftovers.transform_is_whole(place):
        return
    command = [sys.executable, "-m", "beam_pipelines.metadata.transform_fn", place.root]
    with console.status("writing transform_fn"), _scratch(place) as scratch:
        environment = os.environ | {"TMPDIR": scratch}
        arguments = [*command, str(os.getpid())]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise BuildError(
            f"the data set is complete, but writing its transform_fn failed; run the same command again. "
            f"`{' '.join(command)}` exited with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}"
        )


@contextlib.contextmanager
def _scratch(place: Workspace) -> Iterator[str]:
    """A local folder for temporary files. It is below the data set if that is local, so that the next build removes
    what a killed one left.
    """
    if storage.is_local(place.root):
        folder = os.path.abspath(place.scratch)
        os.makedirs(folder, exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
