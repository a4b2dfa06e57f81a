"""SGD and AdamW, whose gradients are clipped over the global batch, and the learning rates that they follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.objective.schedules import SCHEDULES

# Biases and the scale and offset of norms, by the names that Keras layers give their weights. Keras searches a pattern
# in the whole path ("deeplab/bias_net/kernel:0", and ".../replica_1:0" on a second device), hence the anchors: a bare
# "bias" would also spare the kernels of a layer whose name has the word in it.
NOT_DECAYED = r"(?:^|/)(?:bias|gamma|beta)(?:/replica_\d+)?(?::\d+)?$"


@keras.saving.register_keras_serializable(package="trainer")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `learning_rate`, then `learning_rate` times what `SCHEDULES[name]` leaves of it.

    Args:
      name: poly, cosine or constant.
      learning_rate: the peak.
      total_steps: updates of the run, warm-up included; after them the learning rate stays constant.
      warmup: share of them, from 0 to below 1, in which the learning rate rises to the peak.

    Raises:
      ValueError: the name is unknown, or a number is out of its range.
    """

    def __init__(self, name: str, *, learning_rate: float, total_steps: int, warmup: float = 0.0) -> None:
        if name not in SCHEDULES:
            raise ValueError(f"schedule {name!r}: one of {', '.join(SCHEDULES)} was expected")
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(f"learning_rate {learning_rate}: 0 or more was expected")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup {warmup}: a share of the steps, at least 0 and below 1, was expected")
        if total_steps < 1:
            raise ValueError(f"total_steps {total_steps}: 1 or more was expected")
        self.name, self.learning_rate, self.total_steps, self.warmup = name, learning_rate, total_steps, warmup

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of the update after `step` updates. -> float32 scalar."""
        step = keras.ops.cast(step, "float32")
        warmup_steps = int(self.warmup * self.total_steps)
        progress = keras.ops.clip((step - warmup_steps) / (self.total_steps - warmup_steps), 0.0, 1.0)
        rising, falling = step / max(warmup_steps, 1), SCHEDULES[self.name](progress)
        return self.learning_rate * keras.ops.where(step < warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "learning_rate", "total_steps", "warmup")}


class _ClipsGlobally:
    """Clips the gradient of the *global* batch to a norm of `clip_norm` (Pascanu et al. 2013).

    Keras' own `global_clipnorm` clips on each replica before it sums, so that the update depends on the number of
    replicas. Here the sum comes first. The optimizer will sum again, hence the division: each replica hands it an
    equal part of what is already the whole. Without a clip_norm there is one sum, as in Keras.
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


@keras.saving.register_keras_serializable(package="trainer")
class SGD(_ClipsGlobally, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that clips the gradient of the global batch."""


@keras.saving.register_keras_serializable(package="trainer")
class AdamW(_ClipsGlobally, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that clips the gradient of the global batch."""


def build_optimizer(
    *,
    name: str,
    learning_rate: keras.optimizers.schedules.LearningRateSchedule | float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or AdamW; weight decay that leaves out biases and the scale and offset of norms.

    Decay is decoupled in both (Loshchilov and Hutter 2019): before the step of the gradient,
    `w -= learning_rate * weight_decay * w`. It does not pass through SGD's momentum as the L2 penalty of the DeepLab
    papers does, whose effect on a weight is 1 / (1 - momentum) times larger: their 4e-5 with a momentum of 0.9 is about
    4e-4 here.

    Args:
      name: sgd or adamw.
      learning_rate: a schedule, or a constant.
      momentum: of SGD, without Nesterov's look-ahead. AdamW does not use it: its betas are 0.9 and 0.999.
      weight_decay: share of a weight that a step at a learning rate of 1 removes.
      clip_norm: largest norm of the gradient over all variables and the global batch; None does not clip.

    Raises:
      ValueError: the name is unknown or a number is out of its range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum {momentum}: at least 0 and below 1 was expected")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay {weight_decay}: 0 or more was expected")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm {clip_norm}: above 0 was expected, or None for no clipping")
    if name == "sgd":
        decay = weight_decay or None  # None spares an operation per variable
        optimizer = SGD(learning_rate, momentum=float(momentum), weight_decay=decay, clip_norm=clip_norm)
    elif name == "adamw":
        optimizer = AdamW(learning_rate, weight_decay=weight_decay, clip_norm=clip_norm)
    else:
        raise ValueError(f"optimizer {name!r}: sgd or adamw was expected")
    optimizer.exclude_from_weight_decay(var_names=[NOT_DECAYED])
    return optimizer


def _clip_over_replicas(gradients: list[Any], clip_norm: float) -> list[Any]:
    """The sum over replicas of what this returns is the sum of `gradients`, clipped. None stays None."""
    known = [gradient for gradient in gradients if gradient is not None]
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas > 1:
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    clipped = iter(tf.clip_by_global_norm(known, clip_norm)[0])
    return [None if gradient is None else next(clipped) / replicas for gradient in gradients]
