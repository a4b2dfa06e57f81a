"""How fast the build is and what it costs, beside another way to build the same pictures; prints JSON.

    python -m tests.benchmarks.build --pairs 512 --source ../shared/data/cityscapes_sample
    python -m tests.benchmarks.build --pairs 128 --against tfds --image_encoding png --price 0.05
    python -m tests.benchmarks.build --against checkout --checkout ../earlier --direct_running_mode=multi_processing
    python -m tests.benchmarks.build --runner=PrismRunner --prism_location=.runners/2.77.0/prism

Every option that it does not know goes to the real command.

The source's pairs (a Cityscapes tree) are linked under new names until there are enough. The real command and the other
way run in every round, each in a process of its own; every second round begins with the other. The other ways:
  bare      the same decoder, resize, histograms, normalization and writing on a pool of threads: no Beam, no staging
            (all images stay in memory between the passes), no receipts
  notebook  the way it is done by hand: Pillow into float arrays, NumPy mean and std, a second decode, one
            tf.io.TFRecordWriter
  tfds      a builder of TensorFlow Datasets, as its users write one: one thread, Pillow, one pass, no normalization
  checkout  the same command from another checkout of this project, in the same environment; its shards must have the
            same bytes

CPU seconds are those of the command and all processes that it starts. Of them the pipeline's are what more pairs add:
each round also builds a few pairs, and what a line through both builds has for none is fixed. Wall seconds of the
pipeline are those that the command prints. A reference counts both from its first picture on. A vCPU second is a second
of a core, whether it computes or not: wall seconds times cores.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beam_pipelines.options import build_parser, positive
from tests.benchmarks import rates, usage
from tests.benchmarks.checkouts import check_code, check_same, environment
from tests.benchmarks.rates import Part, Run
from tests.benchmarks.references import ENCODINGS
from tests.benchmarks.sources import PROJECT, default_source, link_pairs
from tests.support.builds import digests

CORES = len(os.sched_getaffinity(0))
FEW = 4
CHECKOUT = "checkout"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder).resolve()
        source = args.source or default_source(scratch)
        trees = {count: link_pairs(source, scratch / f"pairs{count}", count) for count in (args.pairs, FEW)}
        ours, others = measure(trees, scratch, args)
    print(json.dumps(summary(ours, others, args), indent=2))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--pairs", type=positive(int), default=512)
    parser.add_argument(
        "--source", type=Path, help="a Cityscapes tree (default: the real sample beside the project, else drawn)"
    )
    parser.add_argument("--against", choices=[*ENCODINGS, CHECKOUT], default="bare")
    parser.add_argument("--checkout", type=Path, help="folder of another checkout, for --against checkout")
    parser.add_argument("--rounds", type=positive(int), default=3)
    parser.add_argument("--image_size", default="256x512")
    parser.add_argument("--image_encoding", default="float32", choices=["float32", "float16", "uint8", "png"])
    parser.add_argument("--runner", default="DirectRunner")
    parser.add_argument(
        "--price", type=positive(float), help="dollars for an hour of a vCPU: also prints what images cost"
    )
    parser.add_argument("--scratch", type=Path, help="where to write (default: the system's temporary folder)")
    args, beam_args = parser.parse_known_args(argv)
    args.beam_args = beam_args
    if problem := misspelt(beam_args, [*parser._option_string_actions]) or problem_with(args):
        parser.error(problem)
    return args


def misspelt(others: Sequence[str], own: Sequence[str]) -> str | None:
    """An option that the command does not have either, and that is nearly one of our `own`."""
    known = build_parser()._option_string_actions
    for name in (each.partition("=")[0] for each in others if each.startswith("--")):
        if name not in known and (near := difflib.get_close_matches(name, own, n=1, cutoff=0.8)):
            return f"unknown option {name}; did you mean {near[0]}?"
    return None


def problem_with(args: argparse.Namespace) -> str | None:
    if args.pairs <= FEW or args.rounds < 1:
        return f"--pairs {args.pairs} --rounds {args.rounds}: it takes {FEW + 1} pairs and a round to measure"
    if (args.against == CHECKOUT) != bool(args.checkout):
        return "--against checkout and --checkout=DIR need each other"
    encodings = ENCODINGS.get(args.against)
    if encodings and args.image_encoding not in encodings:
        return (
            f"--against {args.against} has no {args.image_encoding}; choose --image_encoding {' or '.join(encodings)}"
        )
    if encodings and not re.fullmatch(r"\d+x\d+", args.image_size):
        return f"--against {args.against} has no --image_size {args.image_size}; choose HEIGHTxWIDTH"
    if args.against == "tfds" and not importlib.util.find_spec("tensorflow_datasets"):
        return "--against tfds needs tensorflow-datasets, which is not installed: pip install -e '.[dev]'"
    return None


def measure(trees: Mapping[int, Path], scratch: Path, args: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """Our runs and the other's, one of each for every round.

    Raises:
      SystemExit: a command failed, or the other checkout builds other bytes.
    """
    ours: Callable[[], Run] = functools.partial(measure_build, PROJECT, trees, scratch, args)
    other: Callable[[], Run] = functools.partial(measure_reference, trees[args.pairs], scratch, args)
    if args.against == CHECKOUT:
        other = functools.partial(measure_build, args.checkout, trees, scratch, args)
    warm_up(trees[FEW], scratch, args)
    found: dict[Callable[[], Run], list[Run]] = {ours: [], other: []}
    for number in range(args.rounds):
        for way in (ours, other) if number % 2 == 0 else (other, ours):
            found[way].append(way())
        if args.against == CHECKOUT:
            check_same(found[ours][-1].shards, found[other][-1].shards, args.checkout)
    return found[ours], found[other]


def warm_up(few: Path, scratch: Path, args: argparse.Namespace) -> None:
    """Builds a few pairs: a fresh checkout has no compiled modules yet, and other bytes are told before hours go by."""
    check_code(PROJECT)
    built = build(PROJECT, few, scratch, args)
    if args.against == CHECKOUT:
        check_code(args.checkout)
        check_same(built.shards, build(args.checkout, few, scratch, args).shards, args.checkout)


@dataclass(frozen=True)
class Built:
    """One build, whose data set is deleted again."""

    usage: usage.Usage
    pipeline_seconds: float
    megabytes: float
    shards: dict[str, str]  # file -> SHA-256


def measure_build(checkout: Path, trees: Mapping[int, Path], scratch: Path, args: argparse.Namespace) -> Run:
    few = build(checkout, trees[FEW], scratch, args).usage
    built = build(checkout, trees[args.pairs], scratch, args)
    whole = Part(built.usage.seconds, built.usage.cpu_seconds)
    fixed = rates.fixed_cpu_seconds(args.pairs, whole.cpu_seconds, FEW, few.cpu_seconds)
    figures = built.usage.memory | {
        "transform_fn_cpu_seconds": built.usage.transform_fn_cpu_seconds,
        "dataset_mb": built.megabytes,
    }
    return Run(whole, Part(built.pipeline_seconds, whole.cpu_seconds - fixed), figures, built.shards)


def build(checkout: Path, source: Path, scratch: Path, args: argparse.Namespace) -> Built:
    """The real command; its closing lines say how long the pipeline took."""
    output = scratch / "built"
    command = [sys.executable, "-m", "beam_pipelines.build", f"--input={source}", f"--output={output}"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={args.image_encoding}", f"--runner={args.runner}"]
    used = usage.run([*command, *args.beam_args], checkout, environment(checkout))
    took = re.search(r"of which the pipeline ([\d.]+) s", used.printed)
    if took is None:
        raise SystemExit(f"{checkout}: the build does not say how long its pipeline took:\n{used.printed}")
    megabytes = sum(path.stat().st_size for path in output.glob("*.tfrecord")) / 1e6
    built = Built(used, float(took[1]), megabytes, digests(output))
    shutil.rmtree(output)
    return built


def measure_reference(source: Path, scratch: Path, args: argparse.Namespace) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.references", args.against]
    command += [f"--source={source}", f"--scratch={scratch}"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={args.image_encoding}"]
    used = usage.run(command, PROJECT, environment(PROJECT))
    return Run(
        Part(used.seconds, used.cpu_seconds), Part(**json.loads(used.printed.splitlines()[-1])), dict(used.memory)
    )


def summary(ours: list[Run], others: list[Run], args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds; ratios are of two ways in the same round."""
    parts = {name: [[getattr(run, name) for run in runs] for runs in (ours, others)] for name in ("pipeline", "whole")}
    found = {
        "pairs": args.pairs,
        "image_size": args.image_size,
        "image_encoding": args.image_encoding,
        "runner": args.runner,
        "options": args.beam_args,
        "cores": CORES,
        "against": str(args.checkout) if args.against == CHECKOUT else args.against,
        "ratio": {name: rates.ratios(own, other) for name, (own, other) in parts.items()},
        "build": rates.described(ours, args.pairs, CORES),
        "other": rates.described(others, args.pairs, CORES),
    }
    if args.against == CHECKOUT:
        found["shards"] = "the same bytes in all rounds"
    if args.price is not None:
        found["cost"] = {
            "dollars": f"vCPU seconds (wall seconds x {CORES} cores) / 3600 x {args.price} for an hour of a vCPU",
            "build": rates.cost(ours, args.pairs, CORES, args.price),
            "other": rates.cost(others, args.pairs, CORES, args.price),
        }
    return found


if __name__ == "__main__":
    main()
