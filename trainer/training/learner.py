"""What is trained: a model, its optimizer and the averages of its weights, created from a TrainConfig."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf
from rich.console import Console

from trainer import models
from trainer.config import TrainConfig
from trainer.models.layers import leaves
from trainer.models.weights import INITIAL
from trainer.objective.class_weights import class_weights
from trainer.objective.ema import WeightAverages
from trainer.objective.losses import SegmentationLoss
from trainer.objective.optimizers import Schedule, build_optimizer
from trainer.training import layerwise
from trainer.training.errors import TrainingError
from trainer.training.initial import start_from
from trainer.training.inputs import Inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """The optimizer is built for `model.trainable_variables`. `averages`, if not None, are evaluated and saved."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    averages: WeightAverages | None = None

    @property
    def variables(self) -> dict[str, Sequence[keras.Variable | tf.Variable]]:
        """The variables that a checkpoint saves, by group."""
        averages = self.averages.variables if self.averages else []
        return {"model": self.model.variables, "optimizer": self.optimizer.variables, "averages": averages}


def make_schedule(inputs: Inputs, *, counts_skipped: bool = False) -> Schedule:
    """The learning rate of each update, as the optimizer counts them.

    counts_skipped: as the run counts them instead, with those that the optimizer skips in float16. Where the run was
      made longer, that is another number.
    """
    options = inputs.config.optimizer
    return Schedule(
        options.schedule,
        learning_rate=options.learning_rate,
        total_steps=inputs.plan.total_steps,
        warmup=options.warmup,
        earlier=[(each.total, each.at if counts_skipped else each.iterations) for each in inputs.plan.extended],
    )


def make_learner(inputs: Inputs, schedule: Schedule, console: Console, *, is_new: bool) -> Learner:
    """Call it in the scope of the strategy. A new run starts from `--initial_model` and `--backbone_weights`, if set.

    Others have the same layers, and read neither: a checkpoint has their weights.

    Raises:
      ModelError, WeightsError: see `trainer.models.build`.
      ModelFileError: the initial model can't be loaded.
      TrainingError: the initial model does not fit the model.
      FreezingError: what is frozen would be random.
    """
    config = inputs.config
    initial = config.model.initial_model
    entire = config.model.options.get("backbone_weights") == INITIAL
    if entire and initial is None:
        raise TrainingError(f"--backbone_weights={INITIAL} needs --initial_model: set it, or other weights")
    model = _build_model(inputs, is_new=is_new)
    layerwise.freeze(model, config)
    if initial is not None and is_new:
        layerwise.check_frozen(model, config, start_from(initial, model, console, entire=entire))
    _tell_frozen(model, console)
    optimizer = _build_optimizer(config, schedule, model)
    momentum = config.optimizer.ema
    averages = WeightAverages(model.trainable_variables, momentum) if momentum else None
    return Learner(model=model, optimizer=optimizer, averages=averages)


def _build_model(inputs: Inputs, *, is_new: bool) -> keras.Model:
    """Raises ModelError or WeightsError: see `trainer.models.build`."""
    config, manifest = inputs.config, inputs.train.manifest
    known = models.option_defaults(config.model.name)
    options = dict(config.model.given())
    if not is_new and options.get("backbone_weights", "none") != "none":
        options["backbone_weights"] = INITIAL
    if "sync_batch_norm" in known:
        options["sync_batch_norm"] = inputs.strategy.num_replicas_in_sync > 1
    if "normalization" in known:
        options["normalization"] = manifest.moments.normalization
    return models.build(config.model.name, num_classes=manifest.labels.num_classes, options=options)


def _build_optimizer(config: TrainConfig, schedule: Schedule, model: keras.Model) -> keras.optimizers.Optimizer:
    optimizer = build_optimizer(
        name=config.optimizer.name,
        learning_rate=schedule,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.clip_norm,
        multipliers=layerwise.multipliers(model, config),
    )
    if config.machine.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def build_loss(inputs: Inputs) -> SegmentationLoss:
    """The loss, with class weights from the pixel counts of the train split."""
    config = inputs.config
    weights: list[float] | None = None
    if config.objective.class_weights != "none":
        pixels = inputs.train.class_pixels(config.data.train_splits)
        weights = class_weights(pixels, config.objective.class_weights).tolist()
    return SegmentationLoss(
        class_weights=weights,
        label_smoothing=config.objective.label_smoothing,
        hard_pixel_fraction=config.objective.hard_pixel_fraction,
        hard_pixel_ramp_steps=config.objective.hard_pixel_ramp_steps,
        terms=config.objective.terms,
    )


def _tell_frozen(model: keras.Model, console: Console) -> None:
    frozen = sum(1 for layer in leaves(model) if layer.weights and not layer.trainable)
    if frozen:
        trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        console.print(f"{frozen:,} layers are frozen; {trained:,} numbers train", highlight=False)
