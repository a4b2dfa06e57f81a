"""Whether a command goes on with the run that is there: it must be the same run, at one step on all hosts."""

from __future__ import annotations

import json

import tensorflow as tf

from trainer import devices
from trainer.buckets import refusals
from trainer.config import CONFIG, TrainConfig
from trainer.inputs import Inputs


class ContinuationError(ValueError):
    """A run that can't be started in a folder, or continued; the message says what to do."""


def keep_config(inputs: Inputs, is_new: bool) -> None:
    """Writes config.json, or checks that the run that is there was started with the same. Without a checkpoint there is
    nothing to continue yet, and nothing to hold to.

    Raises:
      ContinuationError: this command would not continue it but make another one of it.
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
            raise ContinuationError(f"{path} is not that of a training run: give another --output") from error
        changed = [name for name in identity if identity[name] != before.get(name)]
        if changed:
            found = ", ".join(f"{name} was {before.get(name)} and is {identity[name]}" for name in changed)
            raise ContinuationError(
                f"{config.output} holds another run: {found}. Give another --output, or the same values"
            )
    elif config.cluster.is_chief:
        _make_folder(config.output)
        with tf.io.gfile.GFile(f"{path}.tmp", "w") as file:
            file.write(json.dumps({"identity": identity, "config": config.to_json()}, indent=1))
        tf.io.gfile.rename(f"{path}.tmp", path, overwrite=True)


def _make_folder(folder: str) -> None:
    try:
        with refusals():
            tf.io.gfile.makedirs(folder)
    except tf.errors.OpError as error:
        raise ContinuationError(f"--output={folder} can't be made: {str(error).splitlines()[0]}") from error


def check_common_step(strategy: tf.distribute.Strategy, step: int, config: TrainConfig) -> None:
    """Raises ContinuationError where the hosts have restored different states."""
    if config.cluster.workers == 1:
        return
    steps = tf.function(lambda: strategy.run(_all_steps, args=(tf.constant(float(step), tf.float64),)))()
    mean, square = (float(strategy.experimental_local_results(value)[0]) for value in steps)
    if square != mean**2:
        raise ContinuationError(
            f"the hosts do not see the same checkpoints (this one that of step {step}): {config.checkpoints} must be a "
            "folder that all of them share, like gs://"
        )


def _all_steps(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    context = tf.distribute.get_replica_context()
    here = tf.identity(step)  # on the device that takes part
    mean, square = context.all_reduce(tf.distribute.ReduceOp.MEAN, [here, here**2])
    return mean, square
