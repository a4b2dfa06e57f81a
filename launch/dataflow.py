"""`python -m launch.dataflow`: the build of `beam_pipelines.build`, on Google Cloud Dataflow."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.options import BuildSettings, parse_build, positive
from launch import arguments
from trainer.console import interruptible

SETUP_FILE = Path(__file__).parent.parent / "setup.py"
# Memory of a worker's process, one for each vCPU, and of a pixel of the picture that a thread holds (measured with a
# PNG of 98 million: 0.8 GB).
PROCESS_GB = 0.5
PIXEL_GB = 8.2e-9
MACHINES = (("e2-standard-4", 4.0), ("e2-highmem-4", 8.0))  # with GB for each vCPU, the cheapest first
# Of one vCPU, from 2048x1024 PNG to 256x512 float32 (the README's table of speeds).
IMAGES_PER_SECOND = 16.0
# USD in us-central1 with e2-standard: 0.056 for the vCPU and 4 x 0.003557 for its 4 GB.
VCPU_HOUR = "0.0702@2025-06"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The workers that a job may take: `vcpus` each, and at most `most` of them."""

    kind: str
    vcpus: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars of a vCPU with its memory for an hour, and when that was the price."""

    usd: float
    date: str


@dataclass(frozen=True, kw_only=True)
class DataflowSettings:
    """A parsed command line. `command` are the arguments with which `beam_pipelines.build` starts the same job."""

    build: BuildSettings
    command: tuple[str, ...]
    project: str
    region: str
    machines: Machines
    images_per_second: float
    price: Price
    dry_run: bool
    wait: bool


@interruptible
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the data set is there (or the job is, with --no_wait), 1 it is not, 2 (SystemExit) the
    arguments are wrong.
    """
    started = time.time()
    settings = parse(argv)
    # Beam takes a second to import: --help and a mistyped option end before this.
    from launch.dataflow_job import run

    return run(settings, started)


def parse(argv: Sequence[str] | None = None) -> DataflowSettings:
    """Raises SystemExit with a message where the arguments don't fit together."""
    parser = make_parser()
    args, build_args = parser.parse_known_args(argv)
    if args.setup_file is None and args.sdk_container_image is None and not SETUP_FILE.exists():
        parser.error(
            f"there is no {SETUP_FILE} to send to the workers: start from a checkout of the project, or give "
            "--setup_file, or --sdk_container_image with this package in it"
        )
    if any(argument.partition("=")[0] == "--runner" for argument in build_args):
        parser.error("--runner: this command starts jobs on Dataflow; beam_pipelines.build takes the other runners")
    if args.num_workers > args.max_num_workers:
        parser.error(f"--num_workers={args.num_workers} is more than --max_num_workers={args.max_num_workers}")
    what = [f"--input={args.input}", f"--output={args.output}", *build_args]
    pixels = parse_build([*what, "--runner=DataflowRunner"], parser.prog).recipe.max_image_pixels
    machine = args.worker_machine_type or _machine_for(pixels, args.number_of_worker_harness_threads, parser)
    command = [*what, *_beam_args(args, machine)]
    return DataflowSettings(
        build=parse_build(command, parser.prog),
        command=tuple(command),
        project=args.project,
        region=args.region,
        machines=Machines(kind=machine, vcpus=arguments.vcpus_of(machine), most=args.max_num_workers),
        images_per_second=args.images_per_second,
        price=args.vcpu_hour,
        dry_run=args.dry_run,
        wait=not args.no_wait,
    )


def make_parser() -> argparse.ArgumentParser:
    """The options that are this command's own; the others are those of the build, and Beam's."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.dataflow",
        description="Builds a data set on Google Cloud Dataflow, from a bucket into a bucket.",
        epilog="Every option of `python -m beam_pipelines.build` is one of this command too (--image_size, --labels, "
        "--splits, ...); every other goes to Apache Beam (--subnetwork=..., --no_use_public_ips, "
        "--service_account_email=..., --dataflow_service_options=...).",
        allow_abbrev=False,
    )
    _add_job(parser.add_argument_group("the job"))
    _add_workers(parser.add_argument_group("workers"))
    _add_running(parser.add_argument_group("this command"))
    return parser


def _add_job(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--project", required=True, type=arguments.project, help="id of the Google Cloud project")
    group.add_argument("--region", required=True, type=arguments.region, help="like us-central1; the bucket's own")
    group.add_argument(
        "--input",
        metavar="PATHS",
        required=True,
        type=arguments.paths,
        help="gs:// folder, zip archives, or both, separated by commas",
    )
    group.add_argument(
        "--output", metavar="DIR", required=True, type=arguments.bucket_folder, help="gs:// folder for the data set"
    )
    group.add_argument(
        "--job_name",
        type=arguments.matching(*_JOB_NAME),
        help="(default: from the output; Dataflow refuses a second job of the name while one runs)",
    )
    group.add_argument(
        "--job_labels", metavar="KEY=VALUE,...", type=_labels, default=[], help="of the job, for bills and filters"
    )
    group.add_argument(
        "--temp_location", metavar="DIR", type=arguments.bucket_folder, help="(default: OUTPUT/_build/dataflow/temp)"
    )
    group.add_argument(
        "--staging_location",
        metavar="DIR",
        type=arguments.bucket_folder,
        help="(default: OUTPUT/_build/dataflow/staging)",
    )


def _add_workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--worker_machine_type",
        "--machine_type",
        metavar="TYPE",
        type=arguments.machine_type,
        help="(default: e2-standard-4, or e2-highmem-4 if the threads' pictures, of --max_image_pixels, need it)",
    )
    group.add_argument("--num_workers", metavar="N", type=positive(int), default=1, help="to begin with (default: 1)")
    group.add_argument(
        "--max_num_workers", metavar="N", type=positive(int), default=10, help="to which Dataflow scales (default: 10)"
    )
    group.add_argument(
        "--disk_size_gb", metavar="GB", type=positive(int), default=30, help="images never touch the disk (default: 30)"
    )
    group.add_argument(
        "--number_of_worker_harness_threads",
        metavar="N",
        type=positive(int),
        default=2,
        help="for each vCPU, which has a process of its own: one decodes while one waits for the bucket (default: 2)",
    )
    group.add_argument(
        "--setup_file",
        metavar="FILE",
        type=_setup_file,
        help="of the package that workers install when they start (default: this one)",
    )
    group.add_argument(
        "--sdk_container_image",
        metavar="IMAGE",
        type=arguments.image,
        help="with this package in it already (launch/Dockerfile.worker): workers start sooner and install nothing",
    )


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="print the command, the graph, what is sent, what workers import, and the cost; submit nothing",
    )
    group.add_argument(
        "--no_wait",
        action="store_true",
        help="end when the job is submitted; the job publishes the data set, and the same command then finishes up",
    )
    group.add_argument(
        "--images_per_second",
        metavar="N",
        type=positive(float),
        default=IMAGES_PER_SECOND,
        help=f"of one vCPU, for --dry_run (default: {IMAGES_PER_SECOND:g}, measured from 2048x1024 to 256x512)",
    )
    group.add_argument(
        "--vcpu_hour",
        metavar="USD@DATE",
        type=_price,
        default=VCPU_HOUR,
        help="price of a vCPU with its memory for an hour, and its date, for --dry_run "
        f"(default: {VCPU_HOUR}, e2-standard in us-central1: look it up)",
    )


def _machine_for(pixels: int, threads: int, parser: argparse.ArgumentParser) -> str:
    """The cheapest machine whose threads can each hold a picture of so many pixels."""
    needed = PROCESS_GB + threads * pixels * PIXEL_GB
    fitting = [machine for machine, memory in MACHINES if needed <= memory]
    if not fitting:
        parser.error(
            f"{threads} threads with pictures of {pixels:,} pixels need {needed:.1f} GB for each vCPU: lower "
            "--number_of_worker_harness_threads or --max_image_pixels, or name a --worker_machine_type that has them"
        )
    return fitting[0]


def _beam_args(args: argparse.Namespace, machine: str) -> list[str]:
    """What Beam is told, every default filled in."""
    name = args.job_name or _job_name(args.output)
    beam_args = [
        "--runner=DataflowRunner",
        f"--project={args.project}",
        f"--region={args.region}",
        f"--job_name={name}",
        *(f"--label={label}" for label in ("app=street-scenes", *args.job_labels)),
        f"--temp_location={args.temp_location or args.output + '/_build/dataflow/temp'}",
        f"--staging_location={args.staging_location or args.output + '/_build/dataflow/staging'}",
        f"--worker_machine_type={machine}",
        f"--num_workers={args.num_workers}",
        f"--max_num_workers={args.max_num_workers}",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        f"--disk_size_gb={args.disk_size_gb}",
        f"--number_of_worker_harness_threads={args.number_of_worker_harness_threads}",
    ]
    if args.sdk_container_image:
        beam_args.append(f"--sdk_container_image={args.sdk_container_image}")
    if args.setup_file or not args.sdk_container_image:
        beam_args.append(f"--setup_file={args.setup_file or SETUP_FILE}")
    return beam_args


def _job_name(output: str) -> str:
    """One for each folder: so Dataflow itself refuses two jobs in one folder at once."""
    folder = re.sub("[^a-z0-9]+", "-", output.rpartition("/")[2].lower()).strip("-")[:30]
    return "-".join(filter(None, ("scenes", folder, hashlib.sha256(output.encode()).hexdigest()[:8])))


_JOB_NAME = (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "a job name: at most 63 of a-z, 0-9 and -, a letter first")


def _setup_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_file() or path.name not in ("setup.py", "pyproject.toml"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file setup.py or pyproject.toml")
    return path


def _labels(text: str) -> list[str]:
    return [arguments.label(label.strip()) for label in text.split(",")]


def _price(text: str) -> Price:
    usd, _, date = text.partition("@")
    if not re.fullmatch(r"\d{4}-\d\d(-\d\d)?", date):
        raise argparse.ArgumentTypeError(f"{text!r} is not a price with its date, like {VCPU_HOUR}")
    return Price(usd=positive(float)(usd), date=date)


if __name__ == "__main__":
    sys.exit(main())
