"""The command line of launch.vertex as one frozen VertexSettings; the trainer's own parser checks its options."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.errors import unknown_option
from launch.errors import LaunchError
from launch.vertex.environment import check_environment
from launch.vertex.machines import choose_machine
from launch.vertex.parser import MACHINES, make_parser
from launch.vertex.problems import output_problem, rehearsal_problem, submission_problem
from launch.vertex.request import TrainingJob
from launch.vertex.search import parse_search
from trainer import settings
from trainer.config import TrainConfig, expand, parse_train, train_parser
from trainer.recipes import RecipeError

__all__ = ["MACHINES", "VertexSettings", "make_parser", "parse"]

_NEEDS = {"trials": "tune", "parallel_trials": "tune", "venv": "local", "reuse_packages": "local"}
# Of a job on Vertex AI alone. Not --project and --region, which a rehearsal may keep from the command that follows it.
_OF_JOBS = (
    *("name", "label", "service_account", "wait", "tensorboard", "endpoint", "accelerator", "accelerator_count"),
    *("machine_type", "hosts", "container", "build_container", "spot", "timeout_hours"),
)


@dataclass(frozen=True, kw_only=True)
class VertexSettings:
    """A parsed command line.

    Attributes:
      train: the trainer's configuration, except for the folders that Vertex AI sets.
      local_hosts: number of processes that rehearse the job on this machine; 0 submits it.
      venv: folder of the virtual environment of a rehearsal.
      reuse_packages: use the packages of the running Python instead.
      build_container: image that is built first, without its tag; the job has no container yet.
      endpoint: address of the services; None is Google's in the region of the job.
    """

    job: TrainingJob
    train: TrainConfig
    build_container: str | None
    local_hosts: int
    venv: str
    reuse_packages: bool
    dry_run: bool
    wait: bool
    endpoint: str | None


def _expanded(trainer_options: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The trainer's options with the values of a recipe, which may be a file of this machine."""
    try:
        return [*expand(trainer_options).argv]
    except RecipeError as error:
        parser.error(str(error))


def parse(argv: Sequence[str] | None = None) -> VertexSettings:
    """Raises SystemExit with code 2 and a message if the arguments, or those of the trainer, are wrong."""
    parser = make_parser()
    args, trainer_options = parser.parse_known_args(argv)
    if problem := _trainer_problem(trainer_options, parser):
        parser.error(problem)
    trainer_options = _expanded(trainer_options, parser)
    train = parse_train([*trainer_options, f"--output={args.output}"], {})
    try:
        job = _make_job(args, train, trainer_options)
        if args.local and not args.reuse_packages:
            check_environment(args.venv)
    except LaunchError as error:
        parser.error(str(error))
    problem = (
        _unused_option(args, settings.given(parser, argv))
        or output_problem(train)
        or (
            rehearsal_problem(bool(job.search), args.dry_run)
            if args.local
            else submission_problem(job, train, args.build_container)
        )
    )
    if problem:
        parser.error(problem)
    return VertexSettings(
        job=job,
        train=train,
        build_container=args.build_container,
        local_hosts=args.local,
        venv=args.venv,
        reuse_packages=args.reuse_packages,
        dry_run=args.dry_run,
        wait=args.wait,
        endpoint=args.endpoint,
    )


def _trainer_problem(options: Sequence[str], parser: argparse.ArgumentParser) -> str | None:
    """What is wrong with the arguments that this command itself does not know; None if the trainer takes them."""
    trainer = train_parser()
    values, unknown = trainer.parse_known_args(options)
    if unknown:
        return unknown_option(unknown[0], [*parser._option_string_actions, *trainer._option_string_actions])
    if values.print_config:
        return (
            "--print_config: a job would print the options and end; leave it out, or give the trainer's options to "
            "`python -m trainer.task --print_config`"
        )
    return None


def _make_job(args: argparse.Namespace, train: TrainConfig, trainer_options: list[str]) -> TrainingJob:
    """Raises LaunchError if there is no such machine, or the search is malformed."""
    search = parse_search(args.tune, args.trials, args.parallel_trials, trainer_options) if args.tune else None
    machine = choose_machine(args.accelerator, args.accelerator_count, args.machine_type)
    if machine.is_tpu and train.machine.strategy == "auto" and not args.local:
        trainer_options = [*trainer_options, "--strategy=tpu"]
    return TrainingJob(
        name=args.name or f"{train.model.name}-{train.places.output.rpartition('/')[2]}"[:128],
        project=args.project or "",
        region=args.region or "",
        output=train.places.output,
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


def _unused_option(args: argparse.Namespace, names: Collection[str]) -> str | None:
    """Names an option of the command line that would have no effect."""
    for option, needed in _NEEDS.items():
        if option in names and not getattr(args, needed):
            return f"--{option} has no effect without --{needed}"
    idle = next((option for option in _OF_JOBS if option in names), None)
    if args.local and idle:
        instead = ", and set --local=HOSTS" if idle == "hosts" else ""
        return f"--{idle} has no effect with --local, which runs on this machine: leave it out{instead}"
    if args.reuse_packages and "venv" in names:
        return "--venv has no effect with --reuse_packages, whose environment is temporary: leave out one of them"
    if "parallel_trials" in names and args.parallel_trials > args.trials:
        return f"--parallel_trials={args.parallel_trials} is more than --trials={args.trials}: set at most as many"
    return None
