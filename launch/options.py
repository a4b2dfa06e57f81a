"""The command line of launch.vertex as one frozen LaunchSettings; the trainer's own parser judges its options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from launch import arguments
from launch.errors import LaunchError
from launch.jobs import Job, Parameter, Search
from launch.machines import MACHINES, choose_machine
from trainer.config import Help, TrainConfig, parse_train

_TUNED = "learning_rate=0.001..0.1:log"
_SHARED = ("gs://", "/gcs/")  # what every machine of a job sees; Vertex AI mounts buckets below /gcs
_TENSORBOARD = re.compile(r"projects/[^/]+/locations/([^/]+)/tensorboards/[^/]+")


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """A parsed command line. `hosts_here` processes rehearse the job on this machine; 0 submits it.

    Attributes:
      train: what the trainer will understand, but for its folders, which Vertex AI sets.
      venv: the folder of the virtual environment of a rehearsal.
      reuse_packages: take its packages from the running Python instead.
      endpoint: address of the service; None is Google's of the region.
    """

    job: Job
    train: TrainConfig
    hosts_here: int
    venv: str
    reuse_packages: bool
    dry_run: bool
    endpoint: str | None


def parse_launch(argv: Sequence[str] | None = None) -> LaunchSettings:
    """Ends the process with exit code 2 where the arguments are wrong, also those for the trainer."""
    parser = _parser()
    args, trainer_options = parser.parse_known_args(argv)
    train = parse_train([*trainer_options, f"--output={args.output}"], {})
    try:
        search = _search(args, trainer_options) if args.tune else None
        machine = choose_machine(args.accelerator, args.accelerator_count, args.machine_type)
    except LaunchError as error:
        parser.error(str(error))
    if machine.is_tpu and train.strategy == "auto" and not args.local:
        trainer_options = [*trainer_options, "--strategy=tpu"]
    job = Job(
        name=args.name or f"{train.model}-{train.output.rpartition('/')[2]}"[:128],
        project=args.project or "",
        region=args.region or "",
        output=train.output,
        trainer_options=tuple(trainer_options),
        machine=machine,
        hosts=args.hosts,
        container=args.container,
        spot=args.spot,
        timeout_hours=args.timeout_hours,
        service_account=args.service_account,
        tensorboard=args.tensorboard,
        labels=dict(label.split("=") for label in args.label),
        search=search,
    )
    problem = _stray(args, parser) or (_problem_here(job, args.dry_run) if args.local else _problem(job, train))
    if problem:
        parser.error(problem)
    return LaunchSettings(
        job=job,
        train=train,
        hosts_here=args.local,
        venv=args.venv,
        reuse_packages=args.reuse_packages,
        dry_run=args.dry_run,
        endpoint=args.endpoint,
    )


def _stray(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str | None:
    """Names an option that would have no effect."""
    for option, needed in (
        ("trials", "tune"),
        ("parallel_trials", "tune"),
        ("venv", "local"),
        ("reuse_packages", "local"),
    ):
        if not getattr(args, needed) and getattr(args, option) != parser.get_default(option):
            return f"--{option} goes with --{needed}, which is not given"
    return None


def _problem(job: Job, train: TrainConfig) -> str | None:
    """Why the job can't be submitted as it is."""
    for option, value in {"project": job.project, "region": job.region}.items():
        if not value:
            return f"--{option} is needed: where the job is created and paid"
    if not arguments.is_bucket_folder(job.output):
        return f"--output={job.output} must be gs://BUCKET/FOLDER: machines of a job leave nothing else behind"
    inputs = {
        "dataset": train.dataset,
        "initial_model": train.initial_model,
        "backbone_weights": train.model_options.get("backbone_weights"),
    }
    for option, path in inputs.items():
        if path and path.startswith("gs:") and not arguments.is_in_bucket(path):
            return f"--{option}={path} names no bucket: gs://BUCKET/..."
        if path and path not in ("none", "imagenet") and not path.startswith(_SHARED):
            return f"--{option}={path} is on this machine, where no job can read it: copy it to gs:// and name that"
    if job.machine.is_tpu and not job.container:
        return "a TPU needs --container: Vertex AI has no image for TPUs with TensorFlow 2.17 or later"
    if job.machine.is_tpu and job.hosts > 1:
        return f"--hosts={job.hosts}: a TPU is trained on from one host"
    if job.tensorboard:
        return _tensorboard_problem(job.tensorboard, job)
    return None


def _problem_here(job: Job, dry_run: bool) -> str | None:
    if job.search or dry_run:
        return f"--local runs one training here: it does not go with {'--tune' if job.search else '--dry_run'}"
    return None


def _tensorboard_problem(tensorboard: str, job: Job) -> str | None:
    found = _TENSORBOARD.fullmatch(tensorboard)
    if not found:
        return f"--tensorboard={tensorboard} is not projects/PROJECT/locations/REGION/tensorboards/ID"
    if found[1] != job.region:
        return f"--tensorboard is in {found[1]} and the job in {job.region}: they must be in one region"
    if not job.service_account:
        return "--tensorboard needs --service_account: the one that writes to it"
    return None


def _search(args: argparse.Namespace, trainer_options: list[str]) -> Search:
    """Raises LaunchError; the trainer's parser ends the process where it does not take a value of the search."""
    parameters = tuple(_parameter(text, trainer_options) for text in args.tune)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise LaunchError(f"--tune: an option is there twice: {', '.join(names)}")
    if not parse_train([*trainer_options], {}).val_split:
        raise LaunchError("--tune compares trials by the mean IoU of --val_split, which is ''")
    return Search(parameters=parameters, trials=args.trials, parallel=min(args.parallel_trials, args.trials))


def _parameter(text: str, trainer_options: list[str]) -> Parameter:
    found = re.fullmatch(r"(\w+)=(?:(.+)\.\.(.+?)(:log)?|([^:]+))", text)
    if not found:
        raise LaunchError(f"--tune={text} is not NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE,VALUE")
    name, low, high, log, values = found.groups()
    if any(option.partition("=")[0] == f"--{name}" for option in trainer_options):
        raise LaunchError(f"--{name} is given and tuned as well: leave one of them out")
    if values:
        choices = tuple(values.split(","))
        for choice in choices:
            _trained_with(name, choice, trainer_options)
        return Parameter(name=name, values=choices)
    ends = [_trained_with(name, end, trainer_options) for end in (low, high)]
    if any(type(end) not in (int, float) for end in ends):
        raise LaunchError(f"--tune={text}: --{name} is not a number; list its values: {name}=VALUE,VALUE")
    least, most = map(float, ends)
    if least >= most or (log and least <= 0):
        raise LaunchError(f"--tune={text}: LOW must be less than HIGH, and more than 0 with :log")
    return Parameter(name=name, low=least, high=most, whole=isinstance(ends[0], int), logarithmic=bool(log))


def _trained_with(name: str, value: str, trainer_options: list[str]) -> Any:
    """What the trainer understands by `--name=value`."""
    train = parse_train([*trainer_options, f"--{name}={value}"], {})
    return train.model_options[name] if name in train.model_options else getattr(train, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.vertex",
        usage="%(prog)s --project=ID --region=REGION --output=gs://... [option ...] [option of trainer.task ...]",
        description="Trains on Vertex AI. Every option that is not below goes to the trainer: see `python -m "
        "trainer.task --help`. Started again with the same --output, a run goes on at its checkpoint.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    _add_job(parser.add_argument_group("job"))
    _add_machines(parser.add_argument_group("machines"))
    _add_search(parser.add_argument_group("hyperparameter search"))
    _add_rehearsal(parser.add_argument_group("without a job"))
    return parser


def _add_job(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--project", type=arguments.project, help="Google Cloud project that pays")
    group.add_argument("--region", type=arguments.region, help="like europe-west4; the buckets should be in it, too")
    group.add_argument("--output", required=True, help="base folder of the run, gs://BUCKET/FOLDER")
    group.add_argument("--name", type=_name, help="display name (else the model and the last part of --output)")
    group.add_argument(
        "--label", action="append", default=[], type=arguments.label, metavar="KEY=VALUE", help="again for more"
    )
    group.add_argument(
        "--service_account", metavar="EMAIL", type=arguments.email, help="that the job runs as (else Vertex AI's own)"
    )
    group.add_argument("--tensorboard", metavar="NAME", help="projects/../locations/../tensorboards/ID to show it in")
    group.add_argument("--endpoint", metavar="URL", help="of the service (else REGION-aiplatform.googleapis.com)")


def _add_machines(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--accelerator", default="NVIDIA_L4", help="one of " + ", ".join(MACHINES))
    group.add_argument("--accelerator_count", type=_whole(0), metavar="N", help="of each host (else the fewest)")
    group.add_argument("--machine_type", help="instead of the usual one for these accelerators")
    group.add_argument("--hosts", type=_whole(1), default=1, help="a chief, and workers")
    group.add_argument(
        "--container",
        metavar="IMAGE",
        type=arguments.image,
        help="built from launch/Dockerfile.trainer (else Vertex AI's prebuilt one)",
    )
    group.add_argument("--spot", action="store_true", help="cheap machines that Google may take back; it goes on later")
    group.add_argument("--timeout_hours", type=_hours, default=24.0, help="after which a job, or a trial, is ended")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tune",
        action="append",
        nargs="?",
        const=_TUNED,
        metavar="NAME=LOW..HIGH[:log] | NAME=VALUE,VALUE",
        help=f"search the best values of a trainer's option, again for more; alone: {_TUNED}",
    )
    group.add_argument("--trials", type=_whole(1), default=20, help="runs in all")
    group.add_argument("--parallel_trials", type=_whole(1), default=2, help="runs at a time")


def _add_rehearsal(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dry_run", action="store_true", help="print the request as JSON, and submit nothing")
    group.add_argument(
        "--local",
        nargs="?",
        const=1,
        default=0,
        type=_whole(1),
        metavar="HOSTS",
        help="run the same sdist here, in a virtual environment of its own, with the variables that Vertex AI sets",
    )
    group.add_argument("--venv", default="out/vertex-venv", metavar="DIR", help="of --local; made once, and kept")
    group.add_argument(
        "--reuse_packages",
        action="store_true",
        help="with --local: take TensorFlow and the rest from the running Python, and install the sdist alone "
        "(seconds, not minutes), into an environment that is not kept",
    )


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return parse


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours") from error
    if not 0.01 <= value <= 24 * 28:
        raise argparse.ArgumentTypeError(f"{text}: from 0.01 to {24 * 28} hours")
    return value


def _name(text: str) -> str:
    if not 1 <= len(text) <= 128:
        raise argparse.ArgumentTypeError(f"a name has 1 to 128 characters, not {len(text)}")
    return text
