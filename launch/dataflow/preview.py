"""Prints what a Dataflow job would do: command, graph, staged files, imports and cost. Submits and writes nothing."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.dataflow.internal import apiclient
from rich.console import Console
from rich.table import Table

from beam_pipelines import builder, graph, planner
from beam_pipelines.files.recipe_check import finished_build
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import BuildSettings, pipeline_options
from beam_pipelines.report import readable
from launch.dataflow.cost import START_MINUTES, Price, per_thousand, predict, useful_workers
from launch.dataflow.options import DataflowSettings
from launch.dataflow.worker import load_graph
from launch.dataflow.workers import Workers


def print_preview(settings: DataflowSettings, started: float, console: Console) -> None:
    """Prints everything that is known before the job starts."""
    place = Workspace(settings.build.output)
    console.print(f"dry run: nothing is submitted, and nothing is written to {place.root}", highlight=False)
    build, opened = planner.settled(settings.build)
    before = finished_build(place, build.recipe) if build.update else None
    plan = planner.make_plan(build.recipe, place, console, opened, before)
    job = dry_run(build, started)
    _print_command(settings.command, console)
    _print_graph(job.proto_pipeline, console)
    _print_files(job, console)
    _print_workers(settings.workers, job.proto_pipeline, console)
    images = sum(len(shard.pairs) for shard in plan.decoded)
    speed, price = settings.images_per_second, settings.price
    _print_cost(images, len(plan.shards), settings.workers, speed, price, console)


def dry_run(build: BuildSettings, started: float) -> apiclient.Job:
    """Beam's own dry run: the job that would be submitted, with its files on this machine."""
    beam_options = pipeline_options([*build.beam_args, "--dry_run=True"])
    return builder.make_pipeline(build, Workspace(build.output), beam_options, started).run().job


def steps(pipeline: protos.Pipeline) -> Iterator[tuple[str, str]]:
    """Yields (name, description) of each step of the graph, in order of execution."""
    transforms = pipeline.components.transforms
    (root,) = (transforms[name] for name in pipeline.root_transform_ids)
    names = {transforms[name].unique_name for name in root.subtransforms}
    # The graph's module defines the steps in this order.
    for name in (name for name in vars(graph) if name in names):
        yield name, (getattr(graph, name).__doc__ or "").splitlines()[0]


def staged_files(job: apiclient.Job) -> list[tuple[str, str]]:
    """The staged files, as (name on the worker, path on this machine)."""
    found = []
    for environment in job.proto_pipeline.components.environments.values():
        for file in environment.dependencies:
            role = protos.ArtifactStagingToRolePayload.FromString(file.role_payload)
            found.append((role.staged_name, protos.ArtifactFilePayload.FromString(file.type_payload).path))
    return found


def container_image(pipeline: protos.Pipeline) -> str:
    """The container image that workers run."""
    (environment,) = pipeline.components.environments.values()
    return str(protos.DockerPayload.FromString(environment.payload).container_image)


def _print_command(command: Sequence[str], console: Console) -> None:
    console.print(
        "the command with all defaults filled in; launch.dataflow also follows the job, and finds it again",
        style="bold",
    )
    console.print(" \\\n    ".join(["python -m beam_pipelines.build", *map(shlex.quote, command)]), highlight=False)


def _print_graph(pipeline: protos.Pipeline, console: Console) -> None:
    transforms = pipeline.components.transforms.values()
    shuffles = sum(transform.spec.urn == "beam:transform:group_by_key:v1" for transform in transforms)
    console.print(f"graph: {shuffles} shuffles, none of pixels; {readable(pipeline.ByteSize())}", style="bold")
    for name, description in steps(pipeline):
        console.print(f"  {name:19}{description}", highlight=False)


def _print_files(job: apiclient.Job, console: Console) -> None:
    console.print(f"staged in {job.google_cloud_options.staging_location}", style="bold")
    sizes = {name: os.path.getsize(path) for name, path in staged_files(job)}
    for name, size in (sizes | {"pipeline.pb": job.proto_pipeline.ByteSize()}).items():
        console.print(f"  {name}  {readable(size)}", highlight=False)


def _print_workers(workers: Workers, pipeline: protos.Pipeline, console: Console) -> None:
    modules = load_graph(pipeline.SerializeToString()).modules
    ours = [name for name in modules if name.startswith("beam_pipelines")]
    others = sorted({name.partition(".")[0] for name in modules} - {"beam_pipelines"} - sys.stdlib_module_names)
    console.print(f"workers: up to {workers.limit} x {workers.machine_type}", style="bold")
    console.print(f"  {container_image(pipeline)}", highlight=False)
    imports = f"{', '.join(others)}, and {len(ours)} modules of this project"
    console.print(f"  imports besides Beam: {imports}", highlight=False)


def print_rate(images_per_second: float, price: Price, console: Console) -> None:
    """Prints what 1,000 images cost on Dataflow."""
    console.print(
        f"  1,000 images cost about {per_thousand(images_per_second, price):.4f} USD of workers, without their start "
        f"({images_per_second:g} images/s per vCPU, {price.usd:g} USD per vCPU-hour as of {price.date})",
        highlight=False,
    )


def _print_cost(
    images: int, shards: int, workers: Workers, images_per_second: float, price: Price, console: Console
) -> None:
    """Prints the predicted cost, and what the prediction assumes."""
    console.print(f"prediction for {images:,} images, {shards:,} shards", style="bold")
    table = Table("workers", "vCPUs", "minutes", "vCPU-hours", "USD")
    for column in table.columns:
        column.justify = "right"
    for cost in predict(images, shards, workers, images_per_second):
        usd = f"{cost.vcpu_hours * price.usd:.2f}"
        table.add_row(str(cost.workers), str(cost.vcpus), f"{cost.minutes:.1f}", f"{cost.vcpu_hours:.2f}", usd)
    console.print(table)
    print_rate(images_per_second, price, console)
    if workers.limit > (useful := useful_workers(shards, workers)):
        console.print(
            f"  more than {useful:,} workers stay idle: a shard is the unit of work (--shard_size_mb, --shards)",
            highlight=False,
        )
    console.print(
        f"  assumes {images_per_second:g} images/s per vCPU (--images_per_second; measured from 2048x1024 to 256x512),"
        f"\n  {START_MINUTES:g} minutes to start, and {price.usd:g} USD per vCPU-hour with memory as of {price.date} "
        "(--vcpu_hour);\n  storage and logs are not included",
        highlight=False,
    )
