"""How fast one core reads as a run does, compared with another checkout of the project in turn; prints a table.

    git worktree add ../before v0.1.0
    python tests/benchmarks/read_against.py --checkout=../before --image_size=1024x2048 --crop_size=512x512

Images per second of CPU time, of the process that reads: other work on the machine counts little. In each round both
checkouts read the same data sets, one after the other, in a process of their own on one core:
  plain      --no-augment
  moved      --random_scale=1,1 --color=0: random crops and flips
  augmented  as a run does by itself: scaled, too, and with other colors
Figures are medians over the rounds; behind a ratio, of the same round, are the least and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
ENCODINGS = ("float32", "float16", "uint8", "png")
WAYS = {"plain": ["--no-augment"], "moved": ["--random_scale=1,1", "--color=0"], "augmented": list[str]()}
BATCH = 8


def main() -> None:
    args = parse()
    if args.folder:
        print(json.dumps({way: speed(args, options) for way, options in WAYS.items()}))
        return
    print(f"{args.image_size}, crops of {args.crop_size or args.image_size}, one core; images per second of CPU time")
    print("encoding | reading | before | after | ratio")
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        for number, encoding in enumerate(args.encodings):
            folder = build(Path(scratch).resolve(), args, encoding, is_first=number == 0)
            rounds = [[child(tree, folder, args) for tree in (args.checkout, PROJECT)] for _ in range(args.rounds)]
            for way in WAYS:
                before, after = ([each[which][way] for each in rounds] for which in (0, 1))
                print(f"{encoding} | {way} | {summary(before, after)}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of the project to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=800, help="images that are read at a time")
    parser.add_argument("--image_size", default="256x512")
    parser.add_argument("--crop_size")
    parser.add_argument("--encodings", nargs="+", default=("float32", "uint8", "png"), choices=ENCODINGS)
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # of a data set: measure it in this process
    return parser.parse_args()


def build(scratch: Path, args: argparse.Namespace, encoding: str, *, is_first: bool) -> Path:
    """The embedded scenes; they are drawn once."""
    command = [sys.executable, "-m", "beam_pipelines.build", f"--output={scratch / encoding}", "--shards=train=8,val=1"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={encoding}"]
    if not is_first:
        command.append(f"--input={scratch / args.encodings[0]}-source")
    subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return scratch / encoding


def child(tree: Path, folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Images per second of each way, as the code in `tree` reads them."""
    command = [sys.executable, __file__, f"--checkout={tree}", f"--folder={folder}", f"--images={args.images}"]
    if args.crop_size:
        command.append(f"--crop_size={args.crop_size}")
    environment = os.environ | {"PYTHONPATH": str(tree.resolve()), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def speed(args: argparse.Namespace, options: list[str]) -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before TensorFlow counts the cores
    import tensorflow as tf
    from rich.console import Console

    from trainer.config import parse_train
    from trainer.training.inputs import open_inputs

    crop = [f"--crop_size={args.crop_size}"] if args.crop_size else []
    places = [f"--dataset={args.folder}", "--val_split=", f"--global_batch={BATCH}", "--shuffle_mib=0"]
    config = parse_train([*places, *crop, *options], {})
    batches = open_inputs(config, tf.distribute.get_strategy(), Console(quiet=True)).batches_from(0)
    assert isinstance(batches, tf.data.Dataset)
    for _ in range(2):  # the first one warms up
        start = time.process_time()
        count = int(batches.take(args.images // BATCH).reduce(0, lambda count, _: count + 1))
    return count * BATCH / (time.process_time() - start)


def summary(before: list[float], after: list[float]) -> str:
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    figures = f"{statistics.median(before):.0f} | {statistics.median(after):.0f}"
    return f"{figures} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    main()
