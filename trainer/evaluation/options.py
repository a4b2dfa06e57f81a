"""The command line of `trainer.evaluate` as one frozen EvaluateSettings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from trainer import arguments
from trainer.cluster import ONE_HOST_STRATEGIES
from trainer.evaluation.report import FILES
from trainer.inference.views import WHOLE, Views, take_views
from trainer.settings import Option


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """A parsed command line. If `output` is None, the report is written beside the model."""

    model: str
    dataset: str
    split: str = "val"
    output: str | None = None
    batch_per_replica: int = 4
    views: Views = WHOLE
    strategy: str = "auto"
    logical_devices: int | None = None
    verbose: bool = False


_OUTPUT = Option(
    "output",
    type=arguments.place,
    metavar="DIR",
    help="folder to write the report to, local or gs:// (default: report-SPLIT beside the model)",
    aliases=("report",),
)
_BATCH = Option(
    "batch_per_replica",
    type=arguments.whole(1),
    default=4,
    metavar="N",
    help="images on each device at a time (default: %(default)s)",
    aliases=("batch",),
)


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    values = vars(evaluate_parser().parse_args(argv))
    return EvaluateSettings(views=take_views(values), **values)


def evaluate_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Scores a trained model on every image of a split, with 95 % intervals, and writes a report: "
        f"{', '.join(FILES)}.",
        allow_abbrev=False,
    )
    _add_places(parser)
    arguments.add_views(parser, "the image size")
    _add_devices(parser)
    arguments.add_verbose(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Declares what is read and written."""
    arguments.add_model(parser)
    parser.add_argument(
        "--dataset",
        required=True,
        type=arguments.dataset,
        metavar="DIR",
        help="folder of the data set, local or gs://",
    )
    parser.add_argument("--split", default="val", help="split to score (default: %(default)s)")
    _OUTPUT.add_to(parser)


def _add_devices(parser: argparse.ArgumentParser) -> None:
    """Declares the devices, and how many images each gets at a time."""
    _BATCH.add_to(parser)
    parser.add_argument(
        "--strategy",
        choices=ONE_HOST_STRATEGIES,
        default="auto",
        help="devices to evaluate on; auto: all GPUs, else the CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--logical_devices",
        type=arguments.whole(1),
        metavar="N",
        help="split the CPU into this many devices, to try several replicas",
    )
