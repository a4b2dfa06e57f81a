"""The composition root of a training run: everything is made here, from a TrainConfig."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from beam_pipelines.contract.errors import UserError
from trainer import models
from trainer.config import TrainConfig
from trainer.data import dataset
from trainer.errors import refusals
from trainer.inference.model_file import BEST, ModelFileError, load_model, read_description
from trainer.inference.saved_model import check_free
from trainer.objective.class_weights import class_weights
from trainer.objective.ema import WeightAverages
from trainer.objective.losses import SegmentationLoss
from trainer.objective.optimizers import Schedule, build_optimizer
from trainer.training import devices, finish
from trainer.training.checkpoints import Checkpoints, has_checkpoints
from trainer.training.inputs import Inputs, open_inputs
from trainer.training.journal import Journal
from trainer.training.loop import Loop, State, StopSignal
from trainer.training.progress import ShowProgress
from trainer.training.resume import check_common_step, identity_of, keep_config
from trainer.training.steps import TrainSteps
from trainer.training.validation import Validation

_POLICIES = {"float64": "float64", "float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class TrainingError(UserError, ValueError):
    """A model that can't be trained as it was asked for; the message says what to do."""


def run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback] = ()) -> int:
    """Trains, or resumes training, then evaluates and exports. -> the exit code of `trainer.task`.

    Args:
      callbacks: get the events of `keras.Model.fit`, a batch being a call of several updates, on every host; at the end
        of an epoch, whose logs have "val_mean_iou" where it was evaluated, they may set `stop_training`, all hosts
        alike.

    Raises:
      UserError: a reason that the user can do something about.
    """
    with refusals():
        return _run(config, callbacks, Console(quiet=not config.cluster.is_chief, soft_wrap=True))


def _run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback], console: Console) -> int:
    started = time.monotonic()
    strategy = devices.make_strategy(
        config.machine.strategy, cluster=config.cluster, logical_devices=config.machine.logical_devices
    )
    keras.utils.set_random_seed(config.data.seed)
    keras.config.set_dtype_policy(_POLICIES[config.machine.precision])
    if config.machine.deterministic:
        tf.config.experimental.enable_op_determinism()
    inputs = open_inputs(config, strategy, console)
    console.print(str(inputs), highlight=False, markup=False)
    is_new = not has_checkpoints(config.places.checkpoints)
    problem = keep_config(inputs, is_new)
    if problem:
        console.print(problem, highlight=False, markup=False)
    if config.cluster.is_chief:
        check_free(config.places.export, overwrite=True)
    loop = _make_loop(inputs, callbacks, console, is_new)
    first = int(loop.state.step)
    if loop.state.stopped or first >= inputs.plan.total_steps:
        missing = finish.what_is_missing(config)
        if missing is None:
            done = f"{config.places.output} is complete already: {first:,} updates"
            console.print(done, highlight=False, markup=False)
            return 0
        console.print(missing, highlight=False, markup=False)
    if not is_new:
        console.print(f"going on from step {first:,}", highlight=False)
    with StopSignal() as stop:
        is_done = _train(loop, stop, inputs)
    if not is_done or stop.number is not None:
        console.print(f"stopped at step {int(loop.state.step):,}, which is saved: the same command goes on from there")
        return 128 + (stop.number or signal.SIGTERM)  # or another host was asked to stop
    if config.cluster.is_chief:
        try:
            finish.evaluate_and_export(config, inputs.val, inputs.batches.per_replica, strategy, console)
        except KeyboardInterrupt:
            console.print("training is over, and its best model is kept: the same command writes what is missing")
            raise
        console.print(f"took {(time.monotonic() - started) / 60:.1f} min", highlight=False)
    return 0


def _make_loop(inputs: Inputs, callbacks: Sequence[keras.callbacks.Callback], console: Console, is_new: bool) -> Loop:
    config, labels, plan = inputs.config, inputs.train.manifest.labels, inputs.plan
    schedule = Schedule(
        config.optimizer.schedule,
        learning_rate=config.optimizer.learning_rate,
        total_steps=plan.total_steps,
        warmup=config.optimizer.warmup,
    )
    with inputs.strategy.scope():
        model = _build_model(inputs)
        if config.model.initial_model is not None and is_new:
            _start_from(config.model.initial_model, model, console)
        optimizer = _build_optimizer(config, schedule, model)
        averages = WeightAverages(model.trainable_variables, config.optimizer.ema) if config.optimizer.ema else None
        steps = TrainSteps(
            model,
            optimizer,
            _build_loss(inputs),
            inputs.strategy,
            inputs.batches,
            image_size=inputs.image_size,
            averages=averages,
            xla=config.machine.xla,
        )
    state = State(labels.num_classes)
    checkpoints = Checkpoints(
        config.places.checkpoints,
        {
            "model": model.variables,
            "optimizer": optimizer.variables,
            "averages": averages.variables if averages else [],
            "state": state.variables,
        },
        is_chief=config.cluster.is_chief,
        about=identity_of(inputs),
    )
    checkpoints.restore()
    for problem in checkpoints.problems:
        console.print(f"damaged, the one before it is taken: {problem}", highlight=False, markup=False)
    check_common_step(inputs.strategy, int(state.step), config)
    best = f"{config.places.output}/{BEST}"
    is_over = bool(state.stopped) or int(state.step) >= plan.total_steps
    is_lost = _forget_lost_best(best, state, is_over, console)
    journal = _open_journal(config, state, int(state.step) - 1 if is_lost and is_over else int(state.epoch_end))
    for problem in journal.problems if journal else ():
        console.print(problem, highlight=False, markup=False)
    shown = ShowProgress(console, first=int(state.step), total=plan.total_steps)
    validation = Validation(
        model=model,
        averages=averages,
        state=state,
        split=inputs.val,
        train=inputs.train,
        strategy=inputs.strategy,
        batch=inputs.batches.per_replica,
        name=config.model.name,
        path=best,
        journal=journal,
        steps_per_epoch=plan.steps_per_epoch,
        console=console,
    )
    if is_lost and is_over:
        with refusals():
            validation(int(state.step), lambda: False)
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


def _build_model(inputs: Inputs) -> keras.Model:
    """Raises TrainingError for an option that the model does not have."""
    config, manifest = inputs.config, inputs.train.manifest
    known = models.option_defaults(config.model.name)
    options = dict(config.model.given())
    if "sync_batch_norm" in known:
        options["sync_batch_norm"] = inputs.strategy.num_replicas_in_sync > 1
    if "normalization" in known:
        options["normalization"] = manifest.moments.normalization
    try:
        return models.build(config.model.name, num_classes=manifest.labels.num_classes, options=options)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _build_optimizer(config: TrainConfig, schedule: Any, model: keras.Model) -> keras.optimizers.Optimizer:
    optimizer = build_optimizer(
        name=config.optimizer.name,
        learning_rate=schedule,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.clip_norm,
    )
    if config.machine.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _build_loss(inputs: Inputs) -> SegmentationLoss:
    config = inputs.config
    weights: list[float] | None = None
    if config.objective.class_weights != "none":
        pixels = inputs.train.manifest.class_pixels[config.data.train_split]
        weights = class_weights(pixels, config.objective.class_weights).tolist()
    return SegmentationLoss(
        class_weights=weights,
        hard_pixel_fraction=config.objective.hard_pixel_fraction,
        hard_pixel_ramp_steps=config.objective.hard_pixel_ramp_steps,
        terms=config.objective.terms,
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


def _forget_lost_best(path: str, state: State, is_over: bool, console: Console) -> bool:
    """Whether the best model that the run has kept is gone or damaged; then the next evaluation keeps one again."""
    if float(state.best) < 0 and not is_over:
        return False  # none was kept yet
    try:
        read_description(path)
        return False
    except ModelFileError as error:
        cure = "the model as it is now takes its place" if is_over else "the best of the next evaluations is kept"
        console.print(f"{error}; {cure}", highlight=False, markup=False)
    state.best.assign(-1.0)
    return True


def _open_journal(config: TrainConfig, state: State, evaluated: int) -> Journal | None:
    if not config.cluster.is_chief:
        return None
    return Journal(
        config.places.output,
        config.places.logs,
        step=int(state.step),
        evaluated=evaluated,
        reports_metric=config.reports_metric,
    )


def _train(loop: Loop, stop: StopSignal, inputs: Inputs) -> bool:
    try:
        with refusals():
            is_done = loop.run(stop)
            if loop.journal is not None:
                loop.journal.flush(now=True)
            return is_done
    except tf.errors.NotFoundError as error:
        raise TrainingError(f"a file went missing: {str(error).splitlines()[0]}") from error
    except dataset.READ_ERRORS as error:
        found = dataset.diagnosis(error, *filter(None, (inputs.train, inputs.val)))
        if found is None:
            raise
        raise found from error
    finally:
        if loop.journal is not None:
            with contextlib.suppress(OSError, tf.errors.OpError):  # it would hide what went wrong
                loop.journal.close()
