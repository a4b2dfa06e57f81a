"""What a run trains on: the opened data set, cut into the batches of its plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer import dataset, devices
from trainer.augment import make_augment, make_center_crop
from trainer.config import TrainConfig
from trainer.dataset import Augment, DatasetError, Split
from trainer.devices import Batches, DeviceError
from trainer.loop import Plan


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The opened data set, and how it is cut into batches."""

    config: TrainConfig
    strategy: tf.distribute.Strategy
    train: Split
    val: Split | None
    batches: Batches
    plan: Plan
    image_size: tuple[int, int]

    def batches_from(self, step: int) -> Iterable[Any]:
        """The distributed batches from update `step` on, one for each replica at a time."""
        config = self.config
        epoch, within = divmod(step, self.plan.steps_per_epoch)

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = dataset.share_of(self.train, context.num_input_pipelines, context.input_pipeline_id)
            parts = self.batches.accumulate * context.num_replicas_in_sync // context.num_input_pipelines
            return dataset.training_batches(
                share,
                seed=config.seed,
                batch=self.batches.per_replica,
                steps=self.plan.steps_per_epoch * parts,
                start=(epoch, within * parts),
                shuffle_mib=config.shuffle_mib,
                cache_mib=config.cache_mib,
                augment=self._augment(),
            )

        batches: Iterable[Any] = self.strategy.distribute_datasets_from_function(pipeline)
        return batches

    def files_of(self, step: int) -> list[str]:
        """The shards that the images of update `step` came from, on all hosts."""
        pipelines = devices.input_pipelines(self.strategy)
        files: set[str] = set()
        for index in range(pipelines):
            files.update(
                dataset.files_of_batch(
                    dataset.share_of(self.train, pipelines, index),
                    seed=self.config.seed,
                    batch=self.batches.global_batch // pipelines,
                    steps=self.plan.steps_per_epoch,
                    at=divmod(step, self.plan.steps_per_epoch),
                    shuffle_mib=self.config.shuffle_mib,
                )
            )
        return sorted(files)

    def _augment(self) -> Augment | None:
        pixels, moments = self.train.manifest.pixels, self.train.manifest.moments
        if self.config.augment:
            return make_augment(self.image_size, moments.mean, moments.std, self.config.scale, self.config.color)
        return None if (pixels.height, pixels.width) == self.image_size else make_center_crop(self.image_size)

    def __str__(self) -> str:
        """What is trained on what, in the lines that a run starts with."""
        config, plan, manifest = self.config, self.plan, self.train.manifest
        height, width = self.image_size
        val = f", {self.val.examples:,} of {config.val_split}" if self.val else ""
        return (
            f"{config.dataset}: {self.train.examples:,} images of {config.train_split}{val}, "
            f"{manifest.labels.num_classes} classes ({manifest.labels.name}); training on {height}x{width}\n"
            f"{devices.describe(self.strategy, self.batches)}\n"
            f"{plan.total_steps:,} updates, {plan.steps_per_epoch:,} in an epoch; results in {config.output}"
        )


def open_inputs(config: TrainConfig, strategy: tf.distribute.Strategy, console: Console) -> Inputs:
    """Opens the splits, names what is corrupt and left out, and plans the batches.

    Raises:
      DatasetError, ManifestError: there is no such data set, or it needs --crop_size.
      DeviceError: the batches, --xla or --strategy do not fit the devices.
    """
    train = _open_split(config, config.train_split, console)
    val = None
    if config.val_split:
        val = _open_split(config, config.val_split, console)
    replicas, pipelines = strategy.num_replicas_in_sync, devices.input_pipelines(strategy)
    if config.xla and replicas > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
        raise DeviceError(f"--xla compiles the step of one device, and there are {replicas}: leave it out")
    if config.cluster.workers > 1 and pipelines == 1:
        raise DeviceError(
            f"--strategy={config.strategy} is for one host, and TF_CONFIG names {config.cluster.workers}: each would "
            "train alone; leave --strategy out"
        )
    batches = devices.plan_batches(
        replicas, per_replica=config.batch_per_replica, global_batch=config.global_batch, accumulate=config.accumulate
    )
    per_epoch = dataset.steps_of_epoch(train, pipelines, batches.global_batch // pipelines)
    plan = Plan(
        total_steps=config.steps or config.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        evaluate_epochs=config.evaluate_epochs,
        checkpoint_steps=config.checkpoint_steps,
        log_steps=config.log_steps,
        steps_per_call=config.steps_per_call,
        global_batch=batches.global_batch,
    )
    return Inputs(
        config=config,
        strategy=strategy,
        train=train,
        val=val,
        batches=batches,
        plan=plan,
        image_size=_image_size(config, train),
    )


def _open_split(config: TrainConfig, name: str, console: Console) -> Split:
    split = dataset.open_split(config.dataset, name)
    if config.on_corrupt == "skip":
        split = dataset.without_corrupt(split)
        for problem in split.corrupt:
            console.print(f"corrupt, left out: {problem}", highlight=False, markup=False)
    else:
        dataset.check_framing(split)
    return split


def _image_size(config: TrainConfig, train: Split) -> tuple[int, int]:
    pixels = train.manifest.pixels
    if config.crop_size is not None:
        return config.crop_size
    if pixels.height is None or pixels.width is None:
        raise DatasetError(f"{config.dataset} has images of several sizes: give --crop_size=HEIGHTxWIDTH to train on")
    return pixels.height, pixels.width
