"""The command line of launch.doctor as one frozen DoctorSettings."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from launch import arguments
from launch.dataflow import options as dataflow
from launch.dataflow.workers import DEFAULT_TYPE, Workers
from launch.errors import LaunchError
from launch.vertex import options as vertex
from launch.vertex.machines import Machine, choose_machine
from trainer.arguments import HelpFormatter, Parser, names

JOBS = ("dataflow", "vertex")


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """A parsed command line. None is an option that was not set, and that checks may need.

    Attributes:
      jobs: of JOBS, those that are prepared.
      workers: the maximum that a build uses, with disks of `disk_gb` GB.
      worker_image, trainer_image: custom container images, if any.
      machine: of each of the `hosts` that train.
      endpoint: stands in for https://SERVICE.googleapis.com.
    """

    jobs: tuple[str, ...]
    project: str | None
    region: str | None
    output: str | None
    dataset: str | None
    train_split: str
    val_split: str
    workers: Workers
    disk_gb: int
    worker_image: str | None
    machine: Machine
    hosts: int
    spot: bool
    trainer_image: str | None
    endpoint: str | None


def parse(argv: Sequence[str] | None = None) -> DoctorSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        machine = choose_machine(args.accelerator, args.accelerator_count, args.machine_type)
    except LaunchError as error:
        parser.error(str(error))
    if args.container and args.build_container:
        parser.error("--container and --build_container name the image of the job: leave out one of them")
    worker_type = args.worker_machine_type
    workers = Workers(machine_type=worker_type, vcpus=arguments.vcpus_of(worker_type), limit=args.max_num_workers)
    return DoctorSettings(
        jobs=(args.job,) if args.job else JOBS,
        project=args.project,
        region=args.region,
        output=args.output,
        dataset=args.dataset.rstrip("/") if args.dataset else None,
        train_split=args.train_split,
        val_split=args.val_split,
        workers=workers,
        disk_gb=args.disk_size_gb,
        worker_image=args.sdk_container_image,
        machine=machine,
        hosts=args.hosts,
        spot=args.spot,
        trainer_image=args.container or args.build_container,
        endpoint=args.endpoint,
    )


def make_parser() -> argparse.ArgumentParser:
    """The options are those of launch.dataflow and launch.vertex that the checks depend on."""
    parser = Parser(
        prog="python -m launch.doctor",
        description="Checks what jobs on Dataflow and Vertex AI need before they cost anything: versions, the pipeline "
        "graph, the account, APIs, quotas, buckets and the data set. Prints one line per check, with a fix if there is "
        "a problem. Checks of options that are not set are skipped. No job is started; a few bytes are written to "
        "--output and deleted.",
        epilog="The options are those of launch.dataflow and launch.vertex. Exit code 0 if no check failed (warnings "
        "are not failures), 1 if one did, 2 if the arguments are wrong.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    _add_place(parser.add_argument_group("job"))
    _add_dataflow(parser.add_argument_group("build on Dataflow"))
    _add_vertex(parser.add_argument_group("training on Vertex AI"))
    return parser


def _add_place(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--job", choices=JOBS, help="check only what this job needs; both unless set")
    arguments.add(group, arguments.JOB)
    group.add_argument("--verbose", action="store_true", help="print the traceback of an error of the doctor itself")


def _add_dataflow(group: argparse._ArgumentGroup) -> None:
    """Declares the options of launch.dataflow, with the same defaults."""
    add = functools.partial(arguments.add, group, dataflow.WORKERS)
    add("worker_machine_type", default=DEFAULT_TYPE, help="machine type of the workers", aliases=())
    add("max_num_workers", "disk_size_gb", "sdk_container_image")


def _add_vertex(group: argparse._ArgumentGroup) -> None:
    """Declares the options of launch.vertex, and of the trainer."""
    group.add_argument("--dataset", metavar="DIR", help="folder of the data set, local or gs://")
    group.add_argument(
        "--train_split", type=names, metavar="NAME,...", default="train", help="split to train on, or several"
    )
    group.add_argument("--val_split", metavar="NAME", default="val", help="split to validate on; '' for none")
    add = functools.partial(arguments.add, group, vertex.MACHINES)
    add("accelerator", "accelerator_count", "machine_type", "hosts")
    add("spot", help="check the quotas of spot machines, which have their own")
    add("container", "build_container")
