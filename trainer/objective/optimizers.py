"""SGD and AdamW with clipping of the gradient of the global batch, and their learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.objective.schedules import SCHEDULES

# Biases, and scale and offset of normalization layers, by the names of weights in Keras. Keras searches for the pattern
# in the whole path ("deeplab/bias_net/kernel:0", and ".../replica_1:0" on a second device). Without anchors, "bias"
# would also match the kernels of a layer with this word in its name.
NOT_DECAYED = r"(?:^|/)(?:bias|gamma|beta)(?:/replica_\d+)?(?::\d+)?$"


@keras.saving.register_keras_serializable(package="trainer")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `learning_rate`, then `learning_rate` times the factor of `SCHEDULES[name]`.

    Args:
      name: a row of `SCHEDULES`.
      learning_rate: the peak.
      total_steps: updates of the run, including warm-up; after them the learning rate is constant.
      warmup: fraction of `total_steps`, at least 0 and below 1, in which the learning rate rises to the peak.
      earlier: pairs of total steps before and the step at which the run was made longer, in order; until then, the
        schedule is that of the earlier total. The step is counted as in calls: by an optimizer, without updates that it
        skipped.

    Raises:
      ValueError: the name is unknown, or a number is out of range.
    """

    def __init__(
        self,
        name: str,
        *,
        learning_rate: float,
        total_steps: int,
        warmup: float = 0.0,
        earlier: Sequence[tuple[int, int]] = (),
    ) -> None:
        if name not in SCHEDULES:
            raise ValueError(f"schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(f"learning_rate {learning_rate}: expected at least 0")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup {warmup}: expected at least 0 and below 1")
        if total_steps < 1:
            raise ValueError(f"total_steps {total_steps}: expected at least 1")
        self.name, self.learning_rate, self.total_steps, self.warmup = name, learning_rate, total_steps, warmup
        self.earlier = tuple((int(total), int(at)) for total, at in earlier)

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of the update after `step` updates, a float32 scalar."""
        step = keras.ops.cast(step, "float32")
        rate = self._rate(step, self.total_steps)
        for total, at in reversed(self.earlier):
            rate = keras.ops.where(step < at, self._rate(step, total), rate)
        return rate

    def _rate(self, step: tf.Tensor, total_steps: int) -> tf.Tensor:
        warmup_steps = int(self.warmup * total_steps)
        progress = keras.ops.clip((step - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
        rising, falling = step / max(warmup_steps, 1), SCHEDULES[self.name](progress)
        return self.learning_rate * keras.ops.where(step < warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "learning_rate", "total_steps", "warmup", "earlier")}


class _ClipsGlobally:
    """Clips the gradient of the *global* batch to a norm of `clip_norm` (Pascanu et al. 2013).

    `global_clipnorm` of Keras clips on each replica before the sum, so that the update depends on the number of
    replicas. This class sums first. Since the optimizer sums again, each replica passes on an equal part of the total.
    Without `clip_norm`, gradients are summed once, as in Keras.
    """

    def __init__(self, *args: Any, clip_norm: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clip_norm = clip_norm

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        if self.clip_norm is not None:
            grads = _clip_over_replicas(list(grads), self.clip_norm)
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config | {"clip_norm": self.clip_norm}


class _MultipliesRates:
    """Multiplies the learning rate of the variables whose paths are in `multipliers`; without any, it is Keras.

    The rate, and not the gradient, whose scale AdamW does not see. Weight decay has the same rate, as it is decoupled.
    """

    def __init__(self, *args: Any, multipliers: Mapping[str, float] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.multipliers = dict(multipliers or {})

    def build(self, variables: Sequence[keras.Variable]) -> None:
        unknown = self.multipliers.keys() - {variable.path for variable in variables}
        if unknown:
            raise ValueError(f"multipliers: there is no variable {min(unknown)}")
        super().build(variables)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        if not self.multipliers:
            super()._apply_weight_decay(variables)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Called by Keras for each variable, on each replica."""
        if self.multipliers:
            known: Any = self
            path = known._trainable_variables[known._get_variable_index(variable)].path
            learning_rate = learning_rate * self.multipliers.get(path, 1.0)
            if known.weight_decay and known._use_weight_decay(variable):
                rate, decay = (tf.cast(each, variable.dtype) for each in (learning_rate, known.weight_decay))
                variable.assign_sub(variable * decay * rate)
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config | {"multipliers": dict(self.multipliers)}


@keras.saving.register_keras_serializable(package="trainer")
class SGD(_ClipsGlobally, _MultipliesRates, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that clips the gradient of the global batch and has learning rates by variable."""


@keras.saving.register_keras_serializable(package="trainer")
class AdamW(_ClipsGlobally, _MultipliesRates, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that clips the gradient of the global batch and has learning rates by variable."""


def build_optimizer(
    *,
    name: str,
    learning_rate: keras.optimizers.schedules.LearningRateSchedule | float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    multipliers: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or AdamW; without weight decay of biases and normalization layers.

    Weight decay is decoupled in both (Loshchilov and Hutter 2019): `w -= learning_rate * weight_decay * w` before the
    gradient step. It is not subject to momentum, unlike the L2 penalty of the DeepLab papers, whose effect on a weight
    is 1 / (1 - momentum) times larger: 4e-5 with a momentum of 0.9 there is about 4e-4 here.

    Args:
      name: sgd or adamw.
      learning_rate: a schedule, or a constant.
      momentum: of SGD, without Nesterov momentum. AdamW ignores it; its betas are 0.9 and 0.999.
      weight_decay: fraction of a weight that a step removes at a learning rate of 1.
      clip_norm: largest norm of the gradient of the global batch over all variables; None for no clipping.
      multipliers: path of a variable -> factor of its learning rate, also in its weight decay. Clipping sees gradients
        as they are.

    Raises:
      ValueError: the name is unknown, or a number is out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum {momentum}: expected at least 0 and below 1")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay {weight_decay}: expected at least 0")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm {clip_norm}: expected above 0, or None for no clipping")
    ours: dict[str, Any] = {"clip_norm": clip_norm, "multipliers": multipliers}
    if name == "sgd":
        decay = weight_decay or None  # None saves an operation per variable
        optimizer = SGD(learning_rate, momentum=float(momentum), weight_decay=decay, **ours)
    elif name == "adamw":
        optimizer = AdamW(learning_rate, weight_decay=weight_decay, **ours)
    else:
        raise ValueError(f"optimizer {name!r}: expected sgd or adamw")
    optimizer.exclude_from_weight_decay(var_names=[NOT_DECAYED])
    return optimizer


def _clip_over_replicas(gradients: list[Any], clip_norm: float) -> list[Any]:
    """Gradients whose sum over replicas is the clipped sum of `gradients`. None stays None."""
    known = [gradient for gradient in gradients if gradient is not None]
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas > 1:
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    clipped = iter(tf.clip_by_global_norm(known, clip_norm)[0])
    return [None if gradient is None else next(clipped) / replicas for gradient in gradients]
