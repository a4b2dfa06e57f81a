"""A data set as its manifest describes it: opened, and shared between hosts."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.manifest import Manifest, Shard
from trainer.data.manifest import DatasetError, check_size, no_dataset, read_local, shards_of
from trainer.data.records import parser
from trainer.errors import refusal


@dataclass(frozen=True)
class Split:
    """The shards of one split that this input pipeline reads, and their good records.

    Attributes:
      shards: with the number of good examples in each.
      corrupt: a sentence for each shard with a damaged record.
    """

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
        """Whether reads have a high latency, so that several shards are read ahead. For local files that is slower:
        records wait in memory for their turn, and leave the processor's cache.
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


def open_dataset(folder: str, split: str) -> tf.data.Dataset:
    """A split for training loops of your own: a dictionary for each example, in stored order.

    `image` is float32[H, W, 3], normalized whatever the encoding; `mask` uint8[H, W], train ids and 255 for ignored
    pixels; `filename` the key of the pair. Shapes are static where the manifest has one size, and the cardinality is
    exact. `read_manifest(folder)` has the classes.

    Raises:
      DatasetError: there is no such data set or split, or a file is not as the manifest says.
      ManifestError: the data set is of another version.
    """
    opened = open_split(folder, split)
    records = tf.data.TFRecordDataset(opened.paths())
    parse = parser(opened.manifest)
    dataset = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(opened.examples)).prefetch(tf.data.AUTOTUNE)


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


def _check_file(path: str, shard: Shard) -> None:
    try:
        size = tf.io.gfile.stat(path).length
    except tf.errors.NotFoundError:
        size = None
    check_size(path, shard, size)
