"""One build, from finding the pairs to the closing table."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipelines import progress, report, runners
from beam_pipelines.card import files as card
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, lease, storage, workspace
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.graph import build_dataset
from beam_pipelines.inputs import sample_scenes
from beam_pipelines.inputs.layout_labels import labels_of
from beam_pipelines.inputs.placement import check_apart, check_not_among
from beam_pipelines.inputs.sample_scenes import drawing
from beam_pipelines.inputs.sources import Found, Pair, Source, find_pairs, open_source
from beam_pipelines.machine import cores
from beam_pipelines.metadata import libraries
from beam_pipelines.options import BuildSettings, pipeline_options
from beam_pipelines.recipe import SCENES, Recipe, input_paths
from beam_pipelines.shards import leftovers, ownership
from beam_pipelines.shards.documents import publish_documents
from beam_pipelines.shards.estimate import Estimate, estimate
from beam_pipelines.shards.plan import ShardPlan, choose_pairs, cut_shards, first_keys, write_plan
from beam_pipelines.shards.publish import check_rejects, write_pairing, write_rejected
from beam_pipelines.shards.survey import survey


@dataclass(frozen=True)
class BuildPlan:
    """The result of planning, before any shard is written."""

    found: Found
    chosen: Mapping[str, Sequence[Pair]]
    shards: Sequence[ShardPlan]
    estimate: Estimate


_PAIRING_ONLY = "No file has been decoded yet: images and masks that turn out to be bad count as well"
Execute = Callable[[beam.Pipeline, progress.Watcher, BuildSettings, Console], "report.Took | None"]


def run(settings: BuildSettings, started: float) -> int:
    """Builds, and returns the exit code."""
    return runners.guarded(lambda console: build(settings, started, console, execute), settings.verbose)


def build(settings: BuildSettings, started: float, console: Console, execute: Execute) -> int:
    """One build; `execute` runs its pipeline. If it returns None, the pipeline continues without this process."""
    place = Workspace(settings.output)
    beam_options = pipeline_options(settings.beam_args)
    cloud.check_login(place.root, *input_paths(settings.recipe.input))
    settings, opened = settled(settings)
    recipe = settings.recipe
    if settings.plan_only:
        plan = make_plan(recipe, place, console, opened)
        report.print_forecast(plan.chosen, plan.estimate, cores(), console)
        return 0
    if not settings.overwrite and _is_complete(settings, place):
        return _say_complete(place, console)
    ownership.claim(place, settings.overwrite)
    with lease.hold(place.lease):
        if not settings.overwrite and (manifest := _published(place, recipe, console)):
            _tidy(manifest, settings, place, console)  # a build that was killed at its end left this undone
            return _say_complete(place, console)
        plan = make_plan(recipe, place, console, opened)
        lease.check(place.lease)  # finding the pairs may have taken minutes
        ownership.refuse_foreign(place, [*_files(plan.shards), *libraries.names()])
        _check_space(plan, recipe, place)
        if settings.overwrite:  # only when there is something to put in its place
            _check_pairing(plan.found, settings, "The first of them are listed above; nothing was deleted")
            ownership.clear(place)
        _prepare(plan, settings, place, console)
        watcher = progress.Watcher(place, plan.shards, recipe, plan.estimate)
        took = execute(make_pipeline(settings, beam_options, started), watcher, settings, console)
        if took is None:
            return 0
        lease.check(place.lease)
        manifest = workspace.read_manifest(place)
        if manifest is None:
            raise BuildError(f"the pipeline ended without {place.manifest}; its log (--verbose) tells the reason")
        _tidy(manifest, settings, place, console)
    report.print_result(manifest, place.root, replace(took, total=time.time() - started), console)
    _print_next(place, console)
    return 0


def make_pipeline(settings: BuildSettings, beam_options: PipelineOptions, started: float) -> beam.Pipeline:
    """The pipeline of the build, before it is run. `started` is the time.time() at which the command began."""
    pipeline = beam.Pipeline(options=beam_options)
    build_dataset(pipeline, settings.recipe, Workspace(settings.output), settings.max_rejects, started)
    return pipeline


def _is_complete(settings: BuildSettings, place: Workspace) -> bool:
    """Whether there is nothing left to do. Only reads, and so needs no lease."""
    has_ended = not storage.exists(place.journal)
    manifest = workspace.finished_build(place, settings.recipe, check_sizes=has_ended)
    if manifest is None or not has_ended or not _describes_itself(manifest, place):
        return False
    return not settings.transform_fn or not manifest.pixels.uniform or leftovers.transform_is_whole(place)


def _describes_itself(manifest: Manifest, place: Workspace) -> bool:
    return libraries.are_written(manifest, place) and card.is_written(manifest, place)


def _published(place: Workspace, recipe: Recipe, console: Console) -> Manifest | None:
    """The manifest of a build that only has to be cleaned up; None if a part of the data set has to be built again."""
    has_ended = not storage.exists(place.journal)
    manifest = workspace.finished_build(place, recipe, check_sizes=has_ended)
    if manifest is None or has_ended:
        return manifest
    damaged = leftovers.damaged_files(manifest, place)
    if damaged:
        console.print(leftovers.made_again(dict.fromkeys(damaged, "other bytes than published")), highlight=False)
    return None if damaged else manifest


def _say_complete(place: Workspace, console: Console) -> int:
    console.print(f"{place.root} is already complete; --overwrite builds it again", highlight=False)
    _print_next(place, console)
    return 0


def _tidy(manifest: Manifest, settings: BuildSettings, place: Workspace, console: Console) -> None:
    """The steps after the manifest: writes what other libraries read, and deletes what only the build needs."""
    for note in [*libraries.write_files(manifest, place), *card.write_missing(manifest, place)]:
        console.print(note, highlight=False)
    if settings.transform_fn:
        _write_transform(manifest, place, console)
    lease.check(place.lease)
    ownership.finish(place)


def settled(settings: BuildSettings) -> tuple[BuildSettings, list[Source]]:
    """The settings with the label table of the input's layout, if none was given; and the input, if it was opened, for
    `make_plan`.

    Raises:
      LabelTableError: the layout has a label table of its own, which can't be read.
    """
    if settings.labels_given or settings.recipe.input == SCENES:
        return settings, []
    try:
        opened = [open_source(settings.recipe, settings.recipe.input)]
    except BuildError:  # a finished data set does not need its input; a build raises the error again
        opened = []
    labels = labels_of(opened[0]) if opened else _labels_of_finished(settings)
    recipe = replace(settings.recipe, labels=labels) if labels else settings.recipe
    return replace(settings, recipe=recipe), opened


def _labels_of_finished(settings: BuildSettings) -> LabelTable | None:
    """The label table of the data set in `--output`, if its recipe is the same besides; else None."""
    with contextlib.suppress(BuildError, ManifestError):
        found = workspace.read_manifest(Workspace(settings.output))
        if found and replace(settings.recipe, labels=found.labels).fingerprint == found.fingerprint:
            return found.labels
    return None


def make_plan(recipe: Recipe, place: Workspace, console: Console, opened: list[Source] | None = None) -> BuildPlan:
    """Finds the pairs, divides them into shards, and prints the plan. Writes nothing, except the embedded scenes if
    they are the input. An `opened` input is taken out of its list, so that nothing else holds the list of its files.
    """
    inputs = _draw_scenes(recipe, place, console) if recipe.input == SCENES else recipe.input
    if recipe.input != SCENES:
        check_apart(inputs, place.root)
    source = opened.pop() if opened else open_source(recipe, inputs)
    if recipe.input != SCENES:
        check_not_among(source, place.root)
    found = find_pairs(recipe, inputs, source)
    form = "" if recipe.input == SCENES else f"{source.form}, label table {recipe.labels.name}"
    del source  # the list of all files
    report.print_found(found, inputs, console, form)
    chosen = choose_pairs(found.pairs, recipe)
    surveyed = survey(chosen, recipe)
    report.print_notes(surveyed.notes, console)
    expected = estimate(itertools.chain.from_iterable(chosen.values()), recipe, surveyed.reading)
    shards = cut_shards(chosen, recipe, expected.example_bytes[recipe.image_encoding], surveyed.reading)
    report.print_plan(chosen, shards, expected, recipe, console)
    return BuildPlan(found, chosen, shards, expected)


def _draw_scenes(recipe: Recipe, place: Workspace, console: Console) -> str:
    """Draws the embedded scenes that the recipe takes, beside the data set, unless they are there. -> their folder."""
    folder = f"{place.root}-source"
    of_splits = [sample_scenes.list_scenes({split: count}) for split, count in sample_scenes.SCENES.items()]
    scenes = [key for keys in of_splits for key in first_keys(keys, recipe)]
    there = storage.sizes(folder)
    missing = [key for key in scenes if not all(name in there for name in sample_scenes.scene_file_names(key))]
    if missing:
        console.print(f"drawing {len(missing)} street scenes into {folder}", highlight=False)

        def write(name: str, data: bytes) -> None:
            if name not in there:  # earlier versions drew no instance ids; what they drew stays untouched
                storage.write(storage.join(folder, name), data)

        drawing.draw_scenes(missing, cores(), write)
    return folder


def _check_pairing(found: Found, settings: BuildSettings, listed: str) -> None:
    """Raises BuildError if the pairing problems alone are more than `--max_rejects` allows."""
    reasons = Counter(problem.reason for problem in found.rejected)
    check_rejects(reasons, len(found.pairs), settings.max_rejects, f"{listed}. {_PAIRING_ONLY}")


def _prepare(plan: BuildPlan, settings: BuildSettings, place: Workspace, console: Console) -> None:
    """Writes the files that the pipeline reads, and deletes the receipts of damaged shards.

    Raises:
      BuildError: the pairing problems alone are more than `--max_rejects` allows.
    """
    for line in leftovers.say_damaged(place):
        console.print(line, highlight=False)
    ownership.start(place, _files(plan.shards))
    write_pairing(place, plan.found.rejected)
    if plan.found.rejected:
        write_rejected([], place)
        _check_pairing(plan.found, settings, f"{place.rejected} lists each with its reason")
    workspace.write_recipe(place, settings.recipe)
    if damaged := leftovers.forget_damaged(plan.shards, settings.recipe, place):
        console.print(leftovers.made_again(damaged), highlight=False)
    write_plan(place, publish_documents(place, plan.shards))


def _files(shards: Sequence[ShardPlan]) -> list[str]:
    return [name for shard in shards for name in shard.files]


def _check_space(plan: BuildPlan, recipe: Recipe, place: Workspace) -> None:
    """Raises BuildError if a local disk has too little space for the data set and its staged shards."""
    if not storage.is_local(place.root):
        return
    pairs = sum(len(shard.pairs) for shard in plan.shards)
    needed = pairs * (plan.estimate.example_bytes[recipe.image_encoding] + plan.estimate.staged_bytes)
    needed -= ownership.bytes_there(place)
    free = shutil.disk_usage(place.root).free
    if needed > free:
        raise BuildError(
            f"{place.root}: the build needs about {report.readable(needed)} and the disk has {report.readable(free)} "
            "free; free some space, or choose --image_encoding=uint8 or png (the plan above has their sizes)"
        )


def execute(
    pipeline: beam.Pipeline, watcher: progress.Watcher, settings: BuildSettings, console: Console
) -> report.Took:
    """Runs the pipeline to its end, and shows its progress."""
    remote = not storage.is_local(settings.output)
    shown = progress.shown(watcher, settings.recipe.normalized, console, remote)

    def say(reason: str) -> None:
        lease.check(Workspace(settings.output).lease)
        console.print(f"the run failed ({reason}); continuing from the finished shards", highlight=False)

    with shown:
        before, start = watcher.look(), time.time()
        runners.run_to_end(pipeline, watcher.receipts, say)
    seconds = time.time() - start
    return report.Took(total=seconds, pipeline=seconds, images=watcher.images - before.decoded)


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


def _print_next(place: Workspace, console: Console) -> None:
    console.print(f"next: python -m beam_pipelines.verify {shlex.quote(place.root)}", highlight=False)
