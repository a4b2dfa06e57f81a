"""How fast the trainer reads, as a ratio to the bare limit in the same run; prints a table.

    python tests/benchmarks/read.py --rounds 5
    python tests/benchmarks/read.py --encodings float32 --shuffle_mib 64

The pipeline builds the embedded scenes in every encoding. An epoch reads its train shards `--repeat` times, so that
every way of reading finds them in the page cache. In each round all ways take a whole epoch, one after the other:
  bare 1, bare 8  tf.data.TFRecordDataset over the same files, nothing parsed: one file after the other, and 8 at a time
  streamed        training_batches from the files, without a shuffle buffer
  shuffled        the same with a shuffle buffer
  cached          the same with the records in memory, which is not counted
  augmented       `shuffled` and `cached` with random scale, crop, flip and color
Figures are medians over the rounds. A ratio is of two ways in the same round; behind it the least and the largest.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from trainer.data.augment import AUGMENTATIONS, Target, make_augment
from trainer.data.batches import Epochs, training_batches
from trainer.data.dataset import Split, open_split
from trainer.data.order import CYCLE
from trainer.data.training_set import TrainingSet

PROJECT = Path(__file__).parent.parent.parent
AUGMENTED = {row.option.name: row.option.default for row in AUGMENTATIONS}  # as a run does by itself
ENCODINGS = ("float32", "float16", "uint8", "png")
BARE = ("bare 1", f"bare {CYCLE}")
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    args = parse()
    columns: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        for encoding, folder in build_all(Path(scratch), args).items():
            columns[encoding] = measure(open_split(str(folder), "train"), args)
    print(
        f"{CORES} cores, TensorFlow {tf.__version__}, batches of {args.batch}, {args.image_size}, a shuffle buffer of "
        f"{args.shuffle_mib:.0f} MiB, {args.rounds} rounds; images per second"
    )
    print(" | ".join(["", *columns]))
    for row in next(iter(columns.values())):
        print(" | ".join([row, *(column[row] for column in columns.values())]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shuffle_mib", type=float, default=256)
    parser.add_argument("--image_size", default="256x512")
    parser.add_argument("--encodings", nargs="+", default=ENCODINGS, choices=ENCODINGS)
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    return parser.parse_args()


def build_all(scratch: Path, args: argparse.Namespace) -> dict[str, Path]:
    """The embedded scenes in every encoding; they are drawn once."""
    folders: dict[str, Path] = {}
    for encoding in args.encodings:
        folders[encoding] = scratch / encoding
        command = [sys.executable, "-m", "beam_pipelines.build", f"--output={folders[encoding]}"]
        command += [f"--image_size={args.image_size}", f"--image_encoding={encoding}", f"--shards=train={CYCLE},val=1"]
        if len(folders) > 1:
            command.append(f"--input={scratch / args.encodings[0]}-source")
        subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return folders


def measure(once: Split, args: argparse.Namespace) -> dict[str, str]:
    """The column of one encoding. A round before those that count warms up."""
    split = replace(once, shards=once.shards * args.repeat)
    ways = ways_of_reading(split, args)
    rounds = [{name: speed(dataset, args.batch) for name, dataset in ways.items()} for _ in range(args.rounds + 1)]
    return {"MB per image": f"{split.example_bytes / 1e6:.2f}"} | summary(rounds[1:])


def ways_of_reading(split: Split, args: argparse.Namespace) -> dict[str, tf.data.Dataset]:
    """Each gives an epoch, of records or of batches."""
    moments = split.manifest.moments
    pixels = split.manifest.pixels
    assert pixels.height is not None
    assert pixels.width is not None
    augment = make_augment(Target((pixels.height, pixels.width), moments.normalization), AUGMENTED)
    steps = split.examples // args.batch

    def batches(shuffle_mib: float, cache_mib: float, augment: Any = None) -> tf.data.Dataset:
        return training_batches(
            TrainingSet((split,)),
            Epochs(seed=0, batch=args.batch, steps=steps, shuffle_mib=shuffle_mib),
            start=(0, 0),
            cache_mib=cache_mib,
            augment=augment,
        ).take(steps)

    return {
        BARE[0]: tf.data.TFRecordDataset(split.paths()),
        BARE[1]: tf.data.TFRecordDataset(split.paths(), num_parallel_reads=CYCLE),
        "streamed": batches(0, 0),
        "shuffled": batches(args.shuffle_mib, 0),
        "cached": batches(args.shuffle_mib, float("inf")),
        "shuffled, augmented": batches(args.shuffle_mib, 0, augment),
        "cached, augmented": batches(args.shuffle_mib, float("inf"), augment),
    }


def speed(dataset: tf.data.Dataset, batch: int) -> float:
    """Images per second of an epoch; the loop is TensorFlow's own, so that none pays for Python."""
    start = time.perf_counter()
    elements = int(dataset.reduce(0, lambda count, _: count + 1))
    seconds = time.perf_counter() - start
    is_batched = isinstance(dataset.element_spec, dict)
    return elements * (batch if is_batched else 1) / seconds


def summary(rounds: list[dict[str, float]]) -> dict[str, str]:
    """Medians, and the medians, least and largest, of the ratios within a round."""
    found = {name: f"{statistics.median(each[name] for each in rounds):.0f}" for name in rounds[0]}
    for way, bare in itertools.product(("streamed", "shuffled"), BARE):
        ratios = [each[way] / each[bare] for each in rounds]
        found[f"{way} / {bare}"] = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return found


if __name__ == "__main__":
    main()
