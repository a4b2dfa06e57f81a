"""The order of examples, a function of seed, epoch and position, and batches in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.data.augment import Operation
from trainer.data.dataset import Split, share_of
from trainer.data.records import parser

CYCLE = 8  # shards that are read at the same time
_BATCHES_AHEAD = 2  # AUTOTUNE would hold ten or more, which is no faster and leaves the processor's cache
_MIB = 2**20


def steps_of_epoch(split: Split, pipelines: int, pipeline_batch: int) -> int:
    """The number of batches of `pipeline_batch` images until each of `pipelines` has read its share."""
    most = max(share_of(split, pipelines, index).examples for index in range(pipelines))
    return -(-most // pipeline_batch)


@tf.autograph.experimental.do_not_convert
def training_batches(
    split: Split,
    *,
    seed: int,
    batch: int,
    steps: int,
    start: tuple[int, int],
    shuffle_mib: float,
    cache_mib: float,
    augment: Operation | None,
) -> tf.data.Dataset:
    """Endless batches {image float32[batch, h, w, 3], mask uint8[batch, h, w]} from (epoch, step) `start` on.

    An epoch has `steps` batches and each example exactly once. The last batches are padded to their size with examples
    whose masks are IGNORE everywhere, so that they have no weight.
    """
    order = _Order(split, seed, batch * steps, shuffle_mib)
    is_small = split.examples * split.example_bytes <= cache_mib * _MIB
    leaf, fetch = _cached(split) if is_small else (_streamed_leaf(split), tf.identity)
    parse = parser(split.manifest)

    def load(epoch: tf.Tensor, position: tf.Tensor, drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(fetch(drawn))
        ignored = tf.cast(position >= split.examples, tf.uint8) * IGNORE  # a padding example
        image, mask = example["image"], tf.maximum(example["mask"], ignored)
        if augment is not None:
            image, mask = augment(image, mask, example_seed(seed, epoch, example["filename"]))
        return {"image": image, "mask": mask}

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        skipped = tf.where(epoch == start[0], tf.cast(start[1] * batch, tf.int64), 0)
        numbered = order.epoch(epoch, leaf).enumerate().skip(skipped)
        return numbered.map(lambda position, drawn: (epoch, position, drawn))

    epochs = tf.data.Dataset.range(start[0], np.iinfo(np.int64).max)
    examples = epochs.flat_map(one_epoch).map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(batch, drop_remainder=True)
    # Otherwise, several hosts would agree before each batch on whether there is one more.
    endless = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return endless.prefetch(_BATCHES_AHEAD)


def example_seed(seed: int, epoch: tf.Tensor, filename: tf.Tensor) -> tf.Tensor:
    """int64[2]: the seed of the augmentation of an example in an epoch; the same on any host and in any order."""
    identity = tf.strings.to_hash_bucket_fast(filename, np.iinfo(np.int64).max)
    return tf.stack([epoch * 1_000_003 + seed, identity])


@tf.autograph.experimental.do_not_convert
def evaluation_batches(split: Split, batch: int, batches: int | None = None) -> tf.data.Dataset:
    """Each example exactly once, in stored order: batches of {image, mask, filename, position}.

    The last batch is padded, and batches are added up to the number `batches`, with repeated examples whose position is
    -1 and whose masks are IGNORE. Images of several sizes need a batch of 1.
    """
    parse = parser(split.manifest)
    needed = -(-split.examples // batch)
    missing = max(needed, batches or 0) * batch - split.examples
    records = _stored_records(split)
    padding = records.take(1).repeat(missing).map(lambda serialized: (tf.constant(-1, tf.int64), serialized))
    numbered = records.enumerate().concatenate(padding)

    def load(position: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized)
        mask = tf.maximum(example["mask"], tf.cast(position < 0, tf.uint8) * IGNORE)
        return example | {"mask": mask, "position": position}

    loaded = numbered.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return loaded.batch(batch, drop_remainder=True).prefetch(_BATCHES_AHEAD)


@tf.autograph.experimental.do_not_convert
def files_of_batch(
    split: Split, *, seed: int, batch: int, steps: int, at: tuple[int, int], shuffle_mib: float
) -> list[str]:
    """The names of the shards with the examples of the batch at (epoch, step) `at`."""
    order = _Order(split, seed, batch * steps, shuffle_mib)
    epochs = tf.data.Dataset.range(at[0], at[0] + 1)
    numbers = epochs.flat_map(
        lambda epoch: order.epoch(epoch, lambda file, count: tf.data.Dataset.from_tensors(file).repeat(count))
    )
    files = numbers.skip(at[1] * batch).take(batch).as_numpy_iterator()
    return sorted({split.shards[int(file)].file for file in files})


_Leaf = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]  # (number of a file, its examples) -> their elements
_Fetch = Callable[[tf.Tensor], tf.Tensor]  # an element of a leaf -> the serialized record


@dataclass(frozen=True)
class _Order:
    """Shards in random order, several of them read in turn, then a shuffle buffer; the epoch determines the seeds."""

    split: Split
    seed: int
    length: int
    shuffle_mib: float

    def epoch(self, epoch: tf.Tensor, leaf: _Leaf) -> tf.data.Dataset:
        """`length` elements: the examples of the split, then padding from its first shard. Call it in `flat_map`."""
        tf.random.set_seed(1)  # in the traced function; else `shuffle` would mix in the global seed of the program
        counts = tf.constant([shard.examples for shard in self.split.shards], tf.int64)
        files = len(self.split.shards)
        seed = tf.constant(self.seed, tf.int64) * 1_000_003 + epoch
        shuffled = tf.data.Dataset.range(files).shuffle(files, seed=seed, reshuffle_each_iteration=False)
        at_once = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True} if self.split.is_remote else {}
        examples = shuffled.interleave(
            lambda file: leaf(file, counts[file]), cycle_length=min(CYCLE, files), block_length=1, **at_once
        )
        buffer = int(self.shuffle_mib * _MIB / max(1.0, self.split.example_bytes))
        if buffer > 1:
            examples = examples.shuffle(min(buffer, self.split.examples), seed=seed, reshuffle_each_iteration=False)
        padding = leaf(tf.constant(0, tf.int64), counts[0]).repeat()
        return examples.concatenate(padding).take(self.length)


def _streamed_leaf(split: Split) -> _Leaf:
    """Serialized records, read from the files in each epoch."""
    paths, buffer = tf.constant(split.paths()), 4 * _MIB if split.is_remote else 0
    return lambda file, count: tf.data.TFRecordDataset(paths[file], buffer_size=buffer).take(count)


def _stored_records(split: Split) -> tf.data.Dataset:
    """The intact records, in stored order."""
    leaf, shards = _streamed_leaf(split), split.shards
    counts = tf.constant([shard.examples for shard in shards], tf.int64)
    return tf.data.Dataset.range(len(shards)).flat_map(lambda file: leaf(file, counts[file]))


def _cached(split: Split) -> tuple[_Leaf, _Fetch]:
    """All serialized records in memory; only their numbers are shuffled."""
    # A string tensor of at most 128 elements would be copied into the graph, which is limited to 2 GiB.
    unused = tf.data.Dataset.from_tensors(b"").repeat(128)
    records = next(iter(_stored_records(split).concatenate(unused).batch(split.examples + 128)))
    counts = [shard.examples for shard in split.shards]
    first = tf.constant([sum(counts[:file]) for file in range(len(counts))], tf.int64)
    return lambda file, count: tf.data.Dataset.range(first[file], first[file] + count), lambda number: records[number]
