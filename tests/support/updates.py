"""A tiny model and its updates, on any number of replicas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.normalization import Normalization
from trainer.objective.ema import WeightAverages
from trainer.objective.losses import SegmentationLoss
from trainer.objective.optimizers import build_optimizer
from trainer.training.devices import Batches
from trainer.training.learner import Learner
from trainer.training.steps import TrainSteps, Updates

CLASSES, SIZE, BATCH = 3, (4, 6), 4


def examples(batches: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Images float32[batches, BATCH, H, W, 3] and masks; very different shares of the masks are ignored."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batches, BATCH, *SIZE, 3)).astype(np.float32)
    masks = rng.integers(0, CLASSES, (batches, BATCH, *SIZE)).astype(np.uint8)
    for index in range(BATCH):
        masks[:, index][rng.random(masks[:, index].shape) < index / BATCH] = 255
    return images, masks


def build_model(policy: str) -> keras.Model:
    """Without batch normalization, whose statistics are of what is computed at a time."""
    keras.utils.set_random_seed(1)
    images = keras.Input((*SIZE, 3))
    features = keras.layers.Conv2D(4, 3, padding="same", activation="relu", dtype=policy)(images)
    return keras.Model(images, keras.layers.Conv2D(CLASSES, 1, dtype="float32")(features))


@dataclass(kw_only=True)
class Training:
    """A tiny model and its updates, on as many replicas as the strategy has."""

    accumulate: int = 1
    policy: str = "float32"
    clip_norm: float | None = None
    ema: float | None = None
    optimizer_name: str = "sgd"
    multiplier: float = 1.0  # of the learning rate of the first layer
    is_frozen: bool = False  # the first layer
    xla: bool = False
    normalization: Normalization | None = None  # images are uint8 then
    strategy: tf.distribute.Strategy = field(default_factory=lambda: tf.distribute.OneDeviceStrategy("/cpu:0"))

    def __post_init__(self) -> None:
        replicas = self.strategy.num_replicas_in_sync
        self.batches = Batches(
            replicas=replicas, per_replica=BATCH // self.accumulate // replicas, accumulate=self.accumulate
        )
        with self.strategy.scope():
            self.model = build_model(self.policy)
            first = self.model.layers[1]
            first.trainable = not self.is_frozen
            slow = {} if self.multiplier == 1 else {each.path: self.multiplier for each in first.trainable_variables}
            self.optimizer = build_optimizer(
                name=self.optimizer_name, learning_rate=0.5, clip_norm=self.clip_norm, multipliers=slow
            )
            if self.policy == "mixed_float16":
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
            self.optimizer.build(self.model.trainable_variables)
            self.averages = WeightAverages(self.model.trainable_variables, self.ema) if self.ema else None
            self.steps = TrainSteps(
                Learner(model=self.model, optimizer=self.optimizer, averages=self.averages),
                SegmentationLoss(),
                self.strategy,
                self.batches,
                pixels=SIZE[0] * SIZE[1] * self.batches.global_batch,
                normalization=self.normalization,
                xla=self.xla,
            )

    def run(self, *counts: int, data: tuple[np.ndarray, np.ndarray] | None = None, **signals: Any) -> list[Updates]:
        source = self._batches(*(data or examples()))
        return [self.steps(source, count, **signals) for count in counts]

    def _batches(self, images: np.ndarray, masks: np.ndarray) -> Iterator[Any]:
        if self.normalization is not None:
            images = np.clip(images * 50 + 128, 0, 255).astype(np.uint8)
        flat = {"image": images.reshape(-1, *SIZE, 3), "mask": masks.reshape(-1, *SIZE)}
        dataset = tf.data.Dataset.from_tensor_slices(flat).batch(self.batches.per_replica)
        return iter(self.strategy.distribute_datasets_from_function(lambda _: dataset))

    @property
    def weights(self) -> list[np.ndarray]:
        return [np.array(weight) for weight in self.model.get_weights()]


def assert_close(mine: Sequence[np.ndarray], theirs: Sequence[np.ndarray], atol: float = 1e-6) -> None:
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
