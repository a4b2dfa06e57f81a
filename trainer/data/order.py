"""The order in which the examples of a split are drawn, a function of seed, epoch and position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainer.data.dataset import Split
from trainer.data.pipeline import untuned
from trainer.data.sampling import ClassPlaces, draw

CYCLE = 8  # shards that are read at the same time
_MIB = 2**20

Leaf = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]  # (number of a file, its examples) -> their elements


@dataclass(frozen=True)
class Order:
    """Shards in random order, several of them read in turn, then a shuffle buffer; the epoch determines the seeds.

    Attributes:
      length: elements of an epoch. Those after the examples of the split are padding, from its first shard.
      shuffle_mib: size of the shuffle buffer.
      places: for class-uniform sampling; None if each example is drawn once.
    """

    split: Split
    seed: int
    length: int
    shuffle_mib: float
    places: ClassPlaces | None = None

    def epoch(self, epoch: tf.Tensor, leaf: Leaf) -> tf.data.Dataset:
        """`length` tuples (element of `leaf`, int64 how often it was drawn before in this epoch, float32[2] focus of
        the crop). Call it in `flat_map`.
        """
        tf.random.set_seed(1)  # in the traced function; else `shuffle` would mix in the global seed of the program
        counts = tf.constant([shard.examples for shard in self.split.shards], tf.int64)
        files = len(self.split.shards)
        seed = tf.constant(self.seed, tf.int64) * 1_000_003 + epoch
        shuffled = tf.data.Dataset.range(files).shuffle(files, seed=seed, reshuffle_each_iteration=False)
        cycle = min(CYCLE, files)
        at_once = {"num_parallel_calls": cycle, "deterministic": True} if self.split.is_remote else {}
        drawn = self._drawn(epoch, leaf)
        examples = shuffled.interleave(
            lambda file: drawn(file, counts[file]), cycle_length=cycle, block_length=1, **at_once
        )
        buffer = int(self.shuffle_mib * _MIB / max(1.0, self.split.example_bytes))
        if buffer > 1:
            examples = examples.shuffle(min(buffer, self.split.examples), seed=seed, reshuffle_each_iteration=False)
        padding = _once(leaf(tf.constant(0, tf.int64), counts[0])).repeat()
        return examples.concatenate(padding).take(self.length)

    def _drawn(self, epoch: tf.Tensor, leaf: Leaf) -> Leaf:
        """The elements of a file that this epoch draws, each as often as it does."""
        if self.places is None:
            return lambda file, count: _once(leaf(file, count))
        counts, first, focus = self._draws(epoch)
        before = tf.math.cumsum(tf.constant([shard.examples for shard in self.split.shards], tf.int64), exclusive=True)

        def draws_of(number: tf.Tensor, element: tf.Tensor) -> tf.data.Dataset:
            again = tf.data.Dataset.range(counts[number])
            return again.map(lambda time: (element, time, focus[first[number] + time]))

        def drawn(file: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
            numbered = leaf(file, count).enumerate()
            return numbered.flat_map(lambda index, element: draws_of(before[file] + index, element))

        return drawn

    def _draws(self, epoch: tf.Tensor) -> list[tf.Tensor]:
        """The fields of `Draws`."""
        places = self.places
        assert places is not None

        def of_epoch(number: np.ndarray) -> tuple[np.ndarray, ...]:
            draws = draw(places, self.seed, int(number))
            return draws.counts, draws.first, draws.focus

        found = tf.numpy_function(of_epoch, [epoch], (tf.int64, tf.int64, tf.float32))
        shapes = ([places.examples], [places.examples], [places.examples, 2])
        return [tf.ensure_shape(value, shape) for value, shape in zip(found, shapes, strict=True)]


def _once(elements: tf.data.Dataset) -> tf.data.Dataset:
    # Calling a function for each element, as `map` does, would take much longer than `zip`.
    time = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat()
    focus = tf.data.Dataset.from_tensors(tf.constant([-1.0, -1.0])).repeat()
    return tf.data.Dataset.zip((elements, time, focus))


@tf.autograph.experimental.do_not_convert
def files_of(order: Order, *, start: tuple[int, int], count: int) -> list[str]:
    """The names of the shards with `count` examples of an order from (epoch, position) `start` on."""
    epochs = tf.data.Dataset.range(start[0], 2**62)
    numbers = epochs.flat_map(
        lambda epoch: order.epoch(epoch, lambda file, count: tf.data.Dataset.from_tensors(file).repeat(count))
    )
    files = numbers.map(lambda file, time, focus: file).skip(start[1]).take(count)
    return sorted({order.split.shards[int(file)].file for file in untuned(files).as_numpy_iterator()})
