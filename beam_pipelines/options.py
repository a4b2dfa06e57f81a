"""The command line, parsed once: argv -> a frozen Recipe, settings, and what is left for Beam."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_pipelines import runners
from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTableError
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.layouts import ANNOTATIONS, LAYOUTS, listed
from beam_pipelines.recipe import SCENES, Recipe, input_paths

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

DEFAULT_OUTPUT = "out/scenes"
RESIZES = ("area", "bilinear", "bicubic", "lanczos")
ASPECTS = ("reject", "crop", "pad", "stretch")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """A parsed command line. `beam_args` is what only Beam understands."""

    recipe: Recipe
    output: str
    max_rejects: float
    overwrite: bool
    transform_fn: bool
    plan_only: bool
    verbose: bool
    beam_args: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """A parsed command line of `beam_pipelines.verify`."""

    dataset: str
    verbose: bool
    beam_args: tuple[str, ...]


def parse_build(argv: Sequence[str] | None = None, prog: str = "python -m beam_pipelines.build") -> BuildSettings:
    """Raises SystemExit with a message where the arguments don't fit together; `prog` is whose arguments they are."""
    parser = build_parser(prog)
    args, beam_args = parser.parse_known_args(argv)
    if args.input == "":
        parser.error("--input is empty: name a folder or archives, or leave the option out for the embedded scenes")
    if args.input and not args.output:
        parser.error("--output is needed with --input: the folder (local or gs://) for the data set")
    inputs = [_checked_path(parser, "--input", path) for path in _input_paths(args.input)] if args.input else []
    output = _checked_path(parser, "--output", args.output or DEFAULT_OUTPUT)
    _check_reach(parser, args.runner, "--input", inputs)
    _check_reach(parser, args.runner, "--output", [args.output or DEFAULT_OUTPUT])
    if args.shards and args.shard_size_mb:
        parser.error("--shards and --shard_size_mb both set the number of shards: give one")
    try:
        labels = load_labels(args.labels)
        split_names, split_fractions = _splits(args.splits)
    except (LabelTableError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    if args.group_by and not split_fractions:
        parser.error("--group_by keeps groups together when --splits=train=0.8,val=0.2 assigns them: give --splits")
    recipe = Recipe(
        input=",".join(inputs) if inputs else SCENES,
        annotations=args.annotations,
        split_names=split_names,
        split_fractions=split_fractions,
        group_by=args.group_by,
        labels=labels,
        image_size=args.image_size,
        resize=args.resize,
        aspect=args.aspect,
        image_encoding=args.image_encoding,
        mask_encoding=args.mask_encoding or ("png" if args.image_encoding == "png" else "uint8"),
        shard_size_mb=args.shard_size_mb or 128.0,
        shards=args.shards or {},
        seed=args.seed,
        max_pairs=args.max_pairs,
        max_image_pixels=args.max_image_pixels,
        masks_are=args.masks_are,
    )
    return BuildSettings(
        recipe=recipe,
        output=output,
        max_rejects=args.max_rejects,
        overwrite=args.overwrite,
        transform_fn=not args.no_transform_fn,
        plan_only=args.plan,
        verbose=args.verbose,
        beam_args=_with_runner(args.runner, beam_args),
    )


def parse_verify(argv: Sequence[str] | None = None) -> VerifySettings:
    """Raises SystemExit with a message where the arguments are wrong."""
    parser = verify_parser()
    args, beam_args = parser.parse_known_args(argv)
    dataset = _checked_path(parser, "DATASET", args.dataset)
    _check_reach(parser, args.runner, "DATASET", [args.dataset])
    return VerifySettings(dataset=dataset, verbose=args.verbose, beam_args=_with_runner(args.runner, beam_args))


def pipeline_options(beam_args: Sequence[str], known: Sequence[str] = ()) -> PipelineOptions:
    """Beam's view of the arguments, after the defaults of their runner.

    Raises:
      SystemExit: 2, after a message: an argument that neither this project nor Beam knows; it may have been meant for
        one of the build's, of Beam's or of `known`.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import create_runner

    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for view in PipelineOptions.__subclasses__():
        view._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(beam_args))
    if unknown:
        options_of_all = [*known, *build_parser()._option_string_actions, *parser._option_string_actions]
        raise _wrong(_unknown_option(unknown[0], options_of_all))
    if problem := runners.missing_program(beam_args):
        raise _wrong(problem)
    options = PipelineOptions([*runners.runner_in(beam_args).defaults(), *beam_args])
    try:
        create_runner(options.view_as(StandardOptions).runner)
    except (ValueError, ImportError) as error:
        raise _wrong(str(error).splitlines()[0]) from error
    return options


def _wrong(message: str) -> SystemExit:
    """Says why, and gives the end by wrong arguments; Python's own would be the exit code 1."""
    print(f"error: {message}", file=sys.stderr)
    stopped = SystemExit(message)
    stopped.code = 2
    return stopped


def build_parser(prog: str = "python -m beam_pipelines.build") -> argparse.ArgumentParser:
    """The parser of `python -m beam_pipelines.build`, or of a command `prog` that takes its options, too."""
    parser = argparse.ArgumentParser(
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
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.verify",
        description="Reads every record of a data set back and proves it: checksums, counts, shapes, ids, moments. "
        "Exit code 0 where all holds, 1 where something does not, 2 where there is no data set.",
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
        type=_regex,
        help="with shares in --splits: keys for which this finds the same text (its first group) share a split",
    )
    group.add_argument("--max_pairs", metavar="N", type=positive(int), help="take at most N pairs of each split")
    group.add_argument(
        "--max_image_pixels",
        metavar="N",
        type=positive(int),
        default=100_000_000,
        help="a larger picture is rejected before it is decoded (default: 100000000)",
    )


def _add_pixels(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image_size",
        metavar="HxW",
        type=_image_size,
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
        "--shard_size_mb", metavar="MB", type=positive(float), help="target size of a shard in MB (default: 128)"
    )
    group.add_argument(
        "--shards",
        metavar="SPLIT=N,...",
        type=_shards,
        help="number of shards of each split, in place of a size: train=32,val=8",
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the global shuffle (default: 0)")
    group.add_argument(
        "--max_rejects",
        metavar="SHARE",
        type=_share,
        default=0.01,
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


def _input_paths(text: str) -> list[str]:
    return input_paths(os.path.expanduser(text))


def _checked_path(parser: argparse.ArgumentParser, option: str, text: str) -> str:
    """`_path(text)`; ends with a message where it can't name anything that is read or written here."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text)
    shown = f"{option}={text}" if option.startswith("-") else f"{option} {text}"
    if not text:
        parser.error(f"{option}: a path is empty; commas separate the paths of --input")
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        parser.error(f"{option}: the path {text!r} is not UTF-8: rename it")
    if text.startswith("file:"):
        parser.error(f"{shown}: give the plain path, {text.removeprefix('file:').removeprefix('//')}")
    if scheme and not re.match(r"gs://[^/]", text):
        parser.error(f"{shown}: {scheme[1]}: is not read or written; give a local path, or gs://BUCKET/FOLDER")
    return _path(text)


def _path(text: str) -> str:
    """Without a slash at the end; shells do not expand the ~ of `--output=~/x`."""
    return os.path.expanduser(text).rstrip("/") or "/"


def _with_runner(runner: str, beam_args: Sequence[str]) -> tuple[str, ...]:
    return (f"--runner={runner}", *beam_args)


def _check_reach(parser: argparse.ArgumentParser, runner: str, option: str, paths: Sequence[str]) -> None:
    """Ends with a message where the runner's workers can't reach one of `paths`."""
    row = runners.runner_of(runner)
    for path in paths:
        if row.buckets_only and not path.startswith("gs://"):
            limit = f"{row.title}'s workers can't reach {path}"
            parser.error(f"{option}: {limit}: it must be in a bucket, gs://BUCKET/FOLDER")


def _unknown_option(argument: str, known: Sequence[str]) -> str:
    name = argument.split("=")[0]
    near = difflib.get_close_matches(name, [option for option in known if option != name], n=1)
    return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else "; --help lists what there is")


def _splits(text: str) -> tuple[tuple[str, ...], dict[str, float]]:
    """-> (names to take, shares to assign); at most one of them is not empty."""
    if not text:
        return (), {}
    if "=" not in text:
        names = tuple(name.strip() for name in text.split(","))
        if not all(names):
            raise argparse.ArgumentTypeError(f"--splits={text}: a name is empty")
        return names, {}
    shares = {name: _share(share) for name, share in _assignments(text, "--splits").items()}
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise argparse.ArgumentTypeError(f"--splits={text}: the shares add up to {sum(shares.values()):g}, not to 1")
    return (), shares


def _shards(text: str) -> dict[str, int]:
    return {name: positive(int)(number) for name, number in _assignments(text, "--shards").items()}


def _assignments(text: str, option: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and value for name, equals, value in parts):
        raise argparse.ArgumentTypeError(f"{option}={text}: expected NAME=NUMBER,NAME=NUMBER")
    found = {name.strip(): value.strip() for name, _, value in parts}
    if len(found) < len(parts):
        raise argparse.ArgumentTypeError(f"{option}={text}: a name occurs twice")
    return found


def _image_size(text: str) -> tuple[int, int] | None:
    if text == "native":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not all(1 <= int(side) <= 65535 for side in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, like 256x512, nor native")
    return int(match[1]), int(match[2])


def _share(text: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: give 0.01 or 1%")
    return value


def positive(number: type) -> Any:
    """An argparse type: a `number` above 0."""

    def parse(text: str) -> Any:
        try:
            value = number(text)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return parse


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error
    return text
