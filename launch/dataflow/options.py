"""The command line of launch.dataflow as one frozen DataflowSettings."""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.files.names import DATAFLOW
from beam_pipelines.options import BuildSettings, parse_build, positive
from launch import arguments
from launch.dataflow.cost import IMAGES_PER_SECOND, VCPU_HOUR, Price
from launch.dataflow.workers import Workers, choose_type
from launch.errors import LaunchError
from trainer.arguments import HelpFormatter, Parser

SETUP_FILE = Path(__file__).parents[2] / "setup.py"
_JOB_NAME = (
    r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?",
    "a job name: up to 63 characters of a-z, 0-9 and -, starting with a letter",
)


def _setup_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_file() or path.name not in ("setup.py", "pyproject.toml"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing setup.py or pyproject.toml")
    return path


_NAMES: arguments.Options = {
    "job_name": {
        "metavar": "NAME",
        "type": arguments.matching(*_JOB_NAME),
        "help": "name of the job, derived from --output unless set; Dataflow rejects a second running job of the same "
        "name",
    },
    "job_labels": {
        "metavar": "KEY=VALUE,...",
        "type": arguments.labels,
        "default": [],
        "help": "labels of the job, for billing reports and filters",
    },
}
WORKERS: arguments.Options = {  # the size and number of the workers, and what they run
    "worker_machine_type": {
        "aliases": ("--machine_type",),
        "metavar": "TYPE",
        "type": arguments.machine_type,
        "help": "machine type of the workers; unless set, e2-standard-4, or e2-highmem-4 if images of "
        "--max_image_pixels need the memory",
    },
    "num_workers": {"metavar": "N", "type": positive(int), "default": 1, "help": "initial number of workers"},
    "max_num_workers": {"metavar": "N", "type": positive(int), "default": 10, "help": "maximum number of workers"},
    "disk_size_gb": {
        "metavar": "GB",
        "type": positive(int),
        "default": 30,
        "help": "disk size of each worker; images are never written to it",
    },
    "number_of_worker_harness_threads": {
        "metavar": "N",
        "type": positive(int),
        "default": 2,
        "help": "threads per vCPU, so that one decodes while another waits for the bucket; each vCPU has its own "
        "process",
    },
    "setup_file": {
        "metavar": "FILE",
        "type": _setup_file,
        "help": "setup.py or pyproject.toml of the package that workers install; this project's unless set",
    },
    "sdk_container_image": {
        "metavar": "IMAGE",
        "type": arguments.image,
        "help": "container image that already has the package (see launch/Dockerfile.worker): workers start sooner and "
        "install nothing",
    },
}

INPUT: arguments.Options = {
    "input": {
        "metavar": "PATHS",
        "type": arguments.paths,
        "help": "gs:// folder or zip archives, or both, separated by commas",
    }
}


@dataclass(frozen=True, kw_only=True)
class DataflowSettings:
    """A parsed command line.

    Attributes:
      command: the arguments with which `beam_pipelines.build` starts the same job.
      images_per_second: of one vCPU, for the predicted cost.
    """

    build: BuildSettings
    command: tuple[str, ...]
    project: str
    region: str
    workers: Workers
    images_per_second: float
    price: Price
    dry_run: bool
    wait: bool


def parse(argv: Sequence[str] | None = None) -> DataflowSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong or contradict each other."""
    parser = make_parser()
    args, build_args = parser.parse_known_args(argv)
    if problem := _problem(args, build_args):
        parser.error(problem)
    paths = [f"--input={args.input}", f"--output={args.output}", *build_args]
    image_pixels = parse_build([*paths, "--runner=DataflowRunner"], parser.prog).recipe.max_image_pixels
    try:
        machine_type = args.worker_machine_type or choose_type(image_pixels, args.number_of_worker_harness_threads)
    except LaunchError as error:
        parser.error(str(error))
    command = [*paths, *_beam_args(args, machine_type)]
    vcpus = arguments.vcpus_of(machine_type)
    return DataflowSettings(
        build=parse_build(command, parser.prog),
        command=tuple(command),
        project=args.project,
        region=args.region,
        workers=Workers(machine_type=machine_type, vcpus=vcpus, limit=args.max_num_workers),
        images_per_second=args.images_per_second,
        price=args.vcpu_hour,
        dry_run=args.dry_run,
        wait=not args.no_wait,
    )


def _problem(args: argparse.Namespace, build_args: Sequence[str]) -> str | None:
    """Why the options cannot be used together."""
    if args.setup_file is None and args.sdk_container_image is None and not SETUP_FILE.exists():
        return (
            f"{SETUP_FILE} does not exist, so there is no package to send to the workers: run this command from a "
            "checkout of the project, or set --setup_file, or --sdk_container_image with an image that has the package"
        )
    if any(argument.partition("=")[0] == "--runner" for argument in build_args):
        return "--runner: this command always uses Dataflow; for other runners use `python -m beam_pipelines.build`"
    if args.num_workers > args.max_num_workers:
        return f"--num_workers={args.num_workers} is more than --max_num_workers={args.max_num_workers}"
    return None


def make_parser() -> argparse.ArgumentParser:
    """The options of this command itself; all others go to the build, or to Beam."""
    parser = Parser(
        prog="python -m launch.dataflow",
        description="Builds a data set on Google Cloud Dataflow, from a bucket to a bucket.",
        epilog="All options of `python -m beam_pipelines.build` are accepted as well (--image_size, --labels, "
        "--splits, ...); every other option goes to Apache Beam (--subnetwork=..., --no_use_public_ips, "
        "--service_account_email=..., --dataflow_service_options=...).",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    _add_job(parser.add_argument_group("job"))
    arguments.add(parser.add_argument_group("workers"), WORKERS)
    _add_execution(parser.add_argument_group("execution"))
    return parser


def _add_job(group: argparse._ArgumentGroup) -> None:
    """Declares what the job reads and writes, and its name."""
    add = functools.partial(arguments.add, group, arguments.JOB)
    add("project", "region", required=True)
    arguments.add(group, INPUT, required=True)
    add("output", required=True, help="gs:// folder of the data set")
    arguments.add(group, _NAMES)
    for option in ("temp", "staging"):
        group.add_argument(
            f"--{option}_location",
            metavar="DIR",
            type=arguments.bucket_folder,
            help=f"Beam's {option} folder; OUTPUT/{DATAFLOW}/{option} unless set",
        )


def _add_execution(group: argparse._ArgumentGroup) -> None:
    """Declares what the command itself does."""
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="print the full command, the graph, the staged files, the workers' imports and the predicted cost; submit "
        "nothing",
    )
    group.add_argument(
        "--no_wait",
        action="store_true",
        help="exit after submitting the job. The job publishes the data set itself; run the same command again to "
        "follow it and to finish up",
    )
    group.add_argument(
        "--images_per_second",
        metavar="N",
        type=positive(float),
        default=IMAGES_PER_SECOND,
        help="throughput per vCPU for the prediction of --dry_run; measured from 2048x1024 to 256x512",
    )
    group.add_argument(
        "--vcpu_hour",
        metavar="USD@DATE",
        type=_price,
        default=VCPU_HOUR,
        help="price of a vCPU with its memory per hour, and its date, for the prediction of --dry_run; the default is "
        "e2-standard in us-central1",
    )


def _beam_args(args: argparse.Namespace, machine_type: str) -> list[str]:
    """Beam's arguments, with every default filled in."""
    dataflow = f"{args.output}/{DATAFLOW}"
    beam_args = [
        "--runner=DataflowRunner",
        f"--project={args.project}",
        f"--region={args.region}",
        f"--job_name={args.job_name or _job_name(args.output)}",
        *(f"--label={label}" for label in ("app=street-scenes", *args.job_labels)),
        f"--temp_location={args.temp_location or dataflow + '/temp'}",
        f"--staging_location={args.staging_location or dataflow + '/staging'}",
        f"--worker_machine_type={machine_type}",
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
    """The same for the same folder, so that Dataflow itself rejects a second job that writes to it."""
    folder = re.sub("[^a-z0-9]+", "-", output.rpartition("/")[2].lower()).strip("-")[:30]
    return "-".join(filter(None, ("scenes", folder, hashlib.sha256(output.encode()).hexdigest()[:8])))


def _price(text: str) -> Price:
    usd, _, date = text.partition("@")
    if not re.fullmatch(r"\d{4}-\d\d(-\d\d)?", date):
        raise argparse.ArgumentTypeError(f"{text!r} is not a price and its date, such as {VCPU_HOUR}")
    return Price(usd=positive(float)(usd), date=date)
