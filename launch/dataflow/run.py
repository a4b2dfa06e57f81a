"""One run of launch.dataflow: a dry run, a new job, or an earlier job that is still running."""

from __future__ import annotations

import functools

import apache_beam as beam
from rich.console import Console

from beam_pipelines import builder, progress, report, runners
from beam_pipelines.files import cloud
from beam_pipelines.files.recipe_check import finished_build
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import BuildSettings, pipeline_options
from beam_pipelines.recipe import input_paths
from launch.account import google_errors
from launch.dataflow.job import CURES, JobRecord, RunningJob, find_running, save
from launch.dataflow.options import DataflowSettings, make_parser
from launch.dataflow.preview import print_preview, print_rate
from launch.errors import LaunchError


def run(settings: DataflowSettings, started: float) -> int:
    """Builds on Dataflow, follows a job that already does, or prints a preview. -> the exit code.

    Raises:
      LaunchError, BuildError: there is no data set, or it is not complete.
    """
    build, place = settings.build, Workspace(settings.build.output)
    console = Console(soft_wrap=True, markup=False)  # a path may contain brackets
    if not build.verbose:
        runners.keep_quiet()
    beam_options = pipeline_options(build.beam_args, list(make_parser()._option_string_actions))
    cloud.check_login(place.root, *input_paths(build.recipe.input))
    if settings.dry_run:
        return _preview(settings, place, started, console)
    job = None if build.plan_only else find_running(place, beam_options)
    if job and build.overwrite:
        raise LaunchError(
            f"a job is still writing to {place.root}: wait for it to end, or cancel it at {job.record.page}"
        )
    if job:
        finished_build(place, build.recipe)  # raises for another recipe
        if not settings.wait:
            return _leave(job.record, console)
        job.follow(build.recipe.normalized, console)
    submit = functools.partial(_submit, settings.project, settings.region, settings.wait)
    code = builder.build(build, started, console, submit)
    if build.plan_only:
        print_rate(settings.images_per_second, settings.price, console)
    return code


def _preview(settings: DataflowSettings, place: Workspace, started: float, console: Console) -> int:
    replaced = settings.build.overwrite or settings.build.update
    if not replaced and finished_build(place, settings.build.recipe):
        console.print(f"{place.root} is already complete: without --dry_run no job would start", highlight=False)
    print_preview(settings, started, console)
    return 0


def _submit(
    project: str,
    region: str,
    wait: bool,
    pipeline: beam.Pipeline,
    watcher: progress.Watcher,
    build: BuildSettings,
    console: Console,
) -> report.Took | None:
    """Submits the job and, with `wait`, follows it. -> None if this process does not wait for the job."""
    before = watcher.look()
    with google_errors("Dataflow did not accept the job", CURES):
        result = pipeline.run()
    if not result.has_job:  # --template_location
        console.print("the template is written; a job started from it builds what is planned above")
        return None
    record = JobRecord(
        project=project, region=region, id=result.job_id(), images=watcher.images, decoded=before.decoded
    )
    save(record, Workspace(build.output))
    if not wait:
        _leave(record, console)
        return None
    return RunningJob(record, result, pipeline.runner.dataflow_client).follow(build.recipe.normalized, console)


def _leave(record: JobRecord, console: Console) -> int:
    console.print(f"job {record.id}: {record.page}", highlight=False)
    console.print("the job publishes the data set itself; run the same command again to follow it and to finish up")
    return 0
