"""How long evaluations take beyond their computation; prints a table.

    python tests/benchmarks/evaluate.py --evaluations 20

The pipeline builds the embedded scenes. One evaluator scores a small model on them again and again, as validation does.
  wall   seconds of an evaluation
  CPU    seconds of all threads of this process
  end    seconds from the last batch to the result, in which there is nothing to compute: a stall shows here, however
         busy the machine is
The first evaluation traces the graph, and is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from trainer import models
from trainer.data.dataset import Split, open_split
from trainer.evaluation.evaluator import Evaluator
from trainer.training.devices import make_strategy

PROJECT = Path(__file__).parent.parent.parent
STALL = 0.1  # seconds; without a stall, the end takes a few milliseconds


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        times = measure(build(Path(scratch), args), args)
    print("evaluation | wall, s | CPU, s | end, s")
    for number, (wall, cpu, end) in enumerate(times, 1):
        print(f"{number} | {wall:.2f} | {cpu:.2f} | {end:.3f}")
    walls, _, ends = zip(*times, strict=True)
    print("sorted wall:", " ".join(f"{wall:.2f}" for wall in sorted(walls)))
    print("sorted end:", " ".join(f"{end:.2f}" for end in sorted(ends)))
    print(
        f"{sum(end > STALL for end in ends)} of {len(ends)} stalled for more than {STALL} s, {sum(ends):.1f} s of "
        f"{sum(walls):.1f} s together; median of wall {statistics.median(walls):.2f} s"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image_size", default="32x64")
    parser.add_argument("--strategy", default="auto", choices=["auto", "one", "mirrored"])
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    return parser.parse_args()


def build(scratch: Path, args: argparse.Namespace) -> Split:
    command = [sys.executable, "-m", "beam_pipelines.build", f"--output={scratch / 'scenes'}"]
    subprocess.run([*command, f"--image_size={args.image_size}"], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return open_split(str(scratch / "scenes"), "val")


def measure(split: Split, args: argparse.Namespace) -> list[tuple[float, float, float]]:
    """(wall, CPU, end) of each evaluation but the first, in seconds."""
    strategy = make_strategy(args.strategy)
    with strategy.scope():
        model = models.build("u2netp", num_classes=split.manifest.labels.num_classes, options={})
    evaluator = Evaluator(model, split, batch=args.batch, strategy=strategy)
    return [time_one(evaluator) for _ in range(args.evaluations + 1)][1:]


def time_one(evaluator: Evaluator) -> tuple[float, float, float]:
    batches: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    evaluator(lambda done, images: batches.append(time.perf_counter()))
    end = time.perf_counter()
    return end - start, time.process_time() - cpu, end - batches[-1]


if __name__ == "__main__":
    main()
