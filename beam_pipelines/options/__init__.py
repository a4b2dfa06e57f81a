"""The command line, parsed once: argv -> a frozen Recipe, settings, and the arguments for Beam."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beam_pipelines import runners
from beam_pipelines.contract.errors import UserError
from beam_pipelines.files.bucket_names import broken_by_bucket
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.options import values
from beam_pipelines.options.beam import pipeline_options
from beam_pipelines.options.parser import (
    DEFAULT_DRAFT,
    DEFAULT_OUTPUT,
    actions_of,
    build_parser,
    card_parser,
    labels_parser,
    verify_parser,
)
from beam_pipelines.options.values import positive
from beam_pipelines.recipe import DEFAULTS, SCENES, BorrowedMoments, Recipe, input_paths

DEFAULT_LABELS = "cityscapes19"  # where the layout has no table

__all__ = [
    "DEFAULT_LABELS",
    "DEFAULT_OUTPUT",
    "BuildSettings",
    "CardSettings",
    "LabelsSettings",
    "VerifySettings",
    "build_parser",
    "card_parser",
    "labels_parser",
    "parse_build",
    "parse_card",
    "parse_labels",
    "parse_verify",
    "pipeline_options",
    "positive",
    "verify_parser",
]


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """A parsed command line of `beam_pipelines.build`. `beam_args` are the arguments for Beam; without `labels_given` a
    build takes the label table of the input's layout.
    """

    recipe: Recipe
    labels_given: bool
    output: str
    max_rejects: float
    max_leaks: float
    overwrite: bool
    update: bool
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


@dataclass(frozen=True, kw_only=True)
class CardSettings:
    """A parsed command line of `beam_pipelines.card`."""

    dataset: str
    verbose: bool


@dataclass(frozen=True, kw_only=True)
class LabelsSettings:
    """A parsed command line of `beam_pipelines.labels`. `given`: the options that say what the input is. `check`:
    whether to check the recipe's label table; otherwise one is drafted into `output`.
    """

    recipe: Recipe
    given: tuple[str, ...]
    check: bool
    output: str
    verbose: bool
    beam_args: tuple[str, ...]


def parse_build(argv: Sequence[str] | None = None, prog: str = "python -m beam_pipelines.build") -> BuildSettings:
    """Parses the arguments of the command `prog`. Raises SystemExit, after a message, if they are wrong."""
    parser = build_parser(prog)
    args, beam_args = parser.parse_known_args(argv)
    inputs, output = _places(parser, args)
    return BuildSettings(
        recipe=_recipe(parser, args, inputs),
        labels_given=args.labels is not None,
        output=output,
        max_rejects=args.max_rejects,
        max_leaks=args.max_leaks,
        overwrite=args.overwrite,
        update=args.update,
        transform_fn=not args.no_transform_fn,
        plan_only=args.plan,
        verbose=args.verbose,
        beam_args=_with_runner(args.runner, beam_args),
    )


def _places(parser: argparse.ArgumentParser, args: argparse.Namespace) -> tuple[list[str], str]:
    """-> the paths of --input, none for the embedded scenes, and that of --output."""
    if args.input == "":
        parser.error("--input is empty: name a folder or archives, or omit the option to build the embedded scenes")
    if args.input and not args.output:
        parser.error("--input needs --output: the folder, local or gs://, for the data set")
    inputs = [_checked_path(parser, "--input", path) for path in _input_paths(args.input)] if args.input else []
    output = _checked_path(parser, "--output", args.output or DEFAULT_OUTPUT)
    _check_reach(parser, args.runner, "--input", inputs)
    _check_reach(parser, args.runner, "--output", [args.output or DEFAULT_OUTPUT])
    return inputs, output


def _recipe(parser: argparse.ArgumentParser, args: argparse.Namespace, inputs: Sequence[str]) -> Recipe:
    if args.moments_split and args.moments_from:
        parser.error("--moments_from has moments of its own: leave out --moments_split")
    if args.shards and args.shard_size_mb:
        parser.error("--shards and --shard_size_mb both set the number of shards: give only one of them")
    try:
        labels = load_labels(args.labels or DEFAULT_LABELS)
        values.check_pixels(args.image_size, args.max_image_pixels)
        split_names, split_fractions = values.splits(args.splits)
        borrowed = _borrowed(args.moments_from) if args.moments_from else None
    except (UserError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    for option in ("group_by", "pool_splits"):
        if getattr(args, option) and not split_fractions:
            parser.error(f"--{option} needs shares in --splits, such as --splits=train=0.8,val=0.2")
    _check_templates(parser, args)
    return Recipe(
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
        layout=args.layout,
        images=args.images,
        masks=args.masks,
        pool_splits=args.pool_splits,
        moments_split=args.moments_split or DEFAULTS["moments_split"],
        moments_from=borrowed,
        orient=args.orient,
        alpha=args.alpha,
        deep=args.deep,
    )


def _borrowed(path: str) -> BorrowedMoments:
    from beam_pipelines.inputs.other_moments import borrow_moments  # imports Beam, which takes seconds

    return borrow_moments(_path(path))


def _check_templates(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if (args.images is None) != (args.masks is None):
        parser.error("--images and --masks belong together: give both")
    if args.images is None:
        return
    for option in ("layout", "annotations"):
        if getattr(args, option):
            parser.error(f"--images and --masks already say which files are read: leave out --{option}")
    for part in ("{split}", "{key}"):
        counts = [template.count(part) for template in (args.images, args.masks)]
        if min(counts) != max(counts) and (part == "{key}" or min(counts) == 0):
            parser.error(f"--images has {part} {counts[0]} times, and --masks {counts[1]} times")


def parse_verify(argv: Sequence[str] | None = None) -> VerifySettings:
    """Raises SystemExit, after a message, if the arguments are wrong."""
    parser = verify_parser()
    args, beam_args = parser.parse_known_args(argv)
    dataset = _checked_path(parser, "DATASET", args.dataset)
    _check_reach(parser, args.runner, "DATASET", [args.dataset])
    return VerifySettings(dataset=dataset, verbose=args.verbose, beam_args=_with_runner(args.runner, beam_args))


def parse_card(argv: Sequence[str] | None = None) -> CardSettings:
    """Raises SystemExit, after a message, if the arguments are wrong."""
    parser = card_parser()
    args = parser.parse_args(argv)
    return CardSettings(dataset=_checked_path(parser, "DATASET", args.dataset), verbose=args.verbose)


def parse_labels(argv: Sequence[str] | None = None) -> LabelsSettings:
    """Raises SystemExit, after a message, if the arguments are wrong."""
    parser = labels_parser()
    args, beam_args = parser.parse_known_args(argv)
    if args.labels is not None and args.output is not None:
        parser.error("--labels checks a table and --output names a draft: give only one of them")
    output = _checked_path(parser, "--output", DEFAULT_DRAFT if args.output is None else args.output)
    if args.labels is None:
        _check_is_new(parser, output)
    inputs = [_checked_path(parser, "INPUT", path) for path in _input_paths(args.input)]
    _check_reach(parser, args.runner, "INPUT", inputs)
    chosen = {name: value for name, value in vars(args).items() if value is not None}
    default = vars(build_parser().parse_args([]))
    return LabelsSettings(
        recipe=_recipe(parser, argparse.Namespace(**default | chosen), inputs),
        given=tuple(_given_options(parser, "input", args)),
        check=args.labels is not None,
        output=output,
        verbose=args.verbose,
        beam_args=_with_runner(args.runner, beam_args),
    )


def _given_options(parser: argparse.ArgumentParser, group: str, args: argparse.Namespace) -> Iterator[str]:
    """Yields the options of a group of the parser that are not as by default."""
    for action in actions_of(parser, group):
        value = getattr(args, action.dest)
        if value != action.default:
            yield action.option_strings[0] if value is True else f"{action.option_strings[0]}={value}"


def _check_is_new(parser: argparse.ArgumentParser, output: str) -> None:
    if output.startswith("gs://"):
        parser.error(f"--output={output}: label files are local: give a local path")
    if os.path.lexists(output):
        parser.error(f"{output} exists: give another file with --output, or check it with --labels={output}")
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        parser.error(f"--output={output}: the folder {folder} does not exist")


def _input_paths(text: str) -> list[str]:
    return input_paths(os.path.expanduser(text))


def _checked_path(parser: argparse.ArgumentParser, option: str, text: str) -> str:
    """`_path(text)`; exits with a message if the path can't be read or written."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text)
    shown = f"{option}={text}" if option.startswith("-") else f"{option} {text}"
    if not text:
        parser.error(f"{option}: a path is empty; commas separate the paths of --input")
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        parser.error(f"{option}: the path {text!r} is not UTF-8: rename it")
    if text.startswith("gs:") and re.search(r"[\r\n]", text):
        parser.error(f"{option}: the path {text!r} has a line break, which no object of a bucket may have")
    if text.startswith("file:"):
        parser.error(f"{shown}: give the plain path, {text.removeprefix('file:').removeprefix('//')}")
    if text.startswith("gs:/") and (rule := broken_by_bucket(text)):
        parser.error(f"{shown} is not a path in a bucket, gs://BUCKET/FOLDER: {rule}")
    if scheme and scheme[1] != "gs":
        parser.error(f"{shown}: {scheme[1]}: is not supported; give a local path, or gs://BUCKET/FOLDER")
    return _path(text)


def _path(text: str) -> str:
    """The path with ~ expanded, which shells don't do in `--output=~/x`, and without a trailing slash."""
    return os.path.expanduser(text).rstrip("/") or "/"


def _with_runner(runner: str, beam_args: Sequence[str]) -> tuple[str, ...]:
    return (f"--runner={runner}", *beam_args)


def _check_reach(parser: argparse.ArgumentParser, runner: str, option: str, paths: Sequence[str]) -> None:
    """Exits with a message if the runner's workers can't reach one of `paths`."""
    row = runners.runner_of(runner)
    for path in paths:
        if row.buckets_only and not path.startswith("gs://"):
            limit = f"{row.title}'s workers can't reach {path}"
            parser.error(f"{option}: {limit}: give a path in a bucket, gs://BUCKET/FOLDER")
