"""Checks that a command may resume the run in its folder: the same run, at the same step on all hosts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.config import CONFIG, TrainConfig, another_run, datasets_identity
from trainer.errors import refusals
from trainer.files import DamagedFileError, is_folder, make_folder, read_bytes, sealed, unsealed, write_whole
from trainer.training import devices
from trainer.training.checkpoints import read_about
from trainer.training.inputs import Inputs

_CONFIG_BYTES = 2**22


class ContinuationError(UserError, ValueError):
    """A run that can't be started or resumed in a folder; the message says how to fix it."""


def keep_config(inputs: Inputs, is_new: bool) -> str | None:
    """Writes config.json for a new run, else checks that the run was started with the same settings.

    A missing or damaged config.json is rebuilt from the checkpoints.

    Args:
      is_new: whether there are no checkpoints.

    Returns:
      A sentence if config.json was rebuilt.

    Raises:
      ContinuationError: the settings differ, or those of the run are lost.
    """
    config, path = inputs.config, f"{inputs.config.places.output}/{CONFIG}"
    identity = identity_of(inputs)
    problem = None
    if not is_new:
        before, problem = _identity_before(config, path)
        difference = another_run(config.places.output, before, identity) if before else None
        if difference:
            raise ContinuationError(difference)
    if (is_new or problem) and config.cluster.is_chief:
        _make_folder(config.places.output)
        write_whole(path, sealed({"identity": identity, "config": config.to_json()}))
    return problem


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """The values that must not change when the run is resumed."""
    return inputs.config.identity | {
        "global_batch": inputs.batches.global_batch,
        "hosts": devices.input_pipelines(inputs.strategy),
        "dataset": datasets_identity([split.manifest.identity for split in inputs.train.splits]),
        "images": inputs.train.examples,
    }


def _identity_before(config: TrainConfig, path: str) -> tuple[dict[str, Any], str | None]:
    """-> the identity of the run in the folder, and what is wrong with its config.json; None if nothing is."""
    try:
        value = unsealed(read_bytes(path, _CONFIG_BYTES))
        if isinstance(value.get("identity"), dict):
            return value["identity"], None
        problem = "it is not the file of a training run"
    except FileNotFoundError:
        problem = "it is missing"
    except DamagedFileError as error:
        problem = str(error)
    if is_folder(path):
        raise ContinuationError(f"{path} is a folder instead of a file: set another --output")
    before = read_about(config.places.checkpoints)
    if not before:
        raise ContinuationError(
            f"{path} can't be used: {problem}. The checkpoints in {config.places.checkpoints} do not have the settings "
            "of the run either: restore the file from a backup, or set another --output"
        )
    return before, f"{path}: {problem}; rebuilt from the checkpoints"


def _make_folder(folder: str) -> None:
    try:
        with refusals():
            make_folder(folder)
    except tf.errors.OpError as error:
        raise ContinuationError(
            f"--output={folder} can't be created: {str(error).splitlines()[0]}; fix this or set another --output"
        ) from error


def check_common_step(strategy: tf.distribute.Strategy, step: int, config: TrainConfig) -> None:
    """Raises ContinuationError if the hosts have restored different checkpoints."""
    if config.cluster.workers == 1:
        return
    here = tf.constant(float(step), tf.float64)
    steps = tf.function(lambda: strategy.run(_all_steps, args=(here,)), autograph=False)()
    mean, square = (float(strategy.experimental_local_results(value)[0]) for value in steps)
    if square != mean**2:
        raise ContinuationError(
            f"the hosts do not see the same checkpoints (this host: step {step}): {config.places.checkpoints} must be "
            "shared by all hosts, as gs:// is"
        )


def _all_steps(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    context = tf.distribute.get_replica_context()
    here = tf.identity(step)  # a copy on this device
    mean, square = context.all_reduce(tf.distribute.ReduceOp.MEAN, [here, here**2])
    return mean, square
