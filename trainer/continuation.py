"""Whether a command goes on with the run that is there: it must be the same run, at one step on all hosts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer import devices
from trainer.buckets import refusals
from trainer.checkpoints import read_about
from trainer.config import CONFIG, TrainConfig
from trainer.files import DamagedFileError, read_bytes, sealed, unsealed, write_whole
from trainer.inputs import Inputs

_CONFIG_BYTES = 2**22


class ContinuationError(ValueError):
    """A run that can't be started in a folder, or continued; the message says what to do."""


def keep_config(inputs: Inputs, is_new: bool) -> str | None:
    """Writes config.json, or checks that the run that is there was started with the same. Without a checkpoint there is
    nothing to continue yet, and nothing to hold to. A config.json that is missing or damaged is made again from what
    the checkpoints say. -> a sentence where that was so.

    Raises:
      ContinuationError: this command would not continue it but make another one of it, or nothing tells.
    """
    config, path = inputs.config, f"{inputs.config.output}/{CONFIG}"
    identity = identity_of(inputs)
    problem = None
    if not is_new:
        before, problem = _identity_before(config, path)
        changed = [name for name in identity if before and identity[name] != before.get(name)]
        if changed:
            found = ", ".join(f"{name} was {before.get(name)} and is {identity[name]}" for name in changed)
            raise ContinuationError(
                f"{config.output} holds another run: {found}. Give another --output, or the same values"
            )
    if (is_new or problem) and config.cluster.is_chief:
        _make_folder(config.output)
        write_whole(path, sealed({"identity": identity, "config": config.to_json()}))
    return problem


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """What a continuation of this run must have in common with it."""
    return inputs.config.identity | {
        "global_batch": inputs.batches.global_batch,
        "hosts": devices.input_pipelines(inputs.strategy),
        "dataset": inputs.train.manifest.fingerprint,
        "images": inputs.train.examples,
    }


def _identity_before(config: TrainConfig, path: str) -> tuple[dict[str, Any], str | None]:
    """-> the identity of the run that is there, and what is wrong with its config.json."""
    try:
        value = unsealed(read_bytes(path, _CONFIG_BYTES))
        if isinstance(value.get("identity"), dict):
            return value["identity"], None
        problem = "it is not that of a training run"
    except FileNotFoundError:
        problem = "it is missing"
    except DamagedFileError as error:
        problem = str(error)
    if tf.io.gfile.isdir(path):
        raise ContinuationError(f"{path} is a folder, and is to be a file: give another --output")
    before = read_about(config.checkpoints)
    if not before:
        raise ContinuationError(
            f"{path} can't be used: {problem}. It says what the run was started with, and the checkpoints in "
            f"{config.checkpoints} do not: restore the file from a backup, or give another --output"
        )
    return before, f"{path}: {problem}; made again from what the checkpoints say"


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
