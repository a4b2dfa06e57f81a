"""`python -m launch.doctor`: what would fail, or cost for nothing, is told before a job is started."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from beam_pipelines.options import positive
from launch import arguments, dataflow
from launch.checks.settings import DoctorSettings
from launch.dataflow import Machines
from launch.errors import LaunchError, missing_packages
from launch.machines import MACHINES, choose_machine
from trainer.console import interruptible

JOBS = ("dataflow", "vertex")


@interruptible
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 nothing failed, 1 something did, 2 (SystemExit) the arguments are wrong."""
    settings = parse(argv)
    try:
        # Google's libraries take a second to import: --help and a mistyped option end before this.
        with missing_packages():
            from launch.checks.examine import examine
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return examine(settings)


def parse(argv: Sequence[str] | None = None) -> DoctorSettings:
    """Raises SystemExit with a message where the arguments are wrong."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        machine = choose_machine(args.accelerator, args.accelerator_count)
    except LaunchError as error:
        parser.error(str(error))
    kind = args.worker_machine_type
    return DoctorSettings(
        jobs=(args.job,) if args.job else JOBS,
        project=args.project,
        region=args.region,
        output=args.output,
        dataset=args.dataset.rstrip("/") if args.dataset else None,
        train_split=args.train_split,
        val_split=args.val_split,
        workers=Machines(kind=kind, vcpus=arguments.vcpus_of(kind), most=args.max_num_workers),
        disk_gb=args.disk_size_gb,
        worker_image=args.sdk_container_image,
        machine=machine,
        hosts=args.hosts,
        spot=args.spot,
        trainer_image=args.container,
        endpoint=args.endpoint,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.doctor",
        description="Looks at what jobs on Dataflow and Vertex AI need before they cost anything: versions, the graph, "
        "the account, APIs, quotas, buckets, the data set. Prints a line for each check, with the cure where one is "
        "not ok. What is not given is not checked. Nothing is started; a few bytes are written and deleted.",
        epilog="The options are those of launch.dataflow and launch.vertex. Exit code 0 where nothing failed (warnings "
        "are no failures), 1 where something did, 2 where the arguments are wrong.",
        allow_abbrev=False,
    )
    _add_place(parser.add_argument_group("where"))
    _add_dataflow(parser.add_argument_group("a build on Dataflow"))
    _add_vertex(parser.add_argument_group("training on Vertex AI"))
    return parser


def _add_place(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--job", choices=JOBS, help="what is prepared (default: both)")
    group.add_argument("--project", type=arguments.project, help="id of the Google Cloud project")
    group.add_argument("--region", type=arguments.region, help="like us-central1")
    group.add_argument("--output", metavar="DIR", type=arguments.bucket_folder, help="gs:// folder that the job writes")
    group.add_argument(
        "--endpoint", metavar="URL", help="of Google's services (default: https://SERVICE.googleapis.com of each)"
    )


def _add_dataflow(group: argparse._ArgumentGroup) -> None:
    defaults = dataflow.make_parser().get_default
    group.add_argument(
        "--worker_machine_type",
        metavar="TYPE",
        type=arguments.machine_type,
        default=dataflow.MACHINES[0][0],
        help="(default: %(default)s)",
    )
    for option, what in {"max_num_workers": "to which Dataflow scales", "disk_size_gb": "of each"}.items():
        group.add_argument(
            f"--{option}",
            metavar="N",
            type=positive(int),
            default=defaults(option),
            help=f"{what} (default: %(default)s)",
        )
    group.add_argument(
        "--sdk_container_image", metavar="IMAGE", type=arguments.image, help="of launch/Dockerfile.worker"
    )


def _add_vertex(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset", metavar="DIR", help="the data set's folder, local or gs://")
    group.add_argument("--train_split", metavar="NAME", default="train", help="(default: train)")
    group.add_argument("--val_split", metavar="NAME", default="val", help="'' for none (default: val)")
    group.add_argument(
        "--accelerator", metavar="NAME", default="NVIDIA_L4", help=f"{', '.join(MACHINES)} (default: NVIDIA_L4)"
    )
    group.add_argument("--accelerator_count", metavar="N", type=int, help="of each host (default: the fewest)")
    group.add_argument("--hosts", metavar="N", type=positive(int), default=1, help="(default: 1)")
    group.add_argument("--spot", action="store_true", help="machines that may be taken back have quotas of their own")
    group.add_argument("--container", metavar="IMAGE", type=arguments.image, help="of launch/Dockerfile.trainer")


if __name__ == "__main__":
    sys.exit(main())
