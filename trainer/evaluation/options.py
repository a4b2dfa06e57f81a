"""The command line of `trainer.evaluate` as one frozen EvaluateSettings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import arguments
from trainer.cluster import ONE_HOST_STRATEGIES
from trainer.evaluation.report import FILES
from trainer.inference.views import WHOLE, Views, take_views
from trainer.settings import Option


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """A parsed command line. If `output` is None, the report is written beside the model.

    Attributes:
      dataset: None if a data set is built of image and mask files.
      files: option of `FILES_OPTIONS` -> its text, as far as they are given; None with `dataset`.
      batch_per_replica: None for 4, or 1 where images are scored at their own size.
    """

    model: str
    dataset: str | None = None
    files: Mapping[str, str] | None = None
    keep_dataset: str | None = None
    instances: str | None = None
    split: str = "val"
    output: str | None = None
    batch_per_replica: int | None = None
    views: Views = WHOLE
    strategy: str = "auto"
    logical_devices: int | None = None
    verbose: bool = False


_OUTPUT = Option(
    "output",
    type=arguments.output_folder,
    metavar="DIR",
    help="folder to write the report to, local or gs:// (default: report-SPLIT beside the model)",
    aliases=("report",),
)
_BATCH = Option(
    "batch_per_replica",
    type=arguments.whole(1),
    metavar="N",
    help="images on each device at a time (default: 4, or 1 at their own size)",
    aliases=("batch",),
)
_INSTANCES = Option(
    "instances",
    type=arguments.place,
    metavar="FOLDER|GLOB",
    help="files *_instanceIds.png of Cityscapes, local or gs://: also score instance-weighted IoU",
)
# The options of `python -m beam_pipelines.build` that say what is read; it checks their values.
_INPUT = Option(
    "input",
    metavar="PATHS",
    help="instead of --dataset, score image and mask files at their own size: folders, archives or a list, as for "
    "beam_pipelines.build",
)
FILES_OPTIONS = (
    _INPUT,
    Option("layout", metavar="NAME", help="how images and masks are arranged (default: found out)"),
    Option("images", metavar="TEMPLATE", help="names of images below --input, such as 'rgb/{split}/{key}.jpg'"),
    Option("masks", metavar="TEMPLATE", help="names of masks, such as 'seg/{split}/{key}.png'"),
    Option("labels", metavar="TABLE", help="label table of the masks (default: that of the model, if it is built in)"),
    Option("masks_are", metavar="auto|ids|levels|colors", help="how to read masks (default: auto)"),
    Option("annotations", metavar="MASKS", help="which masks to read, if the layout has several"),
    Option(
        "splits", metavar="SPLITS", help="val=1 if the folders have no splits, so that all are val (default: --split)"
    ),
    Option("max_pairs", metavar="N", help="score at most N images"),
    Option("max_image_pixels", metavar="N", help="reject larger images"),
    Option("orient", metavar="RULE", help="what to do about EXIF orientations (default: reject)"),
    Option("alpha", metavar="RULE", help="what to do about transparent pixels (default: reject)"),
    Option("deep", metavar="RULE", help="what to do about images of 16 bits (default: reject)"),
    Option("max_rejects", metavar="SHARE", help="score nothing if a larger share of the pairs is bad (default: 1%%)"),
)
_KEEP = Option(
    "keep_dataset",
    type=arguments.dataset,
    metavar="DIR",
    help="keep the data set that is built of --input in this folder",
)


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = evaluate_parser()
    values = vars(parser.parse_args(argv))
    if problem := _problem(values):
        parser.error(problem)
    files = {option.name: values.pop(option.name) for option in FILES_OPTIONS}
    given = {name: value for name, value in files.items() if value is not None}
    return EvaluateSettings(views=take_views(parser, values), files=given or None, **values)


def _problem(values: Mapping[str, Any]) -> str | None:
    """What is wrong with where images and masks are read from; None if nothing is."""
    given = [option.name for option in (*FILES_OPTIONS, _KEEP) if values[option.name] is not None]
    if values["dataset"] is None and values["input"] is None:
        if given:
            return f"argument --{given[0]}: needs --input, the folder or archives with the files"
        return "one of --dataset and --input is required: a data set that is built, or image and mask files"
    if values["dataset"] is not None and given:
        return f"argument --{given[0]}: not allowed with argument --dataset, which is built already"
    return None


def evaluate_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Scores a trained model on every image of a split, with 95 % intervals, and writes a report: "
        f"{', '.join(FILES)}.",
        allow_abbrev=False,
    )
    _add_places(parser)
    _add_files(parser.add_argument_group("image and mask files"))
    arguments.add_views(parser, "the image size")
    arguments.add_window(parser, "each image")
    _add_devices(parser)
    arguments.add_verbose(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Declares what is read and written."""
    arguments.add_model(parser)
    parser.add_argument(
        "--dataset",
        type=arguments.dataset,
        metavar="DIR",
        help="folder of the data set, local or gs://",
    )
    parser.add_argument("--split", default="val", help="split to score (default: %(default)s)")
    _INSTANCES.add_to(parser)
    _OUTPUT.add_to(parser)


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Declares what of image and mask files is read, instead of a data set."""
    for option in (*FILES_OPTIONS, _KEEP):
        option.add_to(group)


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
