"""What a Dataflow job would be: its command, graph, files, imports and cost. Submits nothing, writes nothing there."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.dataflow.internal.apiclient import Job
from rich.console import Console
from rich.table import Table

from beam_pipelines import builder, graph
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import pipeline_options
from beam_pipelines.report import readable
from launch.dataflow import DataflowSettings, Machines
from launch.worker import load_graph

# Assumed: from asking for a virtual machine to the first image, with the package to install.
START_MINUTES = 4.0


@dataclass(frozen=True)
class Cost:
    """What `workers` machines take: `minutes` from the start to the end, `vcpu_hours` that are paid for."""

    workers: int
    minutes: float
    vcpu_hours: float


def preview(settings: DataflowSettings, started: float, console: Console) -> int:
    """Prints all that is known before the job starts. -> 0."""
    place = Workspace(settings.build.output)
    console.print(f"dry run: nothing is submitted, and nothing is written to {place.root}", highlight=False)
    plan = builder.make_plan(settings.build.recipe, place, console)
    job = dry_run(settings, started)
    _print_command(settings, console)
    _print_graph(job.proto_pipeline, console)
    _print_files(job, console)
    _print_workers(settings, job, console)
    images = sum(len(shard.pairs) for shard in plan.shards)
    _print_cost(settings, images, len(plan.shards), console)
    return 0


def dry_run(settings: DataflowSettings, started: float) -> Job:
    """Beam's own dry run: the job that would be submitted, with its files on this machine."""
    beam_options = pipeline_options([*settings.build.beam_args, "--dry_run=True"])
    return builder.make_pipeline(settings.build, beam_options, started).run().job


def steps(pipeline: protos.Pipeline) -> Iterator[tuple[str, str]]:
    """Yields (name, what it does) of the steps of the graph, in the order in which they can run."""
    transforms = pipeline.components.transforms
    (root,) = (transforms[name] for name in pipeline.root_transform_ids)
    names = {transforms[name].unique_name for name in root.subtransforms}
    # A step that uses another's result comes after it: the graph's module has them in this order.
    for name in (name for name in vars(graph) if name in names):
        yield name, (getattr(graph, name).__doc__ or "").splitlines()[0]


def files(job: Job) -> list[tuple[str, str]]:
    """(name on the worker, path on this machine) of what is sent."""
    found = []
    for environment in job.proto_pipeline.components.environments.values():
        for file in environment.dependencies:
            role = protos.ArtifactStagingToRolePayload.FromString(file.role_payload)
            found.append((role.staged_name, protos.ArtifactFilePayload.FromString(file.type_payload).path))
    return found


def image(pipeline: protos.Pipeline) -> str:
    """The container that workers run in."""
    (environment,) = pipeline.components.environments.values()
    return str(protos.DockerPayload.FromString(environment.payload).container_image)


def costs(images: int, shards: int, machines: Machines, images_per_second: float) -> list[Cost]:
    """With one worker, and with as many as may be; no more vCPUs work than there are shards."""
    found = []
    for workers in sorted({1, machines.most}):
        busy = min(workers * machines.vcpus, shards)
        minutes = START_MINUTES + images / (images_per_second * busy) / 60
        found.append(Cost(workers, minutes, workers * machines.vcpus * minutes / 60))
    return found


def _print_command(settings: DataflowSettings, console: Console) -> None:
    console.print(
        "the command with every default filled in; this launcher also follows the job, and finds it again", style="bold"
    )
    lines = ["python -m beam_pipelines.build", *map(shlex.quote, settings.command)]
    console.print(" \\\n    ".join(lines), highlight=False)


def _print_graph(pipeline: protos.Pipeline, console: Console) -> None:
    transforms = pipeline.components.transforms.values()
    shuffles = sum(transform.spec.urn == "beam:transform:group_by_key:v1" for transform in transforms)
    console.print(f"graph: {shuffles} shuffles, none with a pixel; {readable(pipeline.ByteSize())}", style="bold")
    for name, what in steps(pipeline):
        console.print(f"  {name:19}{what}", highlight=False)


def _print_files(job: Job, console: Console) -> None:
    console.print(f"sent to {job.google_cloud_options.staging_location}", style="bold")
    for name, path in files(job):
        console.print(f"  {name}  {readable(os.path.getsize(path))}", highlight=False)
    console.print(f"  pipeline.pb  {readable(job.proto_pipeline.ByteSize())}", highlight=False)


def _print_workers(settings: DataflowSettings, job: Job, console: Console) -> None:
    modules = load_graph(job.proto_pipeline.SerializeToString()).modules
    ours = [name for name in modules if name.startswith("beam_pipelines")]
    others = sorted({name.partition(".")[0] for name in modules} - {"beam_pipelines"} - sys.stdlib_module_names)
    console.print(f"workers: at most {settings.machines.most} x {settings.machines.kind}", style="bold")
    console.print(f"  {image(job.proto_pipeline)}", highlight=False)
    console.print(f"  import beyond Beam: {', '.join(others)}, and {len(ours)} modules of ours", highlight=False)


def _print_cost(settings: DataflowSettings, images: int, shards: int, console: Console) -> None:
    price, machines = settings.price, settings.machines
    console.print(f"predicted for {images:,} images, {shards:,} shards", style="bold")
    table = Table("workers", "vCPUs", "minutes", "vCPU-hours", "USD")
    for column in table.columns:
        column.justify = "right"
    for cost in costs(images, shards, machines, settings.images_per_second):
        usd = f"{cost.vcpu_hours * price.usd:.2f}"
        row = (cost.workers, cost.workers * machines.vcpus, f"{cost.minutes:.1f}", f"{cost.vcpu_hours:.2f}", usd)
        table.add_row(*map(str, row))
    console.print(table)
    if machines.most * machines.vcpus > shards:
        console.print(
            f"  workers beyond {math.ceil(shards / machines.vcpus):,} find nothing to do, since a shard is the unit of "
            "work (--shard_size_mb, --shards)",
            highlight=False,
        )
    console.print(
        f"  at {settings.images_per_second:g} img/s for each vCPU (--images_per_second; measured from 2048x1024 to "
        f"256x512), {START_MINUTES:g} minutes to start (assumed),\n  and {price.usd:g} USD for a vCPU-hour with its "
        f"memory as of {price.date} (--vcpu_hour); storage and logs are not counted",
        highlight=False,
    )
