"""The command line of launch.pipeline as one frozen PipelineSettings; the parsers of both steps check their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from beam_pipelines.options import build_parser, pipeline_options
from launch import arguments
from launch.dataflow import options as dataflow
from launch.errors import missing_packages
from launch.pipeline.problems import option_problem, place_problem, split_problem
from launch.vertex import options as vertex
from launch.vertex.request import TrainingJob
from trainer.arguments import HelpFormatter, Parser
from trainer.config import train_parser

_BOTH = ("--seed", "--verbose")  # of the build and of the training


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """A parsed command line.

    Attributes:
      build, train: the arguments of launch.dataflow and of launch.vertex in the steps of the pipeline.
      job: of the training.
      endpoint: address of the service; None is Google's in the region of the job.
    """

    build: tuple[str, ...]
    train: tuple[str, ...]
    job: TrainingJob
    dry_run: bool
    endpoint: str | None


def parse(argv: Sequence[str] | None = None) -> PipelineSettings:
    """Raises SystemExit with code 2 and a message if the arguments, or those of a step, are wrong."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    options = [*_grouped(rest)]
    if problem := option_problem(options) or place_problem(args):
        parser.error(problem)
    place = (f"--project={args.project}", f"--region={args.region}")
    of_vertex, of_trainer = _names_of(vertex.make_parser()), _names_of(train_parser())
    own = [option for option in options if _name(option) in of_vertex]
    training = [option for option in options if _name(option) in of_trainer - of_vertex]
    others = [option for option in options if _name(option) not in of_vertex | of_trainer or _name(option) in _BOTH]
    build = [*place, f"--input={args.input}", f"--output={args.dataset}", *_flat(others)]
    built = dataflow.parse(build).build
    _check_with_beam(build, built.beam_args, (parser, vertex.make_parser(), train_parser()))
    output = (*place, f"--output={args.output}", *_flat(own))
    settings = vertex.parse([*output, f"--dataset={args.dataset}", *_flat(training)])
    if problem := split_problem(built.recipe, settings.train):
        parser.error(problem)
    return PipelineSettings(
        build=tuple(build),
        # As parsed: a recipe may be a file of this machine.
        train=(*output, "--wait", *settings.job.trainer_options),
        job=settings.job,
        dry_run=args.dry_run,
        endpoint=args.endpoint,
    )


def _check_with_beam(build: Sequence[str], beam_args: Sequence[str], others: Iterable[argparse.ArgumentParser]) -> None:
    """Refuses arguments of the `build` that are left to Beam, with others as `beam_args`, and that it does not know.

    Raises:
      SystemExit: with code 2 and a message, which suggests an option of the build, of Beam or of the `others`.
      LaunchError: Beam is not installed.
    """
    mine = dataflow.make_parser()
    _, unknown = build_parser().parse_known_args(mine.parse_known_args(build)[1])
    if unknown:  # importing Beam takes seconds
        with missing_packages("pipelines"):
            pipeline_options(beam_args, [name for each in (mine, *others) for name in _names_of(each)])


def make_parser() -> argparse.ArgumentParser:
    """The options of this command itself; all others go to the steps."""
    parser = Parser(
        prog="python -m launch.pipeline",
        usage="%(prog)s --project=ID --region=REGION --input=gs://... --dataset=gs://... --output=gs://... [option]",
        description="Builds a data set on Dataflow and trains on it on Vertex AI, as one pipeline of Vertex AI "
        "Pipelines.",
        epilog="Options of `python -m launch.vertex` and `python -m trainer.task` go to the training, among them "
        "--machine_type, --name, --label and --service_account; --seed and --verbose go to both steps; all others go "
        "to `python -m launch.dataflow`.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("pipeline")
    arguments.add(group, arguments.JOB, "project", "region", required=True)
    arguments.add(group, dataflow.INPUT, required=True)
    group.add_argument(
        "--dataset",
        metavar="DIR",
        required=True,
        type=arguments.bucket_folder,
        help="gs:// folder of the data set: the output of the build",
    )
    arguments.add(group, arguments.JOB, "output", required=True, help="gs:// folder of the training run")
    group.add_argument(
        "--dry_run", action="store_true", help="print the request with the pipeline as JSON and submit nothing"
    )
    arguments.add(group, arguments.JOB, "endpoint")
    return parser


def _grouped(rest: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yields each option with the values after it."""
    group: list[str] = []
    for argument in rest:
        if argument.startswith("--") and group:
            yield tuple(group)
            group = []
        group.append(argument)
    if group:
        yield tuple(group)


def _flat(options: Iterable[tuple[str, ...]]) -> list[str]:
    return [argument for option in options for argument in option]


def _name(option: tuple[str, ...]) -> str:
    return option[0].partition("=")[0]


def _names_of(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}
