"""The options of the commands, with their defaults and their help."""

from __future__ import annotations

import argparse
from typing import NoReturn

from beam_pipelines import runners
from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.inputs.layouts import ANNOTATIONS, LAYOUTS, listed
from beam_pipelines.options import values

DEFAULT_OUTPUT = "out/scenes"
MAX_REJECTS = 0.01
RESIZES = ("area", "bilinear", "bicubic", "lanczos")
ASPECTS = ("reject", "crop", "pad", "stretch")


class _Parser(argparse.ArgumentParser):
    """Argparse prints the usage, of 17 lines, before an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


def build_parser(prog: str = "python -m beam_pipelines.build") -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.build`, or of a command `prog` that takes its options, too."""
    parser = _Parser(
        prog=prog,
        description="Builds a normalized, sharded, self-describing segmentation data set from pictures and masks. "
        "Without --input it draws street scenes and builds from them.",
        epilog="Every other option goes to Apache Beam: --runner=DataflowRunner --project=..., "
        "--direct_num_workers=8, and so on.",
        allow_abbrev=False,
    )
    _add_input(parser.add_argument_group("what goes in"))
    _add_pixels(parser.add_argument_group("what the records hold"))
    _add_output(parser.add_argument_group("where and how it is written"))
    _add_running(parser.add_argument_group("running"))
    return parser


def verify_parser() -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.verify`."""
    parser = _Parser(
        prog="python -m beam_pipelines.verify",
        description="Reads every record of a data set back and proves it: checksums, counts, shapes, ids, moments. "
        "Exit code 0: every check passed; 1: one failed, or there is no data set; 2: an error, or wrong arguments.",
        epilog="Every other option goes to Apache Beam.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", metavar="DATASET", help="the data set's folder, local or gs://")
    _add_running(parser)
    return parser


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        metavar="PATHS",
        help="a folder, zip archives, or both, separated by commas, local or gs://, with images and masks laid out as "
        + listed([f"{layout.name} ({layout.folders})" for layout in LAYOUTS]),
    )
    group.add_argument(
        "--labels",
        metavar="TABLE",
        default="cityscapes19",
        help=f"{', '.join(BUILTIN_TABLES)}, or a YAML file (default: cityscapes19)",
    )
    group.add_argument(
        "--masks_are",
        choices=["auto", "ids", "levels", "colors"],
        default="auto",
        help="what a mask file holds: ids as stored (gray samples, palette indices), ids as the gray levels that a "
        "viewer shows, or the table's colors; auto decides by the first masks and refuses what could be either "
        "(default: auto)",
    )
    group.add_argument(
        "--annotations",
        choices=ANNOTATIONS,
        help=f"which masks of {listed([layout.name for layout in LAYOUTS if layout.choice])} (default: the first of "
        "these that is there)",
    )
    group.add_argument(
        "--splits",
        metavar="SPLITS",
        default="",
        help="which splits to take (train,val), or shares to assign by a hash of the key where the folders have "
        "none (train=0.8,val=0.2). Default: all splits with true annotations",
    )
    group.add_argument(
        "--group_by",
        metavar="REGEX",
        type=values.regex,
        help="with shares in --splits: keys for which this finds the same text (its first group) share a split",
    )
    group.add_argument("--max_pairs", metavar="N", type=values.positive(int), help="take at most N pairs of each split")
    group.add_argument(
        "--max_image_pixels",
        metavar="N",
        type=values.positive(int),
        default=100_000_000,
        help="a larger picture is rejected before it is decoded (default: 100000000)",
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
        "--resize", choices=RESIZES, default="area", help="of images; masks are always nearest (default: area)"
    )
    group.add_argument(
        "--aspect",
        choices=ASPECTS,
        default="reject",
        help="a picture of another aspect ratio than HxW: reject it, crop it around its center, pad it (edge pixels; "
        "the mask is ignored there), or stretch it (default: reject)",
    )
    group.add_argument(
        "--image_encoding",
        choices=["float32", "float16", "uint8", "png"],
        default="float32",
        help="float32 and float16 are stored normalized, (x/255 - mean)/std; uint8 and png as they are, and the "
        "reader normalizes with the same moments (default: float32)",
    )
    group.add_argument(
        "--mask_encoding",
        choices=["uint8", "png"],
        help="of the train ids of the masks (default: uint8, or png with --image_encoding=png)",
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
        help="number of shards of each split, in place of a size: train=32,val=8",
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the global shuffle (default: 0)")
    group.add_argument(
        "--max_rejects",
        metavar="SHARE",
        type=values.share,
        default=MAX_REJECTS,
        help="above this share of bad pairs, 0.01 or 1%%, nothing is published (default: 1%%)",
    )
    group.add_argument("--overwrite", action="store_true", help="delete what an earlier build left in --output first")
    group.add_argument(
        "--no_transform_fn",
        action="store_true",
        help="leave out the tensorflow-transform graph that normalizes",
    )
    group.add_argument("--plan", action="store_true", help="print what would be built, with sizes, and stop")


def _add_running(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    group.add_argument(
        "--runner",
        default="DirectRunner",
        help=f"{', '.join(runner.names[0] for runner in runners.RUNNERS)}, or another of Beam's "
        "(default: DirectRunner, with all cores)",
    )
    group.add_argument("--verbose", action="store_true", help="show Beam's own log")
