"""How fast training is with data from shards, as a ratio to the same updates on one batch in memory; prints a table.

    python tests/benchmarks/train.py --rounds 3
    python tests/benchmarks/train.py --image_size 256x512 --models u2netp deeplabv3plus --precision mixed_bfloat16

The pipeline builds the embedded scenes. For each model four ways take turns in every round:
  shards    the trainer's own updates on batches from the shards: read, shuffled and augmented
  constant  the same updates on one batch that stays in memory
  fit       keras.Model.fit on batches from the same shards, with the same loss, optimizer and augmentation
  bare      the model's forward and backward pass alone on that batch: no optimizer, no scores, no loop
What fit does not do: confusion counts of the predictions, a check that gradients are finite, sums over accumulated
batches. Neither way writes checkpoints or validates. Fit sets its iterator up in each round, and a first batch that
warms up is not counted.
Figures are medians over the rounds, in updates per second; a ratio is of two ways in the same round.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from trainer import models
from trainer.data.augment import AUGMENTATIONS, Target, make_augment
from trainer.data.batches import Epochs, training_batches
from trainer.data.dataset import Split, open_split
from trainer.data.training_set import TrainingSet
from trainer.objective.losses import SegmentationLoss, mean_loss
from trainer.objective.optimizers import build_optimizer
from trainer.training.devices import Batches, devices, make_strategy
from trainer.training.learner import Learner
from trainer.training.steps import TrainSteps

PROJECT = Path(__file__).parent.parent.parent
AUGMENTED = {row.option.name: row.option.default for row in AUGMENTATIONS}  # as a run does by itself
OPTIONS: dict[str, dict[str, Any]] = {"u2netp": {}, "u2net": {}, "deeplabv3plus": {"backbone": "xception65"}}
RATIOS = (("shards", "constant"), ("shards", "fit"), ("constant", "bare"))


def main() -> None:
    args = parse()
    keras.config.set_dtype_policy(args.precision)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        split = build(Path(scratch), args)
        print(f"{devices()[0].name}, TensorFlow {tf.__version__}, {args.image_size}, batches of {args.batch}")
        print(
            "model | shards, updates/s | constant | fit | bare | "
            + " | ".join(f"{way} / {other}" for way, other in RATIOS)
        )
        for name in args.models:
            rounds = measure(name, split, args)
            speeds = [f"{statistics.median(each[way] for each in rounds):.3f}" for way in rounds[0]]
            print(" | ".join([name, *speeds, *(ratio(rounds, *pair) for pair in RATIOS)]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="updates of each way in a round")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image_size", default="64x128")
    parser.add_argument("--image_encoding", default="float32")
    parser.add_argument("--models", nargs="+", default=["u2netp", "deeplabv3plus"], choices=OPTIONS)
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16", "mixed_float16"])
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    return parser.parse_args()


def build(scratch: Path, args: argparse.Namespace) -> Split:
    command = [sys.executable, "-m", "beam_pipelines.build", f"--output={scratch / 'scenes'}"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={args.image_encoding}"]
    subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return open_split(str(scratch / "scenes"), "train")


def measure(name: str, split: Split, args: argparse.Namespace) -> list[dict[str, float]]:
    """Updates per second of each way, in each round but the first, which compiles."""
    strategy = make_strategy("one")
    shards = batches_of(split, args)
    batch = next(iter(shards))
    constant = tf.data.Dataset.from_tensors(batch).repeat()
    with strategy.scope():
        learner = new_learner(name, split, args.precision)
        batches = Batches(replicas=1, per_replica=args.batch)
        pixels = int(tf.size(batch["mask"]))
        steps = TrainSteps(learner, SegmentationLoss(), strategy, batches, pixels=pixels)
    ways: dict[str, Callable[[], float]] = {}
    for way, source in {"shards": shards, "constant": constant}.items():
        ways[way] = functools.partial(seconds, functools.partial(steps, iterate(strategy, source), args.steps))
    ways["fit"] = fit(new_learner(name, split, args.precision), shards, args.steps)
    ways["bare"] = functools.partial(seconds, bare(learner.model, batch, args.steps))
    rounds = [{way: args.steps / take() for way, take in ways.items()} for _ in range(args.rounds + 1)]
    return rounds[1:]


def batches_of(split: Split, args: argparse.Namespace) -> tf.data.Dataset:
    """Batches from the shards: read, shuffled and augmented."""
    height, width = map(int, args.image_size.split("x"))
    return training_batches(
        TrainingSet((split,)),
        Epochs(seed=0, batch=args.batch, steps=split.examples // args.batch, shuffle_mib=256),
        start=(0, 0),
        cache_mib=0,
        augment=make_augment(Target((height, width), split.manifest.moments.normalization), AUGMENTED),
    )


def new_learner(name: str, split: Split, precision: str) -> Learner:
    model = models.build(name, num_classes=split.manifest.labels.num_classes, options=OPTIONS[name])
    optimizer = build_optimizer(name="sgd", learning_rate=1e-4)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return Learner(model=model, optimizer=optimizer)


def iterate(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Iterator[Any]:
    return iter(strategy.distribute_datasets_from_function(lambda _: batches))


class Clock(keras.callbacks.Callback):
    """The seconds from the end of the first batch of a `fit` to the end of its last."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self.start = time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.start


def fit(learner: Learner, batches: tf.data.Dataset, steps: int) -> Callable[[], float]:
    """A function that takes updates with `keras.Model.fit` and returns the seconds of `steps` of them."""
    loss, clock = SegmentationLoss(), Clock()
    outputs = models.as_list(learner.model.outputs)

    class Fitted(keras.Model):
        """Keras would call a loss for each output; this one takes all of them at once."""

        def compute_loss(self, x: Any, y: Any, y_pred: Any, *unused: Any, **training: Any) -> tf.Tensor:
            return mean_loss(*loss(y, models.as_list(y_pred)))

    model = Fitted(learner.model.inputs, outputs)
    model.compile(optimizer=learner.optimizer, jit_compile=False)
    pairs = batches.map(lambda batch: (batch["image"], batch["mask"]))

    def take() -> float:
        model.fit(pairs, steps_per_epoch=steps + 1, shuffle=False, verbose=0, callbacks=[clock])
        return clock.seconds

    return take


def bare(model: keras.Model, batch: dict[str, tf.Tensor], steps: int) -> Callable[[], Any]:
    loss = SegmentationLoss()

    @tf.function
    def forward_backward() -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = models.as_list(model(batch["image"], training=True))
            value = mean_loss(*loss(batch["mask"], outputs))
        gradients = tape.gradient(value, [weight.value for weight in model.trainable_variables])
        return tf.add_n([tf.reduce_sum(tf.cast(gradient, tf.float32)) for gradient in gradients])

    return lambda: [float(forward_backward()) for _ in range(steps)]


def seconds(take: Callable[[], Any]) -> float:
    start = time.perf_counter()
    take()
    return time.perf_counter() - start


def ratio(rounds: list[dict[str, float]], way: str, reference: str) -> str:
    ratios = [each[way] / each[reference] for each in rounds]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"


if __name__ == "__main__":
    main()
