"""The inputs of a run: its data set, opened and divided into the batches of its plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from rich.console import Console

from beam_pipelines.contract.normalization import Normalization
from trainer.config import TrainConfig
from trainer.data import corrupt, dataset
from trainer.data.augment import Operation, Target, make_augment, make_center_crop, only_moves
from trainer.data.batches import Epochs, files_of_batch, training_batches
from trainer.data.dataset import Split
from trainer.data.manifest import common_size
from trainer.data.training_set import TrainingSet, training_set
from trainer.training import devices
from trainer.training.devices import Batches, DeviceError
from trainer.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run trains and validates on, and its division into batches. `image_size` is (height, width) in pixels."""

    config: TrainConfig
    strategy: tf.distribute.Strategy
    train: TrainingSet
    val: Split | None
    batches: Batches
    plan: Plan
    image_size: tuple[int, int]

    @property
    def pixels(self) -> int:
        """The number of pixels in a global batch."""
        height, width = self.image_size
        return height * width * self.batches.global_batch

    @property
    def normalization(self) -> Normalization | None:
        """What the device normalizes uint8 images with, or None where the batches have normalized ones: because data
        sets store these, or because augmentation computes or pads colors, which takes floats.
        """
        options = self.config.data
        is_computed = options.augment and not only_moves(options.augmentations)
        height, width = self.image_size
        sizes = [(split.manifest.pixels.height, split.manifest.pixels.width) for split in self.train.splits]
        is_padded = any((rows or 0) < height or (columns or 0) < width for rows, columns in sizes)
        if is_computed or is_padded or not self.train.has_pixels:
            return None
        return self.train.manifest.moments.normalization

    def batches_from(self, step: int) -> Iterable[Any]:
        """The distributed batches from update `step` on; each element has a batch for each replica."""
        epoch, within = divmod(step, self.plan.steps_per_epoch)

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            parts = self.batches.accumulate * context.num_replicas_in_sync // context.num_input_pipelines
            return training_batches(
                self.train.share_of(context.num_input_pipelines, context.input_pipeline_id),
                self._epochs(self.batches.per_replica, self.plan.steps_per_epoch * parts),
                start=(epoch, within * parts),
                cache_mib=self.config.data.cache_mib,
                augment=self._augment(),
                normalized=self.normalization is None,
            )

        batches: Iterable[Any] = self.strategy.distribute_datasets_from_function(pipeline)
        return batches

    def files_of(self, step: int) -> list[str]:
        """The names of the shards from which all hosts read the images of update `step`."""
        pipelines = devices.input_pipelines(self.strategy)
        files: set[str] = set()
        epochs = self._epochs(self.batches.global_batch // pipelines, self.plan.steps_per_epoch)
        at = divmod(step, self.plan.steps_per_epoch)
        for index in range(pipelines):
            files.update(files_of_batch(self.train.share_of(pipelines, index), epochs, at))
        return sorted(files)

    def _epochs(self, batch: int, steps: int) -> Epochs:
        options = self.config.data
        return Epochs(seed=options.seed, batch=batch, steps=steps, shuffle_mib=options.shuffle_mib)

    def _sources(self) -> str:
        """The folders of the data sets; of several, with the share of each."""
        folders = self.config.places.datasets
        if len(folders) == 1:
            return folders[0]
        return " + ".join(f"{share:.3g} {folder}" for folder, share in zip(folders, self.train.mix, strict=True))

    def _augment(self) -> Operation | None:
        moments = self.train.manifest.moments
        if self.config.data.augment:
            return make_augment(Target(self.image_size, moments.normalization), self.config.data.augmentations)
        stored = {(each.manifest.pixels.height, each.manifest.pixels.width) for each in self.train.splits}
        return None if stored == {self.image_size} else make_center_crop(self.image_size)

    def __str__(self) -> str:
        """The first lines that a run prints: data set, devices, updates and output."""
        config, plan, manifest = self.config, self.plan, self.train.manifest
        height, width = self.image_size
        val = f", {self.val.examples:,} of {config.data.val_split}" if self.val else ""
        return (
            f"{self._sources()}: {self.train.examples:,} images of {config.data.train_split}{val}, "
            f"{manifest.labels.num_classes} classes ({manifest.labels.name}); training on {height}x{width}\n"
            f"{devices.describe(self.strategy, self.batches)}\n"
            f"{plan.total_steps:,} updates, {plan.steps_per_epoch:,} in an epoch; results in {config.places.output}"
        )


def open_inputs(config: TrainConfig, strategy: tf.distribute.Strategy, console: Console) -> Inputs:
    """Opens the splits, prints the damaged records that are skipped, and plans the batches.

    Raises:
      DatasetError, ManifestError: a data set can't be read, does not fit the others, or needs --crop_size.
      DeviceError: the batches, --xla or --strategy do not fit the devices.
    """
    train = training_set(
        [_open_splits(config, folder, "train_split", console) for folder in config.places.datasets],
        mix=config.data.mix,
        is_class_uniform=config.data.sampling == "class_uniform",
    )
    val = None
    if config.data.val_split:
        val = _open_splits(config, config.places.dataset, "val_split", console)
    pipelines = devices.input_pipelines(strategy)
    _check_devices(config, strategy, pipelines)
    batches = devices.plan_batches(
        strategy.num_replicas_in_sync,
        per_replica=config.batches.batch_per_replica,
        global_batch=config.batches.global_batch,
        accumulate=config.batches.accumulate,
    )
    pipeline_batch = batches.global_batch // pipelines
    steps = train.steps_of_epoch(pipelines, pipeline_batch)
    train.counts(steps * pipeline_batch)  # raises before the model is built
    return Inputs(
        config=config,
        strategy=strategy,
        train=train,
        val=val,
        batches=batches,
        plan=_plan(config, batches, steps),
        image_size=_image_size(config, train),
    )


def _check_devices(config: TrainConfig, strategy: tf.distribute.Strategy, pipelines: int) -> None:
    """Raises DeviceError if --xla or --strategy do not fit the devices."""
    replicas = strategy.num_replicas_in_sync
    if config.machine.xla and replicas > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
        raise DeviceError(f"--xla works on one device only, and there are {replicas}: leave it out")
    if config.cluster.workers > 1 and pipelines == 1:
        raise DeviceError(
            f"--strategy={config.machine.strategy} is for one host, but TF_CONFIG names {config.cluster.workers}: each "
            "would train alone; leave out --strategy"
        )


def _plan(config: TrainConfig, batches: Batches, steps_per_epoch: int) -> Plan:
    return Plan(
        total_steps=config.batches.steps or config.batches.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        evaluate_epochs=config.reporting.evaluate_epochs,
        checkpoint_steps=config.reporting.checkpoint_steps,
        log_steps=config.reporting.log_steps,
        steps_per_call=config.machine.steps_per_call,
        global_batch=batches.global_batch,
    )


def _open_splits(config: TrainConfig, folder: str, option: str, console: Console) -> Split:
    """The shards of all splits of a data set that the option names."""
    split = dataset.open_splits(folder, config.reads[folder][option], option)
    if config.data.on_corrupt == "skip":
        split = corrupt.without_corrupt(split)
        for problem in split.corrupt:
            console.print(f"skipping damaged records: {problem}", highlight=False, markup=False)
    else:
        corrupt.check_framing(split)
    return split


def _image_size(config: TrainConfig, train: TrainingSet) -> tuple[int, int]:
    """Raises DatasetError if the images have several sizes, and there is no --crop_size."""
    if config.data.crop_size:
        return config.data.crop_size
    return common_size({split.folder: split.manifest for split in train.splits})
