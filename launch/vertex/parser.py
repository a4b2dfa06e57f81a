"""The options of launch.vertex itself, with their defaults and their help."""

from __future__ import annotations

import argparse
import functools

from launch import arguments
from launch.vertex.machines import ACCELERATORS, DEFAULT_ACCELERATOR
from launch.vertex.search import DEFAULT_TUNE
from trainer.arguments import HelpFormatter, Parser, place


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours") from error
    if not 0.01 <= value <= 24 * 28:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and {24 * 28} hours")
    return value


def _name(text: str) -> str:
    if not 1 <= len(text) <= 128:
        raise argparse.ArgumentTypeError(f"a name has 1 to 128 characters, not {len(text)}")
    return text


_NAMES: arguments.Options = {
    "name": {"type": _name, "help": "display name of the job; the model and the last part of --output unless set"},
    "label": {
        "action": "append",
        "default": [],
        "type": arguments.label,
        "metavar": "KEY=VALUE",
        "help": "label of the job; can be repeated",
    },
    "service_account": {
        "metavar": "EMAIL",
        "type": arguments.email,
        "help": "account that the job runs as; Vertex AI's own unless set",
    },
    "wait": {
        "action": "store_true",
        "help": "after submitting, wait for the end of the job; exit code 1 unless it succeeds",
    },
    "tensorboard": {
        "metavar": "NAME",
        "help": "Vertex AI TensorBoard to show the run in, projects/PROJECT/locations/REGION/tensorboards/ID",
    },
}
MACHINES: arguments.Options = {  # the machines, their image and their time limit
    "accelerator": {"metavar": "NAME", "default": DEFAULT_ACCELERATOR, "help": "one of " + ", ".join(ACCELERATORS)},
    "accelerator_count": {
        "type": arguments.whole(0),
        "metavar": "N",
        "help": "accelerators per host; what --machine_type has, or the smallest number, unless set",
    },
    "machine_type": {"metavar": "TYPE", "help": "machine type; the usual one for these accelerators unless set"},
    "hosts": {
        "metavar": "N",
        "type": arguments.whole(1),
        "default": 1,
        "help": "number of hosts: a chief and workers",
    },
    "container": {
        "metavar": "IMAGE",
        "type": arguments.image,
        "help": "container image built from launch/Dockerfile.trainer; unless set, the public one of TensorFlow, in "
        "which the job installs the package first",
    },
    "build_container": {
        "metavar": "IMAGE",
        "type": arguments.built_image,
        "help": "build that image with Cloud Build, unless it exists, and push it to Artifact Registry, as "
        "REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME",
    },
    "spot": {
        "action": "store_true",
        "help": "use spot machines, which cost less and can be preempted; the job then restarts and resumes",
    },
    "timeout_hours": {
        "metavar": "HOURS",
        "type": _hours,
        "default": 24.0,
        "help": "time limit of the job, or of each trial",
    },
}


def make_parser() -> argparse.ArgumentParser:
    """The options of this command itself; all others go to the trainer."""
    parser = Parser(
        prog="python -m launch.vertex",
        usage="%(prog)s --project=ID --region=REGION --output=gs://... [option ...] [option of trainer.task ...]",
        description="Trains on Vertex AI. Every option that is not listed below goes to the trainer: see `python -m "
        "trainer.task --help`. Run again with the same --output, it resumes from the latest checkpoint.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    _add_job(parser.add_argument_group("job"))
    arguments.add(parser.add_argument_group("machines"), MACHINES)
    _add_search(parser.add_argument_group("hyperparameter search"))
    _add_rehearsal(parser.add_argument_group("without submitting a job"))
    return parser


def _add_job(group: argparse._ArgumentGroup) -> None:
    """Declares where the job runs, as which account, and its name."""
    add = functools.partial(arguments.add, group, arguments.JOB)
    add("project", help="Google Cloud project of the job; required to submit")
    add("region", help="region of the job, such as europe-west4; required to submit. Use the region of the buckets")
    # Any text: a rehearsal writes to a local folder.
    add("output", required=True, type=str, help="base folder of the run, gs://BUCKET/FOLDER")
    arguments.add(group, _NAMES)
    add("endpoint")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tune",
        action="append",
        nargs="?",
        const=DEFAULT_TUNE,
        metavar="NAME=LOW..HIGH[:log] | NAME=VALUE,VALUE",
        help=f"search for the best values of a trainer option; can be repeated. Without a value: {DEFAULT_TUNE}",
    )
    group.add_argument("--trials", metavar="N", type=arguments.whole(1), default=20, help="total number of trials")
    group.add_argument(
        "--parallel_trials", metavar="N", type=arguments.whole(1), default=2, help="trials that run at the same time"
    )


def _add_rehearsal(group: argparse._ArgumentGroup) -> None:
    """Adds what the command does instead of submitting."""
    group.add_argument("--dry_run", action="store_true", help="print the request as JSON and submit nothing")
    group.add_argument(
        "--local",
        nargs="?",
        const=1,
        default=0,
        type=arguments.whole(1),
        metavar="HOSTS",
        help="run the same package on this machine, in a virtual environment, with the variables that Vertex AI sets; "
        "HOSTS processes, 1 without a value",
    )
    group.add_argument(
        "--venv",
        default="out/vertex-venv",
        type=place,
        metavar="DIR",
        help="folder of the virtual environment for --local, of its own; created once and kept",
    )
    group.add_argument(
        "--reuse_packages",
        action="store_true",
        help="with --local: use the installed packages and install only this one, in a temporary environment (seconds "
        "instead of minutes)",
    )
