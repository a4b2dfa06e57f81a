"""Checks that a command may resume the run in its folder: the same run, at the same step on all hosts.

A finished run may be made longer. `config.json` and the checkpoints keep where that was, so that a run that is killed
at any moment goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.config import CONFIG, TrainConfig, another_run, changes, datasets_identity, new_run, without_length
from trainer.errors import refusals
from trainer.files import DamagedFileError, is_folder, make_folder, read_bytes, sealed, unsealed, write_whole
from trainer.training import devices, finish
from trainer.training.checkpoints import newest_step, read_about
from trainer.training.inputs import Inputs
from trainer.training.plan import Extension
from trainer.training.state import State

_CONFIG_BYTES = 2**22


class ContinuationError(UserError, ValueError):
    """A run that can't be started or resumed in a folder; the message says how to fix it."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """How a command continues the run in its folder.

    Attributes:
      inputs: their plan has all lengths that the run had.
      change: what makes the finished run longer; empty if nothing does.
      problem: a sentence if config.json was rebuilt.
    """

    inputs: Inputs
    change: str = ""
    problem: str | None = None


def keep_config(inputs: Inputs, is_new: bool) -> Continuation:
    """Writes config.json for a new run, else checks that the run was started with the same settings.

    A missing or damaged config.json is rebuilt from the checkpoints.

    Args:
      is_new: whether there are no checkpoints.

    Raises:
      ContinuationError: the settings differ, or those of the run are lost.
    """
    if is_new:
        _write_config(inputs)
        return Continuation(inputs=inputs)
    config, now = inputs.config, identity_of(inputs)
    before, problem = _identity_before(config)
    difference = another_run(config.places.output, before, without_length(now, before))
    if difference:
        raise ContinuationError(difference)
    total, plan = _total_steps(without_length(now, before), inputs), inputs.plan
    if plan.total_steps < total:
        raise ContinuationError(
            f"{config.places.output} has a run of {total:,} updates, which can't be made shorter: "
            f"{', '.join(changes(before, now))}. {new_run(config.places.output)}"
        )
    extended = tuple(_extension(each) for each in before.get("extended", ()))
    is_longer = plan.total_steps > total
    if is_longer:
        at = newest_step(config.places.checkpoints)
        extended += (Extension(total=total, at=at, iterations=at),)  # `go_on` knows the optimizer's
    inputs = replace(inputs, plan=replace(plan, extended=extended))
    if problem and not is_longer:
        _write_config(inputs)
    change = ", ".join(changes(before, now)) if is_longer else ""
    return Continuation(inputs=inputs, change=change, problem=problem)


def go_on(continuation: Continuation, state: State, iterations: int) -> Inputs:
    """Has the restored `state` go on where the run was made longer: from then on, config.json has the new length.

    Args:
      iterations: the restored count of updates of the optimizer.

    Returns:
      The inputs, whose plan has `iterations` if the command makes the run longer.

    Raises:
      ContinuationError: the command makes the run longer, but it is not finished.
    """
    inputs = continuation.inputs
    if continuation.change:
        _check_finished(continuation, state)
        *earlier, last = inputs.plan.extended
        extended = (*earlier, replace(last, iterations=iterations))
        inputs = replace(inputs, plan=replace(inputs.plan, extended=extended))
        _write_config(inputs)
    if int(state.step) in [each.at for each in inputs.plan.extended]:
        state.go_on()
        if inputs.config.cluster.is_chief:
            finish.forget(inputs.config)
    return inputs


def _check_finished(continuation: Continuation, state: State) -> None:
    *earlier, last = continuation.inputs.plan.extended
    folder, step = continuation.inputs.config.places.output, int(state.step)
    has_stopped = bool(state.stopped) and step not in [each.at for each in earlier]
    if step != last.at or int(state.epoch_end) != step or not (step >= last.total or has_stopped):
        where = f"step {step:,} of {last.total:,}" if step < last.total else "its last evaluation"
        raise ContinuationError(
            f"{folder}: {continuation.change}, but the run is not finished: it is at {where}. Run it to its end with "
            f"the earlier value first, or start another one: another --output, with --initial_model={folder} to start "
            "from these weights"
        )


def _total_steps(identity: Mapping[str, Any], inputs: Inputs) -> int:
    """The number of updates of a run with this identity, on the same data and with the same global batch."""
    return int(identity["steps"] or identity["epochs"] * inputs.plan.steps_per_epoch)


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """The values that must not change when the run is resumed, and where it was made longer, if it was."""
    extended = [_extension_to_json(each) for each in inputs.plan.extended]
    identity = inputs.config.identity | {
        "global_batch": inputs.batches.global_batch,
        "hosts": devices.input_pipelines(inputs.strategy),
        "dataset": datasets_identity([split.manifest.identity for split in inputs.train.splits]),
        "images": inputs.train.examples,
    }
    return identity | ({"extended": extended} if extended else {})


def _extension_to_json(extension: Extension) -> dict[str, int]:
    """The iterations only if the optimizer has skipped updates."""
    skips = {"iterations": extension.iterations} if extension.iterations != extension.at else {}
    return {"from": extension.total, "at": extension.at} | skips


def _extension(value: Mapping[str, int]) -> Extension:
    at = int(value["at"])
    return Extension(total=int(value["from"]), at=at, iterations=int(value.get("iterations", at)))


def _write_config(inputs: Inputs) -> None:
    """Only the chief writes it."""
    config = inputs.config
    if config.cluster.is_chief:
        _make_folder(config.places.output)
        value = {"identity": identity_of(inputs), "config": config.to_json()}
        write_whole(f"{config.places.output}/{CONFIG}", sealed(value))


def _identity_before(config: TrainConfig) -> tuple[dict[str, Any], str | None]:
    """-> the identity of the run in the folder, and what is wrong with its config.json; None if nothing is."""
    path = f"{config.places.output}/{CONFIG}"
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
