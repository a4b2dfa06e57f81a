"""Reads a data set as its manifest describes it. The order of examples is a function of (seed, epoch, position)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest, Shard
from trainer.data.augment import Operation
from trainer.data.manifest import DatasetError, check_size, no_dataset, read_local, shards_of
from trainer.errors import refusal

CYCLE = 8  # shards that are read at a time
_BATCHES_AHEAD = 2  # AUTOTUNE would hold ten and more: no faster, and pictures out of the processor's cache
_MIB = 2**20
_RESTORE = "Restore the file, or train without them: --on_corrupt=skip"
# What a record whose checksum or content is wrong ends a run with; the latter other faults do, too.
READ_ERRORS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError)

_Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Split:
    """The shards of one split that this input pipeline reads, and what of them is good."""

    folder: str
    manifest: Manifest
    shards: tuple[Shard, ...]
    corrupt: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        return sum(shard.examples for shard in self.shards)

    @property
    def example_bytes(self) -> float:
        return sum(shard.bytes for shard in self.shards) / max(1, self.examples)

    @property
    def is_remote(self) -> bool:
        """Whether reads are answered late, so that shards are to be read ahead, several at once. Of files at hand that
        makes reading slower: records wait in memory for their turn, and leave the processor's cache.
        """
        return "://" in self.folder or self.folder.startswith("/gcs/")  # where Vertex AI mounts buckets

    def paths(self) -> list[str]:
        return [f"{self.folder}/{shard.file}" for shard in self.shards]


def read_manifest(folder: str) -> Manifest:
    """Raises DatasetError where there is no finished data set, ManifestError where it is of another version."""
    if "://" not in folder:
        return read_local(folder)
    path = f"{folder}/{contract.FILE_NAME}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return Manifest.from_json(file.read(), path)
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError) as error:  # the latter: a part is a file
        if isinstance(error, tf.errors.FailedPreconditionError) and refusal(error):
            raise  # nothing answers
        raise no_dataset(folder, is_there=True) from error  # buckets have no empty folders


def open_split(folder: str, split: str) -> Split:
    """The whole split, its files checked to be there with the bytes that the manifest says."""
    found = read_manifest(folder)
    opened = Split(folder, found, shards_of(found, folder, split))
    for path, shard in zip(opened.paths(), opened.shards, strict=True):
        _check_file(path, shard)
    return opened


def check_framing(split: Split) -> None:
    """By the headers of the records: TensorFlow believes a record's length, and would die of a huge one. Not where
    every look at a file costs a request.

    Raises:
      DatasetError: a shard has another number of records than the manifest says, or a header is damaged.
    """
    if split.is_remote:
        return
    for path, shard in zip(split.paths(), split.shards, strict=True):
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                found = tfrecord.count_records(file, shard.bytes, shard.file)
        except tfrecord.CorruptRecordError as error:
            raise DatasetError(f"{split.folder}: {error}. {_RESTORE}") from error
        if found != shard.examples:
            raise DatasetError(
                f"{path} has {found:,} records, and {contract.FILE_NAME} says {shard.examples:,}: restore it (sha256 "
                f"{shard.sha256}), or build the data set again"
            )


def open_dataset(folder: str, split: str) -> tf.data.Dataset:
    """The examples in stored order: `image` float32[H, W, 3], normalized; `mask` uint8[H, W]; `filename`.

    Shapes are static where the manifest has one size, and the cardinality is exact.
    """
    opened = open_split(folder, split)
    records = tf.data.TFRecordDataset(opened.paths())
    parse = parser(opened.manifest)
    dataset = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(opened.examples)).prefetch(tf.data.AUTOTUNE)


def parser(manifest: Manifest) -> _Parse:
    """Serialized -> `image` float32, normalized whatever the encoding; `mask` uint8; `filename`."""
    pixels = manifest.pixels
    shift, factor = manifest.moments.normalization.shift_and_factor()

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = record.parse(
            serialized,
            image_format=pixels.image_format,
            mask_format=pixels.mask_format,
            height=pixels.height,
            width=pixels.width,
        )
        image = tf.cast(example["image"], tf.float32)
        return example | {"image": image if pixels.normalized else normalized(image)}

    def normalized(image: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        # Three numbers are repeated for a whole row, which is much faster.
        rows = tf.reshape(image, [shape[0], -1]) - tf.tile(shift, shape[1:2])
        return tf.reshape(rows * tf.tile(factor, shape[1:2]), shape)

    return parse


def share_of(split: Split, pipelines: int, index: int) -> Split:
    """The shards that input pipeline `index` of `pipelines` reads: whole files, spread by size.

    Raises:
      DatasetError: there are fewer shards than pipelines.
    """
    if pipelines == 1:
        return split
    if len(split.shards) < pipelines:
        raise DatasetError(
            f"{split.folder} has {len(split.shards)} shards for {pipelines} hosts: "
            "build it with a smaller --shard_size_mb, or with --shards"
        )
    loads, shares = [0] * pipelines, [[] for _ in range(pipelines)]  # type: tuple[list[int], list[list[Shard]]]
    for shard in sorted(split.shards, key=lambda shard: (-shard.examples, shard.file)):
        lightest = loads.index(min(loads))
        loads[lightest] += shard.examples
        shares[lightest].append(shard)
    mine = sorted(shares[index], key=lambda shard: shard.file)
    return Split(split.folder, split.manifest, tuple(mine), split.corrupt)


def steps_of_epoch(split: Split, pipelines: int, pipeline_batch: int) -> int:
    """Batches in which every pipeline comes to the end of its share."""
    most = max(share_of(split, pipelines, index).examples for index in range(pipelines))
    return -(-most // pipeline_batch)


def without_corrupt(split: Split) -> Split:
    """Reads all shards through. -> the split with only its good records, and in `corrupt` what was wrong with the
    others. A bad record ends its shard: what follows can't be found for sure.

    Raises:
      DatasetError: no record is good.
    """
    good = _read_through(split)
    if not good.shards:
        raise DatasetError(f"{split.folder}: no shard has a good record: {good.corrupt[0]}; restore the files")
    return good


def _read_through(split: Split) -> Split:
    shards, messages = [], []
    parse = tf.function(parser(split.manifest), input_signature=[tf.TensorSpec([], tf.string)])
    for path, shard in zip(split.paths(), split.shards, strict=True):
        count = 0
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                for serialized in tfrecord.read_records(file, shard.file):
                    _check_record(serialized, split.manifest, parse, f"{shard.file}: record {count}")
                    count += 1
        except tfrecord.CorruptRecordError as error:
            messages.append(f"{error}; {shard.examples - count} records of {shard.file} can't be read")
        if count:
            shards.append(Shard(file=shard.file, examples=count, bytes=shard.bytes, sha256=shard.sha256))
    return Split(split.folder, split.manifest, tuple(shards), tuple(messages))


def _check_record(serialized: bytes, manifest: Manifest, parse: _Parse, where: str) -> None:
    """Raises CorruptRecordError where the content can't be read as the manifest says, though its checksum is right."""
    pixels = manifest.pixels
    try:
        found = record.decode(serialized)
        record.check(found)
        for name in ("image_format", "mask_format", "height", "width"):
            wanted = getattr(pixels, name)
            if wanted not in (None, getattr(found, name)):
                raise record.RecordError(f"{name} is {getattr(found, name)!r}, and the manifest says {wanted!r}")
        if "png" in (pixels.image_format, pixels.mask_format):  # of raw pixels all is known by now
            parse(tf.constant(serialized))
    except record.RecordError as error:
        raise tfrecord.CorruptRecordError(f"{where}: {error}") from error
    except tf.errors.InvalidArgumentError as error:
        raise tfrecord.CorruptRecordError(f"{where}: a PNG can't be decoded: {_first_sentence(error)}") from error


def _first_sentence(error: tf.errors.OpError) -> str:
    """TensorFlow's own words, without the place in its graph."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", (error.message.splitlines() or [""])[0]).strip()


def diagnosis(error: tf.errors.OpError, *splits: Split) -> DatasetError | None:
    """What of the shards stopped a run with `error`, found by reading them through; None where it was not the data."""
    for split in splits:
        corrupt = _read_through(split).corrupt
        if corrupt:
            return DatasetError(f"{split.folder}: {corrupt[0]}. {_RESTORE}")
    if not isinstance(error, tf.errors.DataLossError):
        return None
    return DatasetError(f"{splits[0].folder}: reading failed, but every record passes its checksum now; start again")


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

    An epoch has `steps` batches and holds every example once; what is over is filled with pictures whose masks are
    all ignored, so that a batch always has its size and a filling counts for nothing.
    """
    order = _Order(split, seed, batch * steps, shuffle_mib)
    is_small = split.examples * split.example_bytes <= cache_mib * _MIB
    leaf, fetch = _cached(split) if is_small else (_streamed_leaf(split), tf.identity)
    parse = parser(split.manifest)

    def load(epoch: tf.Tensor, position: tf.Tensor, drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(fetch(drawn))
        filling = tf.cast(position >= split.examples, tf.uint8) * IGNORE
        image, mask = example["image"], tf.maximum(example["mask"], filling)
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
    # Else several hosts would ask each other before every batch whether there is one more.
    endless = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return endless.prefetch(_BATCHES_AHEAD)


def example_seed(seed: int, epoch: tf.Tensor, filename: tf.Tensor) -> tf.Tensor:
    """int64[2]: what augmentation draws from for an example in an epoch, wherever and when it is read."""
    identity = tf.strings.to_hash_bucket_fast(filename, np.iinfo(np.int64).max)
    return tf.stack([epoch * 1_000_003 + seed, identity])


def evaluation_batches(split: Split, batch: int, batches: int | None = None) -> tf.data.Dataset:
    """Every example once, in stored order: {image, mask, filename, position}; what is missing in the last batch, or
    to the number of `batches`, is filled with ignored repeats whose position is -1. Pictures of several sizes need a
    batch of 1.
    """
    parse = parser(split.manifest)
    needed = -(-split.examples // batch)
    rest = max(needed, batches or 0) * batch - split.examples
    records = _stored_records(split)
    filling = records.take(1).repeat(rest).map(lambda serialized: (tf.constant(-1, tf.int64), serialized))
    numbered = records.enumerate().concatenate(filling)

    def load(position: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized)
        mask = tf.maximum(example["mask"], tf.cast(position < 0, tf.uint8) * IGNORE)
        return example | {"mask": mask, "position": position}

    loaded = numbered.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return loaded.batch(batch, drop_remainder=True).prefetch(_BATCHES_AHEAD)


def files_of_batch(
    split: Split, *, seed: int, batch: int, steps: int, at: tuple[int, int], shuffle_mib: float
) -> list[str]:
    """The shards that the examples of the batch at (epoch, step) `at` came from."""
    order = _Order(split, seed, batch * steps, shuffle_mib)
    epochs = tf.data.Dataset.range(at[0], at[0] + 1)
    numbers = epochs.flat_map(
        lambda epoch: order.epoch(epoch, lambda file, count: tf.data.Dataset.from_tensors(file).repeat(count))
    )
    files = numbers.skip(at[1] * batch).take(batch).as_numpy_iterator()
    return sorted({split.shards[int(file)].file for file in files})


_Leaf = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]  # number of the file, its examples -> these, in their order
_Fetch = Callable[[tf.Tensor], tf.Tensor]  # what a leaf holds -> the serialized record


@dataclass(frozen=True)
class _Order:
    """Shards in random order, several read in turn, and a shuffle buffer over them: all seeded by the epoch."""

    split: Split
    seed: int
    length: int
    shuffle_mib: float

    def epoch(self, epoch: tf.Tensor, leaf: _Leaf) -> tf.data.Dataset:
        """`length` elements: the split's examples, then fillings from its first shard. To be called in `flat_map`."""
        tf.random.set_seed(1)  # of the traced function, else `shuffle` would mix in the program's global seed
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
        filling = leaf(tf.constant(0, tf.int64), counts[0]).repeat()
        return examples.concatenate(filling).take(self.length)


def _streamed_leaf(split: Split) -> _Leaf:
    """Serialized records, read when they are asked for."""
    paths, buffer = tf.constant(split.paths()), 4 * _MIB if split.is_remote else 0
    return lambda file, count: tf.data.TFRecordDataset(paths[file], buffer_size=buffer).take(count)


def _stored_records(split: Split) -> tf.data.Dataset:
    """The good records, in stored order."""
    leaf, shards = _streamed_leaf(split), split.shards
    counts = tf.constant([shard.examples for shard in shards], tf.int64)
    return tf.data.Dataset.range(len(shards)).flat_map(lambda file: leaf(file, counts[file]))


def _cached(split: Split) -> tuple[_Leaf, _Fetch]:
    """All serialized records in memory, once; what is put in order, and shuffled, is their numbers."""
    # A string tensor of 128 elements or fewer would be copied into the graph, which may not have more than 2 GiB.
    unused = tf.data.Dataset.from_tensors(b"").repeat(128)
    records = next(iter(_stored_records(split).concatenate(unused).batch(split.examples + 128)))
    counts = [shard.examples for shard in split.shards]
    first = tf.constant([sum(counts[:file]) for file in range(len(counts))], tf.int64)
    return lambda file, count: tf.data.Dataset.range(first[file], first[file] + count), lambda number: records[number]


def _check_file(path: str, shard: Shard) -> None:
    try:
        size = tf.io.gfile.stat(path).length
    except tf.errors.NotFoundError:
        size = None
    check_size(path, shard, size)
