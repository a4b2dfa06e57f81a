"""The composition root of a training run: everything is made here, from a TrainConfig."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from beam_pipelines.contract.manifest import ManifestError
from trainer import dataset, devices, finish, models
from trainer.augment import make_augment, make_center_crop
from trainer.averages import WeightAverages
from trainer.checkpoints import CheckpointError, Checkpoints, checkpoint_files
from trainer.config import CONFIG, TrainConfig
from trainer.dataset import Augment, DatasetError, Split
from trainer.devices import Batches, DeviceError
from trainer.evaluation import EvaluationError
from trainer.journal import Journal
from trainer.loop import Loop, NotFiniteError, Plan, State, StopSignal
from trainer.losses import SegmentationLoss, class_weights
from trainer.model_file import BEST, ModelFileError, load_model
from trainer.progress import ShowProgress
from trainer.saved_model import ExportError, check_free
from trainer.schedules import build_optimizer, build_schedule
from trainer.steps import TrainSteps
from trainer.validation import Validation

_POLICIES = {"float64": "float64", "float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class TrainingError(ValueError):
    """A run that can't be started or continued; the message says what to do."""


_FOR_PEOPLE = (
    *(TrainingError, DatasetError, ManifestError, DeviceError, ModelFileError),
    *(CheckpointError, NotFiniteError, EvaluationError, ExportError),
)


def run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback] = ()) -> int:
    """Trains, or goes on training, then evaluates and exports. -> the exit code of `trainer.task`.

    `callbacks` get the events of `keras.Model.fit`, a batch being a call of several updates, on every host; at the end
    of an epoch, whose logs have "val_mean_iou" where it was evaluated, they may set `stop_training`, all hosts alike.
    """
    console = Console(quiet=not config.cluster.is_chief, soft_wrap=True)
    try:
        return _run(config, callbacks, console)
    except _FOR_PEOPLE as error:
        message = str(error)
    except tf.errors.ResourceExhaustedError as error:
        message = _exhausted(str(error).splitlines()[0])
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if config.cluster.workers == 1:
            raise
        message = (
            f"another host of this run was lost ({str(error).splitlines()[0]}). Start the same command on all hosts "
            "again: they go on at the newest checkpoint"
        )
    print(f"error: {message}", file=sys.stderr)
    return 1


def _exhausted(found: str) -> str:
    """TensorFlow has one error for full disks and for full memories."""
    if "space" in found.lower() or "quota" in found.lower():
        return f"there is no room to write: {found}. The same command goes on at the newest checkpoint"
    return (
        f"out of memory: {found}. Try a smaller --batch_per_replica with --accumulate; or, with another --output, a "
        "smaller --crop_size or --precision=bfloat16"
    )


@dataclass(frozen=True, kw_only=True)
class _Inputs:
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


def _run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback], console: Console) -> int:
    started = time.monotonic()
    strategy = devices.make_strategy(config.strategy, cluster=config.cluster, logical_devices=config.logical_devices)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(_POLICIES[config.precision])
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    inputs = _open(config, strategy, console)
    is_new = not checkpoint_files(config.checkpoints)
    _keep_config(inputs, is_new)
    if config.cluster.is_chief:
        check_free(config.export, overwrite=True)
    loop = _make_loop(inputs, callbacks, console, is_new)
    first = int(loop.state.step)
    if (loop.state.stopped or first >= inputs.plan.total_steps) and finish.is_finished(config):
        console.print(f"{config.output} is complete already: {first:,} updates", highlight=False, markup=False)
        return 0
    with StopSignal() as stop:
        is_done = _train(loop, stop, inputs)
    if not is_done or stop.number is not None:
        console.print(f"stopped at step {int(loop.state.step):,}, which is saved: the same command goes on from there")
        return 128 + (stop.number or signal.SIGTERM)  # or another host was asked to stop
    if config.cluster.is_chief:
        finish.evaluate_and_export(config, inputs.val, inputs.batches.per_replica, strategy, console)
        console.print(f"took {(time.monotonic() - started) / 60:.1f} min", highlight=False)
    return 0


def _open(config: TrainConfig, strategy: tf.distribute.Strategy, console: Console) -> _Inputs:
    train = _open_split(config, config.train_split, console)
    val = None
    if config.val_split:
        val = _open_split(config, config.val_split, console)
    replicas, pipelines = strategy.num_replicas_in_sync, devices.input_pipelines(strategy)
    if config.xla and replicas > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
        raise TrainingError(f"--xla compiles the step of one device, and there are {replicas}: leave it out")
    if config.cluster.workers > 1 and pipelines == 1:
        raise TrainingError(
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
    inputs = _Inputs(
        config=config,
        strategy=strategy,
        train=train,
        val=val,
        batches=batches,
        plan=plan,
        image_size=_image_size(config, train),
    )
    _introduce(inputs, console)
    return inputs


def _open_split(config: TrainConfig, name: str, console: Console) -> Split:
    split = dataset.open_split(config.dataset, name)
    if config.on_corrupt == "skip":
        split = dataset.without_corrupt(split)
        for problem in split.corrupt:
            console.print(f"corrupt, left out: {problem}", highlight=False, markup=False)
    return split


def _image_size(config: TrainConfig, train: Split) -> tuple[int, int]:
    pixels = train.manifest.pixels
    if config.crop_size is not None:
        return config.crop_size
    if pixels.height is None or pixels.width is None:
        raise TrainingError(f"{config.dataset} has images of several sizes: give --crop_size=HEIGHTxWIDTH to train on")
    return pixels.height, pixels.width


def _introduce(inputs: _Inputs, console: Console) -> None:
    config, plan, manifest = inputs.config, inputs.plan, inputs.train.manifest
    height, width = inputs.image_size
    val = f", {inputs.val.examples:,} of {config.val_split}" if inputs.val else ""
    console.print(
        f"{config.dataset}: {inputs.train.examples:,} images of {config.train_split}{val}, "
        f"{manifest.labels.num_classes} classes ({manifest.labels.name}); training on {height}x{width}\n"
        f"{devices.describe(inputs.strategy, inputs.batches)}\n"
        f"{plan.total_steps:,} updates, {plan.steps_per_epoch:,} in an epoch; results in {config.output}",
        highlight=False,
        markup=False,
    )


def _keep_config(inputs: _Inputs, is_new: bool) -> None:
    """Writes config.json, or checks that the run that is there was started with the same. Without a checkpoint there is
    nothing to continue yet, and nothing to hold to.

    Raises:
      TrainingError: this command would not continue it but make another one of it.
    """
    config, path = inputs.config, f"{inputs.config.output}/{CONFIG}"
    identity = config.identity | {
        "global_batch": inputs.batches.global_batch,
        "hosts": devices.input_pipelines(inputs.strategy),
        "dataset": inputs.train.manifest.fingerprint,
        "images": inputs.train.examples,
    }
    if not is_new and tf.io.gfile.exists(path):
        try:
            with tf.io.gfile.GFile(path) as file:
                before = dict(json.loads(file.read())["identity"])
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is not that of a training run: give another --output") from error
        changed = [name for name in identity if identity[name] != before.get(name)]
        if changed:
            found = ", ".join(f"{name} was {before.get(name)} and is {identity[name]}" for name in changed)
            raise TrainingError(
                f"{config.output} holds another run: {found}. Give another --output, or the same values"
            )
    elif config.cluster.is_chief:
        _make_folder(config.output)
        with tf.io.gfile.GFile(f"{path}.tmp", "w") as file:
            file.write(json.dumps({"identity": identity, "config": config.to_json()}, indent=1))
        tf.io.gfile.rename(f"{path}.tmp", path, overwrite=True)


def _make_loop(inputs: _Inputs, callbacks: Sequence[keras.callbacks.Callback], console: Console, is_new: bool) -> Loop:
    config, labels, plan = inputs.config, inputs.train.manifest.labels, inputs.plan
    schedule = build_schedule(
        config.schedule, learning_rate=config.learning_rate, total_steps=plan.total_steps, warmup=config.warmup
    )
    with inputs.strategy.scope():
        model = _build_model(inputs)
        if config.initial_model is not None and is_new:
            _start_from(config.initial_model, model, console)
        optimizer = _build_optimizer(config, schedule, model)
        averages = WeightAverages(model.trainable_variables, config.ema) if config.ema else None
        steps = TrainSteps(
            model,
            optimizer,
            _build_loss(inputs),
            inputs.strategy,
            inputs.batches,
            image_size=inputs.image_size,
            averages=averages,
            xla=config.xla,
        )
    state = State(labels.num_classes)
    checkpoints = Checkpoints(
        config.checkpoints,
        {
            "model": model.variables,
            "optimizer": optimizer.variables,
            "averages": averages.variables if averages else [],
            "state": state.variables,
        },
        is_chief=config.cluster.is_chief,
    )
    if checkpoints.restore():
        console.print(f"going on from step {int(state.step):,}", highlight=False)
    _check_common_step(inputs.strategy, int(state.step), config)
    journal = _open_journal(config, state)
    shown = ShowProgress(console, first=int(state.step), total=plan.total_steps)
    validation = Validation(
        model=model,
        averages=averages,
        state=state,
        split=inputs.val,
        train=inputs.train,
        strategy=inputs.strategy,
        batch=inputs.batches.per_replica,
        name=config.model,
        path=f"{config.output}/{BEST}",
        journal=journal,
        steps_per_epoch=plan.steps_per_epoch,
        console=console,
    )
    return Loop(
        plan=plan,
        state=state,
        steps=steps,
        labels=labels,
        learning_rate=lambda step: float(schedule(step)),
        batches_from=inputs.batches_from,
        evaluate=validation,
        files_of=inputs.files_of,
        checkpoints=checkpoints,
        journal=journal,
        callbacks=keras.callbacks.CallbackList(
            [shown, *callbacks],
            model=model,
            epochs=-(-plan.total_steps // plan.steps_per_epoch),
            steps=plan.steps_per_epoch,
        ),
        model=model,
    )


def _make_folder(folder: str) -> None:
    try:
        tf.io.gfile.makedirs(folder)
    except tf.errors.OpError as error:
        raise TrainingError(f"--output={folder} can't be made: {str(error).splitlines()[0]}") from error


def _build_model(inputs: _Inputs) -> keras.Model:
    """Raises TrainingError for an option that the model does not have."""
    config, manifest = inputs.config, inputs.train.manifest
    known = models.option_defaults(config.model)
    options = dict(config.model_options)
    if "sync_batch_norm" in known:
        options["sync_batch_norm"] = inputs.strategy.num_replicas_in_sync > 1
    if {"mean", "std"} <= known.keys():
        options |= {"mean": manifest.moments.mean, "std": manifest.moments.std}
    try:
        return models.build(config.model, num_classes=manifest.labels.num_classes, options=options)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _build_optimizer(config: TrainConfig, schedule: Any, model: keras.Model) -> keras.optimizers.Optimizer:
    optimizer = build_optimizer(
        name=config.optimizer,
        learning_rate=schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    if config.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _build_loss(inputs: _Inputs) -> SegmentationLoss:
    config = inputs.config
    weights: list[float] | None = None
    if config.class_weights != "none":
        pixels = inputs.train.manifest.class_pixels[config.train_split]
        weights = class_weights(pixels, config.class_weights).tolist()
    return SegmentationLoss(
        class_weights=weights,
        top_k=config.top_k,
        top_k_ramp_steps=config.top_k_ramp_steps,
        lovasz=config.lovasz,
        dice=config.dice,
    )


def _start_from(path: str, model: keras.Model, console: Console) -> None:
    """Copies the weights of another model's file whose names and shapes are the same."""
    other, _ = load_model(path)
    known = {variable.path: variable for variable in other.variables}
    taken = 0
    for variable in model.variables:
        source = known.get(variable.path)
        if source is not None and source.shape == variable.shape:
            variable.assign(source.numpy())
            taken += 1
    if not taken:
        raise TrainingError(f"--initial_model={path}: it has no weights in common with this model")
    console.print(f"{taken:,} of {len(model.variables):,} variables start from {path}", highlight=False)


def _check_common_step(strategy: tf.distribute.Strategy, step: int, config: TrainConfig) -> None:
    """Raises TrainingError where the hosts have restored different states."""
    if config.cluster.workers == 1:
        return
    steps = tf.function(lambda: strategy.run(_all_steps, args=(tf.constant(float(step), tf.float64),)))()
    mean, square = (float(strategy.experimental_local_results(value)[0]) for value in steps)
    if square != mean**2:
        raise TrainingError(
            f"the hosts do not see the same checkpoints (this one that of step {step}): {config.checkpoints} must be a "
            "folder that all of them share, like gs://"
        )


def _all_steps(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    context = tf.distribute.get_replica_context()
    here = tf.identity(step)  # on the device that takes part
    mean, square = context.all_reduce(tf.distribute.ReduceOp.MEAN, [here, here**2])
    return mean, square


def _open_journal(config: TrainConfig, state: State) -> Journal | None:
    if not config.cluster.is_chief:
        return None
    return Journal(
        config.output,
        config.logs,
        step=int(state.step),
        evaluated=int(state.epoch_end),
        reports_metric=config.reports_metric,
    )


def _train(loop: Loop, stop: StopSignal, inputs: _Inputs) -> bool:
    try:
        return loop.run(stop)
    except tf.errors.NotFoundError as error:
        raise TrainingError(f"a file went missing: {str(error).splitlines()[0]}") from error
    except tf.errors.DataLossError as error:
        raise DatasetError(dataset.diagnose(*filter(None, (inputs.train, inputs.val)))) from error
    finally:
        if loop.journal is not None:
            loop.journal.close()
