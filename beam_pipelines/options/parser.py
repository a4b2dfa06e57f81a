"""The options of the commands, with their defaults and their help."""

from __future__ import annotations

import argparse
from typing import NoReturn

from beam_pipelines import runners
from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.contract.picture_rules import ALPHA, DEEP, ORIENT
from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS
from beam_pipelines.inputs.layouts import ANNOTATIONS
from beam_pipelines.inputs.layouts import OPTIONS as LAYOUT_OPTIONS
from beam_pipelines.options import values
from beam_pipelines.pixels.filters import FILTERS
from beam_pipelines.recipe import MASKS_ARE

DEFAULT_OUTPUT = "out/scenes"
DEFAULT_DRAFT = "labels.yaml"
MAX_REJECTS = 0.01
ASPECTS = ("reject", "crop", "pad", "stretch")


class Parser(argparse.ArgumentParser):
    """Prints errors as one line; argparse would print the usage of all options first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


def build_parser(prog: str = "python -m beam_pipelines.build") -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.build`, or of a command `prog` with the same options."""
    parser = Parser(
        prog=prog,
        description="Builds a normalized, sharded, self-describing segmentation data set from images and masks. "
        "Without --input it draws street scenes and builds from these.",
        epilog="All other options are passed to Apache Beam: --runner=DataflowRunner --project=..., "
        "--direct_num_workers=8, and so on.",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("input")
    _add_input(group)
    _add_choice(group)
    _add_rules(group)
    _add_pixels(parser.add_argument_group("records"))
    _add_output(parser.add_argument_group("output"))
    _add_running(parser.add_argument_group("running"))
    return parser


def verify_parser() -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.verify`."""
    parser = Parser(
        prog="python -m beam_pipelines.verify",
        description="Reads every record of a data set and checks it: checksums, counts, shapes, ids, moments. "
        "Exit code 0: every check passed; 1: a check failed, or there is no data set; 2: an error, or wrong arguments.",
        epilog="All other options are passed to Apache Beam.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", metavar="DATASET", help="the data set's folder, local or gs://")
    _add_running(parser)
    return parser


def card_parser() -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.card`."""
    parser = Parser(
        prog="python -m beam_pipelines.card",
        description="Writes the card of a data set again: card/index.html, a page that shows what is in it, and "
        "card/statistics.json. Exit code 0: it is written; 1: there is no data set, or an error; 2: wrong arguments.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", metavar="DATASET", help="the data set's folder, local or gs://")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks and Beam's log")
    return parser


def labels_parser() -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.labels`."""
    parser = Parser(
        prog="python -m beam_pipelines.labels",
        description="Counts what the masks of an input hold, tells which label tables fit, and drafts a label file; "
        "with --labels it checks that table instead. Exit code 0: a draft was written, or the table fits; 1: the table "
        "has a problem; 2: an error, or wrong arguments.",
        epilog="All other options are passed to Apache Beam.",
        allow_abbrev=False,
    )
    parser.add_argument("input", metavar="INPUT", help="a folder, zip archives, or both, as for beam_pipelines.build")
    parser.add_argument(
        "--labels", metavar="TABLE", help="check this label table, built-in or a label file, and draft none"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=f"the label file that is drafted, which must not exist (default: {DEFAULT_DRAFT})",
    )
    parser.add_argument(
        "--max_pairs",
        metavar="N",
        type=values.positive(int),
        help="look at N masks of each split, the first of a build",
    )
    group = parser.add_argument_group("input")
    for action in actions_of(build_parser(), "input"):
        if action.dest not in {"input", "labels", "group_by", "max_pairs"}:
            group._add_action(action)
    _add_running(parser.add_argument_group("running"))
    return parser


def actions_of(parser: argparse.ArgumentParser, title: str) -> list[argparse.Action]:
    """The options of one of the parser's groups."""
    (group,) = (group for group in parser._action_groups if group.title == title)
    return group._group_actions


def _add_input(group: argparse._ArgumentGroup) -> None:
    """Declares what the files are."""
    group.add_argument(
        "--input",
        metavar="PATHS",
        help="a folder, zip archives, or both, separated by commas, local or gs://, with images and masks; or a list "
        "of pairs, a .csv or .jsonl file with the columns image, mask, and perhaps split and key",
    )
    group.add_argument(
        "--layout",
        choices=LAYOUT_OPTIONS,
        help="how images and masks are arranged (default: the first of these that fits)",
    )
    group.add_argument(
        "--images",
        metavar="TEMPLATE",
        type=values.template,
        help="names of images below --input, such as 'rgb/{split}/{key}.jpg': {key} is what image and mask share and "
        "may hold folders, {type} is any type of image, * is any text",
    )
    group.add_argument(
        "--masks", metavar="TEMPLATE", type=values.template, help="names of masks, such as 'seg/{split}/{key}_mask.png'"
    )
    group.add_argument(
        "--labels",
        metavar="TABLE",
        help=f"{', '.join(BUILTIN_TABLES)}, or a label file (default: the table of the layout, or cityscapes19)",
    )
    group.add_argument(
        "--masks_are",
        choices=MASKS_ARE,
        default=MASKS_ARE[0],
        help="how to read masks: ids (the stored numbers: gray samples, palette indices), levels (the gray levels that "
        "a viewer shows), or colors (those of the table); auto decides by the first masks and refuses ambiguous ones "
        "(default: auto)",
    )
    group.add_argument(
        "--annotations",
        choices=ANNOTATIONS,
        metavar="MASKS",
        help=f"which masks to read, if the layout has several: {', '.join(ANNOTATIONS)} (default: the first of these "
        "that exists; of gtFine and gtCoarse, for each split)",
    )


def _add_choice(group: argparse._ArgumentGroup) -> None:
    """Declares which of the pairs are built."""
    group.add_argument(
        "--splits",
        metavar="SPLITS",
        default="",
        help="the splits to build (train,val); or, if the folders have no splits, the shares that a hash of the key "
        "assigns (train=0.8,val=0.2). Default: all splits with true annotations",
    )
    group.add_argument(
        "--pool_splits",
        action="store_true",
        help="with shares in --splits: divide the pairs of all splits of the input anew",
    )
    group.add_argument(
        "--group_by",
        metavar="REGEX",
        type=values.regex,
        help="with shares in --splits: keys in which this expression finds the same text (in its first group, if it "
        "has one) stay in one split",
    )
    group.add_argument(
        "--max_pairs", metavar="N", type=values.positive(int), help="build at most N pairs of each split"
    )
    group.add_argument(
        "--max_image_pixels",
        metavar="N",
        type=values.positive(int),
        default=MAX_IMAGE_PIXELS,
        help="reject larger images before they are decoded (default: %(default)s)",
    )


def _add_rules(group: argparse._ArgumentGroup) -> None:
    """Declares which pictures are taken that are refused by default, a field of `Rules` each."""
    group.add_argument(
        "--orient",
        choices=ORIENT,
        default=ORIENT[0],
        help="files with an EXIF orientation of 2 to 8: reject them, apply to image and mask the orientation that each "
        "has, or apply that of the image alone, if masks were drawn upright (default: reject)",
    )
    group.add_argument(
        "--alpha",
        choices=ALPHA,
        default=ALPHA[0],
        help="images with pixels that are not opaque: reject them, drop the alpha channel, or blend the colors with "
        "white or black (default: reject)",
    )
    group.add_argument(
        "--deep",
        choices=DEEP,
        default=DEEP[0],
        help="images of 16 bits per channel that 8 bits can't hold (PNG, gray TIFF): reject them, or scale them, v / "
        "257 rounded (default: reject)",
    )


def _add_pixels(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image_size",
        metavar="HxW",
        type=values.image_size,
        default=(256, 512),
        help="height x width, or native (default: 256x512)",
    )
    group.add_argument(
        "--resize",
        choices=[*FILTERS],
        default="area",
        help="filter for images; masks are always resized by nearest neighbor (default: area)",
    )
    group.add_argument(
        "--aspect",
        choices=ASPECTS,
        default="reject",
        help="images of another aspect ratio: reject them, crop them around the center, pad them (with edge pixels "
        "that the mask ignores), or stretch them (default: reject)",
    )
    group.add_argument(
        "--image_encoding",
        choices=["float32", "float16", "uint8", "png"],
        default="float32",
        help="float32 and float16 store normalized pixels, (x/255 - mean)/std; uint8 and png store the original "
        "pixels, and the reader normalizes them with the same moments (default: float32)",
    )
    group.add_argument(
        "--moments_split",
        metavar="SPLIT",
        help="the split whose mean and std normalize the images (default: train)",
    )
    group.add_argument(
        "--moments_from",
        metavar="PATH",
        help="take mean and std from another data set, or from that of a training run, instead: for a data set on "
        "which a model is only scored",
    )
    group.add_argument(
        "--mask_encoding",
        choices=["uint8", "png"],
        help="how train ids are stored (default: uint8, or png with --image_encoding=png)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output", metavar="DIR", help=f"the data set's folder, local or gs:// (default: {DEFAULT_OUTPUT})"
    )
    group.add_argument(
        "--shard_size_mb", metavar="MB", type=values.positive(float), help="target size of a shard in MB (default: 128)"
    )
    group.add_argument(
        "--shards",
        metavar="SPLIT=N,...",
        type=values.shards,
        help="number of shards of each split, instead of a size: train=32,val=8",
    )
    group.add_argument("--seed", type=values.whole, default=0, help="seed of the global shuffle (default: 0)")
    group.add_argument(
        "--max_rejects",
        metavar="SHARE",
        type=values.share,
        default=MAX_REJECTS,
        help="publish nothing if a larger share of the pairs is bad, 0.01 or 1%% (default: 1%%)",
    )
    group.add_argument(
        "--max_leaks",
        metavar="SHARE",
        type=values.share,
        default=1.0,
        help="publish nothing if a larger share of the examples has a duplicate in another split "
        "(default: 100%%, only a warning)",
    )
    change = group.add_mutually_exclusive_group()
    change.add_argument("--overwrite", action="store_true", help="replace what an earlier build wrote to --output")
    change.add_argument(
        "--update",
        action="store_true",
        help="bring pairs that were added, changed, removed or mended since into the finished data set in --output",
    )
    group.add_argument(
        "--no_transform_fn",
        action="store_true",
        help="do not write the tensorflow-transform graph that normalizes images",
    )
    group.add_argument(
        "--plan", action="store_true", help="print the plan of the build with its sizes and time, and exit"
    )


def _add_running(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    group.add_argument(
        "--runner",
        default="DirectRunner",
        help=f"{', '.join(runner.names[0] for runner in runners.RUNNERS)}, or another of Beam's "
        "(default: DirectRunner, with all cores)",
    )
    group.add_argument("--verbose", action="store_true", help="show Beam's log")
