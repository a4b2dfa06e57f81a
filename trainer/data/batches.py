"""Batches of a split, in a given order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.normalization import Normalization
from trainer.data.augment import Operation
from trainer.data.dataset import Split
from trainer.data.mixture import alternation
from trainer.data.order import Leaf, Order, files_of
from trainer.data.pipeline import CORES, untuned
from trainer.data.records import lazy_parser, pixel_parser, stored_parser
from trainer.data.training_set import TrainingSet, read_places

_BATCHES_AHEAD = 2  # AUTOTUNE would hold ten or more, which is no faster and leaves the processor's cache
_MIB = 2**20
_ENDLESS = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """How a run goes through its training set.

    Attributes:
      seed: of the order and the augmentation.
      batch: images in a batch.
      steps: batches in an epoch.
      shuffle_mib: size of the shuffle buffer of each data set.
    """

    seed: int
    batch: int
    steps: int
    shuffle_mib: float

    def parts(self, training: TrainingSet) -> list[_Part]:
        """The examples of each data set, and how many of them an epoch has."""
        length = self.batch * self.steps
        counts = training.counts(length)
        is_single = len(training.splits) == 1
        return [
            _Part(
                Order(
                    split,
                    self.seed,
                    length if is_single else split.examples,
                    self.shuffle_mib,
                    read_places(split) if training.is_class_uniform else None,
                ),
                int(count),
            )
            for split, count in zip(training.splits, counts, strict=True)
        ]


@dataclass(frozen=True)
class _Part:
    """The examples of a data set in an epoch: `count`, which go on in its endless `order` where the last epoch ended.

    A single data set has all of an epoch, whose end is padding. Of several, each is passed through again and again,
    without padding, so that an epoch may end within a pass.
    """

    order: Order
    count: int

    def start(self, epoch: int, before: int) -> tuple[int, int]:
        """(pass, position) of the first example after `before` examples of `epoch`."""
        return divmod(epoch * self.count + before, self.order.length)


@tf.autograph.experimental.do_not_convert
def training_batches(
    training: TrainingSet,
    epochs: Epochs,
    *,
    start: tuple[int, int],
    cache_mib: float,
    augment: Operation | None,
    normalized: bool = True,
) -> tf.data.Dataset:
    """Endless batches {image float32[batch, h, w, 3], mask uint8[batch, h, w]} from (epoch, step) `start` on.

    Of a single data set, an epoch has each example exactly once, unless sampling is class-uniform. The last batches are
    padded to their size with examples whose masks are IGNORE everywhere, so that they have no weight. Of several, an
    epoch has the share of each, exactly; unless sampling is class-uniform, each example of a data set is drawn once
    before any is drawn again.

    Args:
      normalized: False leaves normalization to the caller, see `records.normalize`: images are uint8 then, a quarter of
        the bytes. The data sets have to store pixels, and the augmentation has to take them and to pad none.

    Raises:
      ValueError: `normalized` is False, but images are not uint8.
      DatasetError: a data set has no image in an epoch; or sampling is class-uniform, and the index of a shard is
        missing or damaged.
    """
    parts = epochs.parts(training)
    normalization = training.manifest.moments.normalization if normalized else None
    turns = alternation([part.count for part in parts])
    done = np.bincount(turns[: start[1] * epochs.batch], minlength=len(parts))
    streams = [
        _examples(part.order, part.start(start[0], int(before)), normalization, cache_mib, augment)
        for part, before in zip(parts, done, strict=True)
    ]
    examples = streams[0] if len(streams) == 1 else _mixed(streams, turns, start[1] * epochs.batch)
    if not normalized and examples.element_spec["image"].dtype != tf.uint8:
        raise ValueError("the images are not uint8: leave out normalized=False")
    batches = examples.batch(epochs.batch, drop_remainder=True)
    # Otherwise, several hosts would agree before each batch on whether there is one more.
    endless = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return untuned(endless.prefetch(_BATCHES_AHEAD))


def _mixed(streams: list[tf.data.Dataset], turns: np.ndarray, position: int) -> tf.data.Dataset:
    """The examples of the streams, in turn; from `position` of an epoch on."""
    table = tf.constant(turns)
    chosen = tf.data.Dataset.range(position, _ENDLESS).map(lambda at: table[at % len(turns)])
    return tf.data.Dataset.choose_from_datasets(streams, chosen)


def _examples(
    order: Order,
    start: tuple[int, int],
    normalization: Normalization | None,
    cache_mib: float,
    augment: Operation | None,
) -> tf.data.Dataset:
    """Endless {image, mask}, from (epoch, position) `start` on; images as stored if there is no normalization."""
    split, seed = order.split, order.seed
    is_small = split.examples * split.example_bytes <= cache_mib * _MIB
    leaf, fetch = _cached(split) if is_small else (_streamed_leaf(split), tf.identity)
    parse = lazy_parser(split.manifest, normalization) if normalization else stored_parser(split.manifest)

    def load(epoch: tf.Tensor, numbered: tuple[tf.Tensor, tuple[tf.Tensor, ...]]) -> dict[str, tf.Tensor]:
        position, (element, time, focus) = numbered
        example = parse(fetch(element))
        image, mask = example["image"], _ignored_if(position >= split.examples, example["mask"])
        if augment is not None:
            image, mask = augment(image, mask, example_seed(seed, epoch, example["filename"], time), focus)
        return {"image": tf.convert_to_tensor(image), "mask": mask}

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        skipped = tf.where(epoch == start[0], tf.cast(start[1], tf.int64), 0)
        numbered = order.epoch(epoch, leaf).enumerate().skip(skipped)
        return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(epoch).repeat(), numbered))

    epochs = tf.data.Dataset.range(start[0], _ENDLESS)
    return epochs.flat_map(one_epoch).map(load, num_parallel_calls=CORES, deterministic=True)


def example_seed(seed: int, epoch: tf.Tensor, filename: tf.Tensor, time: tf.Tensor | int = 0) -> tf.Tensor:
    """int64[2]: the seed of the augmentation of an example in an epoch; the same on any host and in any order.

    Args:
      time: how often the example was drawn before in this epoch.
    """
    identity = tf.strings.to_hash_bucket_fast(filename, np.iinfo(np.int64).max)
    return tf.stack([epoch * 1_000_003 + seed + tf.cast(time, tf.int64) * 2**48, identity])


@tf.autograph.experimental.do_not_convert
def evaluation_batches(split: Split, batch: int, batches: int | None = None) -> tf.data.Dataset:
    """Each example exactly once, in stored order: batches of {image, mask, filename, position}. Images are the pixels
    before normalization, uint8[batch, H, W, 3], in any encoding of the data set.

    The last batch is padded, and batches are added up to the number `batches`, with repeated examples whose position is
    -1 and whose masks are IGNORE. Images of several sizes need a batch of 1.
    """
    parse = pixel_parser(split.manifest)
    needed = -(-split.examples // batch)
    missing = max(needed, batches or 0) * batch - split.examples
    records = _stored_records(split)
    padding = records.take(1).repeat(missing).map(lambda serialized: (tf.constant(-1, tf.int64), serialized))
    numbered = records.enumerate().concatenate(padding)

    def load(position: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized)
        return example | {"mask": _ignored_if(position < 0, example["mask"]), "position": position}

    loaded = numbered.map(load, num_parallel_calls=CORES, deterministic=True)
    return untuned(loaded.batch(batch, drop_remainder=True).prefetch(_BATCHES_AHEAD))


def _ignored_if(is_padding: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mask of a padding example is IGNORE everywhere; any other one is not even copied."""
    ignored_or_mask: tf.Tensor = tf.cond(is_padding, lambda: tf.ones_like(mask) * IGNORE, lambda: mask)
    return ignored_or_mask


def files_of_batch(training: TrainingSet, epochs: Epochs, at: tuple[int, int]) -> list[str]:
    """The paths, from the folder of each data set on, of the shards with the examples of the batch at (epoch, step)."""
    epoch, step = at
    parts = epochs.parts(training)
    turns = alternation([part.count for part in parts])
    done, after = (np.bincount(turns[: end * epochs.batch], minlength=len(parts)) for end in (step, step + 1))
    found: set[str] = set()
    for part, first, last in zip(parts, done, after, strict=True):
        folder = f"{part.order.split.folder}/" if len(parts) > 1 else ""
        files = files_of(part.order, start=part.start(epoch, int(first)), count=int(last - first))
        found.update(f"{folder}{file}" for file in files)
    return sorted(found)


_Fetch = Callable[[tf.Tensor], tf.Tensor]  # an element of a leaf -> the serialized record


def _streamed_leaf(split: Split) -> Leaf:
    """Serialized records, read from the files in each epoch."""
    paths, buffer = tf.constant(split.paths()), 4 * _MIB if split.is_remote else 0
    return lambda file, count: tf.data.TFRecordDataset(paths[file], buffer_size=buffer).take(count)


def _stored_records(split: Split) -> tf.data.Dataset:
    """The intact records, in stored order."""
    leaf, shards = _streamed_leaf(split), split.shards
    counts = tf.constant([shard.examples for shard in shards], tf.int64)
    return tf.data.Dataset.range(len(shards)).flat_map(lambda file: leaf(file, counts[file]))


def _cached(split: Split) -> tuple[Leaf, _Fetch]:
    """All serialized records in memory; only their numbers are shuffled."""
    # A string tensor of at most 128 elements would be copied into the graph, which is limited to 2 GiB.
    unused = tf.data.Dataset.from_tensors(b"").repeat(128)
    batches = _stored_records(split).concatenate(unused).batch(split.examples + 128)
    records = next(iter(untuned(batches)))
    counts = [shard.examples for shard in split.shards]
    first = tf.constant([sum(counts[:file]) for file in range(len(counts))], tf.int64)
    return lambda file, count: tf.data.Dataset.range(first[file], first[file] + count), lambda number: records[number]
