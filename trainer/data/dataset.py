"""Opens a data set, and divides it between hosts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf

from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.manifest import Manifest, Shard
from trainer.data.manifest import DatasetError, check_size, no_dataset, read_local, shards_of
from trainer.data.records import parser
from trainer.errors import refusal


@dataclass(frozen=True)
class Split:
    """The shards of one split, or of several, that an input pipeline reads.

    Attributes:
      folder: of the data set, local or gs://.
      shards: each with the number of its intact examples.
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
        """Whether reads have a high latency, so that several shards should be read ahead.

        That is slower for local files: waiting records leave the processor's cache.
        """
        return "://" in self.folder or self.folder.startswith("/gcs/")  # Vertex AI mounts buckets there

    def paths(self) -> list[str]:
        return [f"{self.folder}/{shard.file}" for shard in self.shards]


def read_manifest(folder: str) -> Manifest:
    """The manifest in a folder. Raises DatasetError if there is none, ManifestError if it has another version."""
    if "://" not in folder:
        return read_local(folder)
    path = f"{folder}/{contract.FILE_NAME}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return Manifest.from_json(file.read(), path)
    except (
        tf.errors.NotFoundError,
        tf.errors.FailedPreconditionError,
    ) as error:  # the latter: a file in the path
        if isinstance(error, tf.errors.FailedPreconditionError) and refusal(error):
            raise  # the bucket can't be reached
        raise no_dataset(folder, is_there=True) from error  # a bucket has no empty folders


def open_split(folder: str, split: str, option: str = "") -> Split:
    """The whole split, which `option` names, if any does.

    Raises:
      DatasetError: there is no such data set or split, or a shard is missing or has another size.
      ManifestError: the manifest has another version.
    """
    return open_splits(folder, [split], option)


def open_splits(folder: str, splits: Iterable[str], option: str = "") -> Split:
    """Several splits of a data set as one: see `open_split`."""
    found = read_manifest(folder)
    shards = [shard for split in splits for shard in shards_of(found, folder, split, option)]
    opened = Split(folder, found, tuple(shards))
    for path, shard in zip(opened.paths(), opened.shards, strict=True):
        _check_file(path, shard)
    return opened


@tf.autograph.experimental.do_not_convert
def open_dataset(folder: str, split: str) -> tf.data.Dataset:
    """A split for your own training loop, in stored order. `read_manifest(folder)` has the classes.

    Returns:
      A dictionary for each example: `image` float32[H, W, 3], normalized for any encoding; `mask` uint8[H, W], train
      ids and 255 for ignored pixels; `filename`, the key of the pair. Shapes are static if all images have one size.
      The cardinality is exact.

    Raises:
      DatasetError: there is no such data set or split, or a shard is missing or has another size.
      ManifestError: the manifest has another version.
    """
    opened = open_split(folder, split)
    records = tf.data.TFRecordDataset(opened.paths())
    parse = parser(opened.manifest)
    dataset = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(opened.examples)).prefetch(tf.data.AUTOTUNE)


def share_of(split: Split, pipelines: int, index: int) -> Split:
    """The shards that input pipeline `index` of `pipelines` reads: whole files, balanced by their number of examples.

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
    """The number of batches of `pipeline_batch` images until each of `pipelines` has read its share."""
    most = max(share_of(split, pipelines, index).examples for index in range(pipelines))
    return -(-most // pipeline_batch)


def _check_file(path: str, shard: Shard) -> None:
    try:
        size = tf.io.gfile.stat(path).length
    except tf.errors.NotFoundError:
        size = None
    check_size(path, shard, size)
