"""One build, from finding the pairs to the closing table."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipelines import progress, report, runners, tidying
from beam_pipelines.card import files as card
from beam_pipelines.contract import png
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, lease, storage, workspace
from beam_pipelines.files.recipe_check import finished_build, write_recipe
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.graph import build_dataset
from beam_pipelines.inputs.layout import listed
from beam_pipelines.inputs.sources import Found, Source
from beam_pipelines.machine import cores
from beam_pipelines.metadata import libraries
from beam_pipelines.metadata.transform_process import TransformProcess
from beam_pipelines.options import BuildSettings, pipeline_options
from beam_pipelines.planner import BuildPlan, changes_since, make_plan, settled
from beam_pipelines.recipe import Recipe, input_paths
from beam_pipelines.shards import leftovers, ownership
from beam_pipelines.shards.documents import publish_documents
from beam_pipelines.shards.leaks import check_published_leaks, grouping_of_leaks
from beam_pipelines.shards.plan import write_plan
from beam_pipelines.shards.previous import Previous, mend_previous, write_previous
from beam_pipelines.shards.publish import Limits, check_rejects, write_pairing, write_rejected
from beam_pipelines.shards.update import Changes

# Beside the shards, rounded up: the index of an example, the card, and transform_fn with the files of TensorFlow
# that are there while it is written.
_INDEX_BYTES, _CARD_BYTES, _TRANSFORM_BYTES = 4_000, 700_000, 900_000
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
        return _forecast(settings, place, console, opened)
    complete = None if settings.overwrite or settings.update else tidying.complete(settings, place)
    # A lease is of a build that was killed before its last deed, which was to delete that, or of one that runs.
    if complete and not storage.exists(place.lease):
        return _say_complete(complete, settings, console, opened)
    ownership.claim(place, settings.overwrite)
    with lease.hold(place.lease):
        before = _before(settings, place, console)
        if before and not settings.update:
            return _say_complete(before, settings, console, opened)
        plan = make_plan(recipe, place, console, opened, before)
        lease.check(place.lease)  # finding the pairs may have taken minutes
        if before and plan.difference and plan.difference.is_empty:
            return _leave(before, settings, place, console)
        ownership.refuse_foreign(place, [*plan.files, *libraries.names()])
        _check_space(plan, settings, place)
        if settings.overwrite:  # only when there is something to put in its place
            _check_pairing(plan.found, settings, "The first of them are listed above; nothing was deleted")
        place = ownership.take(place)
        if settings.overwrite:
            ownership.clear(place)
        if before:
            _check_same(before, place)
        _prepare(plan, before, settings, place, console)
        watcher = progress.Watcher(place, plan.decoded, recipe, plan.estimate)
        runners.choose_mode(beam_options, settings.beam_args, watcher.images, plan.estimate.pair_seconds)
        with TransformProcess(place) as transform:
            if tidying.begins_early(settings, plan.estimate.build_seconds(watcher.images, cores())):
                transform.start()
            took = execute(make_pipeline(settings, place, beam_options, started), watcher, settings, console)
            if took is None:
                return 0
            manifest = _published_now(place)
            grouping = grouping_of_leaks(recipe, place, place.duplicates) if manifest.leaks else None
            tidying.tidy(manifest, settings, place, console, transform=transform)
    report.print_result(manifest, place.root, replace(took, total=time.time() - started), console, grouping)
    _print_next(place, console)
    return 0


def _check_same(before: Manifest, place: Workspace) -> None:
    """Raises BuildError if an earlier build has published while an update of the data set `before` was planned."""
    now = workspace.read_manifest(place)
    if now is None or now.to_json() != before.to_json():
        raise BuildError(f"another build has written {place.manifest} meanwhile; run the same command again")


def _published_now(place: Workspace) -> Manifest:
    """The manifest that the pipeline has written."""
    lease.check(place.lease)
    place.check()
    manifest = workspace.read_manifest(place)
    if manifest is None:
        raise BuildError(f"the pipeline ended without {place.manifest}; its log (--verbose) tells the reason")
    return manifest


def _forecast(settings: BuildSettings, place: Workspace, console: Console, opened: list[Source]) -> int:
    """Prints the plan of a build or an update, and what it will take."""
    before = finished_build(place, settings.recipe) if settings.update else None
    plan = make_plan(settings.recipe, place, console, opened, before)
    report.print_forecast(plan.chosen, plan.estimate, cores(), console)
    return 0


def _before(settings: BuildSettings, place: Workspace, console: Console) -> Manifest | None:
    """The data set that is there, once what a build that was killed at its end left undone is done; None if there is
    none, or if it is to be replaced.
    """
    if mend_previous(place):
        console.print(f"{place.previous} was damaged, and is written again", highlight=False)
    found = None if settings.overwrite else _published(place, settings.recipe, console)
    if found is None:
        return None
    if workspace.update_is_unpublished(place):
        return found
    if not tidying.complete(settings, place):
        tidying.tidy(found, settings, place, console, is_last=not settings.update)
    elif not settings.update:
        ownership.finish(place)  # only a lease may be left
    return found


def make_pipeline(
    settings: BuildSettings, place: Workspace, beam_options: PipelineOptions, started: float
) -> beam.Pipeline:
    """The pipeline of the build, before it is run. `started` is the time.time() at which the command began."""
    pipeline = beam.Pipeline(options=beam_options)
    limits = Limits(settings.max_rejects, settings.max_leaks)
    build_dataset(pipeline, settings.recipe, place, limits, started)
    return pipeline


def _published(place: Workspace, recipe: Recipe, console: Console) -> Manifest | None:
    """The manifest of a build that only has to be cleaned up; None if a part of the data set has to be built again."""
    has_ended = not storage.exists(place.journal)
    manifest = finished_build(place, recipe, check_sizes=has_ended)
    if manifest is None or has_ended or workspace.update_is_unpublished(place):
        return manifest
    damaged = leftovers.damaged_files(manifest, place)
    if damaged:
        console.print(leftovers.made_again(dict.fromkeys(damaged, "other bytes than published")), highlight=False)
    return None if damaged else manifest


def _say_complete(manifest: Manifest, settings: BuildSettings, console: Console, opened: list[Source]) -> int:
    place = Workspace(settings.output)
    check_published_leaks(manifest, settings.max_leaks)
    console.print(f"{place.root} is already complete; --overwrite builds it again", highlight=False)
    if workspace.update_is_unpublished(place):
        console.print("an update of it was begun and is not published: --update goes on with it", highlight=False)
        _print_next(place, console)
        return 0
    try:
        changes = changes_since(settings, manifest, opened)
    except BuildError as error:
        console.print(f"its input can't be compared with it: {error}", highlight=False, markup=False)
    else:
        _say_changed(changes, console)
    _print_next(place, console)
    return 0


def _say_changed(changes: Changes | None, console: Console) -> None:
    """Prints how the input differs from the data set."""
    if changes and (lines := [*changes.lines()]):
        console.print("its input has changed since; --update brings this in:", highlight=False)
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False)


def _leave(before: Manifest, settings: BuildSettings, place: Workspace, console: Console) -> int:
    """Ends an update for which there is nothing to do, and deletes what a stopped one has written."""
    check_published_leaks(before, settings.max_leaks)
    place = ownership.take(place)
    _check_same(before, place)
    if workspace.update_is_unpublished(place):
        ownership.start_update(place, [], tidying.files_of(before))
        card.write_missing(before, place)  # a stopped update may have replaced the statistics
    ownership.finish(place)
    console.print(f"{place.root} is up to date", highlight=False)
    _print_next(place, console)
    return 0


def _check_pairing(found: Found, settings: BuildSettings, listed: str) -> None:
    """Raises BuildError if the pairing problems alone are more than `--max_rejects` allows."""
    reasons = Counter(problem.reason for problem in found.rejected)
    check_rejects(reasons, len(found.pairs), settings.max_rejects, f"{listed}. {_PAIRING_ONLY}")


def _prepare(
    plan: BuildPlan, before: Manifest | None, settings: BuildSettings, place: Workspace, console: Console
) -> None:
    """Writes the files that the pipeline reads, and deletes the receipts of damaged shards.

    Raises:
      BuildError: the pairing problems alone are more than `--max_rejects` allows.
    """
    for line in leftovers.say_damaged(place):
        console.print(line, highlight=False)
    if before and plan.difference:
        ownership.start_update(place, plan.files, tidying.files_of(replace(before, superseded=())))
        write_previous(place, Previous(before, plan.difference.changes.counts))
    else:
        ownership.start(place, plan.files)
    write_pairing(place, plan.found.rejected)
    if plan.found.rejected:
        listed = "The first of them are listed above"
        if before is None:  # else the file belongs to the data set that the update starts from
            write_rejected([], place, place.rejected)
            listed = f"{place.rejected} lists each with its reason"
        _check_pairing(plan.found, settings, listed)
    write_recipe(place, settings.recipe)
    if damaged := leftovers.forget_damaged(plan.shards, settings.recipe, place):
        console.print(leftovers.made_again(damaged), highlight=False)
    write_plan(place, publish_documents(place, plan.shards))


def _check_space(plan: BuildPlan, settings: BuildSettings, place: Workspace) -> None:
    """Raises BuildError if a local disk has too little space for the data set and its staged shards, which stay until
    the card and transform_fn are written.
    """
    if not storage.is_local(place.root):
        return
    written = sum(len(shard.pairs) for shard in plan.shards if not shard.is_kept)
    staged = sum(len(shard.pairs) for shard in plan.decoded)
    of_encoding = plan.estimate.example_bytes
    own = of_encoding[settings.recipe.image_encoding]
    beside = _CARD_BYTES + (_TRANSFORM_BYTES if settings.transform_fn and settings.recipe.image_size else 0)
    needed = written * (own + _INDEX_BYTES) + staged * plan.estimate.staged_bytes + beside
    if plan.difference is None:
        needed -= ownership.bytes_there(place)
    free = shutil.disk_usage(place.root).free
    if needed > free:
        smaller = [] if plan.difference else [name for name, size in of_encoding.items() if size < own]
        cure = f", or choose --image_encoding={listed(smaller)} (the plan above has their sizes)" if smaller else ""
        raise BuildError(
            f"{place.root}: the build needs about {report.readable(needed)} and the disk has {report.readable(free)} "
            f"free; free some space{cure}"
        )


def execute(
    pipeline: beam.Pipeline, watcher: progress.Watcher, settings: BuildSettings, console: Console
) -> report.Took:
    """Runs the pipeline to its end, and shows its progress."""
    remote = not storage.is_local(settings.output)
    decoder = png.decoder() if runners.runner_in(settings.beam_args).in_process else ""
    if decoder and settings.verbose:
        report.print_decoder(decoder, console)
    shown = progress.shown(watcher, settings.recipe.normalized, console, remote)

    def say(reason: str) -> None:
        lease.check(Workspace(settings.output).lease)
        console.print(f"the run failed ({reason}); continuing from the finished shards", highlight=False)

    with shown:
        before, start = watcher.look(), time.time()
        runners.run_to_end(pipeline, watcher.receipts, say)
    seconds = time.time() - start
    return report.Took(total=seconds, pipeline=seconds, images=watcher.images - before.decoded, decoder=decoder)


def _print_next(place: Workspace, console: Console) -> None:
    if storage.exists(place.card_page):
        console.print(f"card: {place.card_page}", highlight=False, markup=False)
    console.print(f"next: python -m beam_pipelines.verify {shlex.quote(place.root)}", highlight=False)
