"""What a run trains on: splits of one data set, or of several with a share for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from beam_pipelines.contract import index
from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.contract.schema import SchemaError
from trainer.data.dataset import Split, share_of, steps_of_epoch
from trainer.data.manifest import DatasetError, check_indexed, check_together
from trainer.data.mixture import apportioned
from trainer.data.sampling import ClassPlaces, class_places


@dataclass(frozen=True)
class TrainingSet:
    """The examples that a run trains on.

    Attributes:
      splits: of each data set, the shards of all its splits to train on. Images of all are normalized by the moments of
        the first.
      mix: the share of each data set in an epoch, with a sum of 1.
      is_class_uniform: whether half of the crops lie around classes that are drawn with equal probability.
    """

    splits: tuple[Split, ...]
    mix: tuple[float, ...] = (1.0,)
    is_class_uniform: bool = False

    @property
    def manifest(self) -> Manifest:
        return self.splits[0].manifest

    @property
    def examples(self) -> int:
        return sum(split.examples for split in self.splits)

    @property
    def has_pixels(self) -> bool:
        """Whether all data sets store pixels before normalization, uint8."""
        return not any(split.manifest.pixels.normalized for split in self.splits)

    def share_of(self, pipelines: int, number: int) -> TrainingSet:
        """What input pipeline `number` of `pipelines` reads. Raises DatasetError: see `dataset.share_of`."""
        return replace(self, splits=tuple(share_of(split, pipelines, number) for split in self.splits))

    def steps_of_epoch(self, pipelines: int, pipeline_batch: int) -> int:
        """The number of batches in an epoch, as `dataset.steps_of_epoch` has it."""
        if len(self.splits) == 1:
            return steps_of_epoch(self.splits[0], pipelines, pipeline_batch)
        most = max(self.share_of(pipelines, number).examples for number in range(pipelines))
        return -(-most // pipeline_batch)

    def counts(self, length: int) -> np.ndarray:
        """int64: the examples of each data set among the `length` of an epoch.

        Raises:
          DatasetError: a data set has none.
        """
        counts = apportioned(self.mix, length)
        if not counts.all():
            folder = self.splits[int(np.argmin(counts))].folder
            raise DatasetError(f"{folder} has no image in an epoch of {length:,}: set a larger share in --mix")
        return counts

    def class_pixels(self, names: Sequence[str]) -> np.ndarray:
        """float64[C]: the pixels of each class that are in the splits `names`, weighted by `mix`.

        If the mix is in proportion to the images, these are the pixels themselves.
        """
        total = np.zeros(self.manifest.labels.num_classes)
        for split, share in zip(self.splits, self.mix, strict=True):
            pixels = np.sum([split.manifest.class_pixels[name] for name in names], axis=0)
            total += pixels * (share * self.examples / split.examples)
        return total


def training_set(splits: Sequence[Split], *, mix: Sequence[float] | None, is_class_uniform: bool) -> TrainingSet:
    """Checks that the data sets can be mixed; their sizes are the caller's.

    Args:
      mix: the share of each; None for shares in proportion to the numbers of examples.

    Raises:
      DatasetError: the classes differ, or there is another number of shares; or sampling is class-uniform, and the
        index of a shard is missing or damaged.
    """
    manifests = {split.folder: split.manifest for split in splits}
    check_together(manifests, is_cropped=True, is_class_uniform=is_class_uniform)
    if mix is not None and len(mix) != len(splits):
        raise DatasetError(f"--mix has {len(mix)} shares for {len(splits)} data sets: set one share for each --dataset")
    if is_class_uniform:  # on each host, before the model is built; each then reads the indexes of its shards
        for split in splits:
            read_places(split)
    examples = sum(split.examples for split in splits)
    by_size = [split.examples / examples for split in splits]
    return TrainingSet(tuple(splits), tuple(by_size if mix is None else mix), is_class_uniform)


def read_places(split: Split) -> ClassPlaces:
    """Where the examples of a split have each class, from the indexes of its shards.

    Raises:
      DatasetError: the data set has no index, or it is damaged.
    """
    check_indexed(split.manifest, split.folder)
    return class_places([example for shard in split.shards for example in read_index(split.folder, shard)])


def read_index(folder: str, shard: Shard) -> Sequence[index.Example]:
    """The lines of the examples that are read of a shard: of a damaged one, those before the damage.

    Raises:
      DatasetError: there is no index, or it is damaged.
    """
    path = f"{folder}/{index.file_name(shard.file)}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError:
        content = None
    try:
        examples = index.Index.from_bytes(content, path).examples
    except SchemaError as error:
        raise DatasetError(f"{error}; restore the file, or build the data set again") from error
    if len(examples) < shard.examples:
        raise DatasetError(
            f"{path} has {len(examples):,} examples, and its shard has {shard.examples:,}: build the data set again"
        )
    return examples[: shard.examples]
