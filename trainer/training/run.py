"""The composition root of a training run: creates all its parts from a TrainConfig."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence

import keras
import tensorflow as tf
from rich.console import Console

from trainer.config import TrainConfig
from trainer.data import corrupt
from trainer.errors import cause_of, refusals
from trainer.inference.model_file import BEST, ModelFileError, read_description
from trainer.inference.saved_model import check_free
from trainer.objective.optimizers import Schedule
from trainer.training import devices, finish
from trainer.training.checkpoints import Checkpoints, has_checkpoints
from trainer.training.drawn import DrawnClasses
from trainer.training.errors import TrainingError
from trainer.training.followed import make_follower
from trainer.training.history import History
from trainer.training.inputs import Inputs, open_inputs
from trainer.training.journal import Journal, NullJournal
from trainer.training.learner import Learner, build_loss, make_learner, make_schedule
from trainer.training.loop import Loop
from trainer.training.progress import ShowProgress
from trainer.training.resume import Continuation, check_common_step, go_on, identity_of, keep_config
from trainer.training.state import ADDED, State
from trainer.training.steps import TrainSteps
from trainer.training.stop import StopSignal
from trainer.training.validation import Validation

_ONE_CLASS = (
    "warning: the data set has one class and everything else is ignored: whatever the model predicts is right, and its "
    "mean IoU is 1. Give the rest a class of its own in the label table, and build the data set again"
)
_POLICIES = {"float64": "float64", "float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback] = ()) -> History:
    """Trains, or resumes training, then evaluates and exports.

    Args:
      callbacks: Keras callbacks, which get the events of `keras.Model.fit` on every host; a batch is a call of several
        updates. The logs of an epoch have "loss" and "mean_iou", over its updates, and "learning_rate", that of the
        last one; and "val_loss" and "val_mean_iou" if it was evaluated. At its end a callback may set `stop_training`,
        if it does so on all hosts.

    Raises:
      DatasetError, ManifestError: the data set can't be read.
      DeviceError: the settings do not fit the devices.
      ContinuationError, CheckpointError: the run in the folder can't be resumed.
      TrainingError, ModelError, ModelFileError: the model can't be made.
      NotFiniteError: training diverged.
      UserError: any other error that the user can fix; it is the base of all of these.
    """
    with refusals():
        return _run(config, callbacks, Console(quiet=not config.cluster.is_chief, soft_wrap=True))


def _run(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback], console: Console) -> History:
    started = time.monotonic()
    strategy = _set_up(config)
    inputs = open_inputs(config, strategy, console)
    console.print(str(inputs), highlight=False, markup=False)
    if inputs.train.manifest.labels.num_classes == 1:
        console.print(_ONE_CLASS, highlight=False)
    is_new = not has_checkpoints(config.places.checkpoints)
    continuation = keep_config(inputs, is_new)
    if continuation.problem:
        console.print(continuation.problem, highlight=False, markup=False)
    if config.cluster.is_chief and not config.reporting.no_export:
        check_free(config.places.export, overwrite=True)
    loop = _make_loop(continuation, callbacks, console, is_new)
    with loop.follower:
        if not _is_complete(loop, console):
            if not is_new:
                console.print(f"resuming at step {int(loop.state.step):,}", highlight=False)
            history = _carry_out(loop, console)
            if history.signal is not None:
                return history
            console.print(f"took {(time.monotonic() - started) / 60:.1f} min", highlight=False)
        if config.cluster.is_chief:
            loop.follower.finish(loop.journal.rows, lambda: finish.files_to_track(config))
    return _history(loop)


def _carry_out(loop: Loop, console: Console) -> History:
    """Trains, and on the chief evaluates and exports. -> the history, with the signal that stopped it."""
    with StopSignal() as stop:
        is_done = _train(loop, stop)
    if not is_done or stop.number is not None:
        console.print(f"stopped at step {int(loop.state.step):,}, which is saved; run the same command again to resume")
        return _history(loop, stop.number or signal.SIGTERM)  # or another host was asked to stop
    if loop.state.why_stopped:
        console.print(f"stopped early at step {int(loop.state.step):,}: {loop.state.why_stopped}", highlight=False)
    if loop.inputs.config.cluster.is_chief:
        _finish(loop, console)
    return _history(loop)


def _is_complete(loop: Loop, console: Console) -> bool:
    """Whether there is nothing left to do, which it says; or else what is missing after the training."""
    config, state = loop.inputs.config, loop.state
    has_ended = int(state.step) >= loop.inputs.plan.total_steps and int(state.epoch_end) == int(state.step)
    if not state.stopped and not has_ended:
        return False
    missing = finish.what_is_missing(config)
    early = f"; it stopped early: {state.why_stopped}" if state.why_stopped else ""
    longer = "; a larger --epochs or --steps makes it longer"
    done = f"{config.places.output} is already complete: {int(state.step):,} updates{early}{longer}"
    console.print(missing or done, highlight=False, markup=False)
    return missing is None


def _history(loop: Loop, stopped_by: int | None = None) -> History:
    state = loop.state
    return History(
        step=int(state.step),
        rows=tuple(loop.journal.rows),
        best_step=int(state.best_step) or None,
        best_mean_iou=float(state.best) if float(state.best) >= 0 else None,
        why_stopped=state.why_stopped,
        signal=None if stopped_by is None else int(stopped_by),
    )


def _finish(loop: Loop, console: Console) -> None:
    try:
        finish.evaluate_and_export(loop.inputs, loop.evaluate.scored, console)
    except KeyboardInterrupt:
        console.print(
            "training is complete and the best model is saved; run the same command again to write the report and the "
            "export"
        )
        raise


def _set_up(config: TrainConfig) -> tf.distribute.Strategy:
    """Sets the global state of Keras and TensorFlow: seeds, precision and determinism. -> the strategy."""
    machine = config.machine
    strategy = devices.make_strategy(machine.strategy, cluster=config.cluster, logical_devices=machine.logical_devices)
    keras.utils.set_random_seed(config.data.seed)
    keras.config.set_dtype_policy(_POLICIES[machine.precision])
    if machine.deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy


def _make_loop(
    continuation: Continuation, callbacks: Sequence[keras.callbacks.Callback], console: Console, is_new: bool
) -> Loop:
    inputs = continuation.inputs
    schedule = make_schedule(inputs)
    with inputs.strategy.scope():
        learner = make_learner(inputs, schedule, console, is_new=is_new)
        steps = TrainSteps(
            learner,
            build_loss(inputs),
            inputs.strategy,
            inputs.batches,
            pixels=inputs.pixels,
            normalization=inputs.normalization,
            xla=inputs.config.machine.xla,
        )
    state = State(inputs.train.manifest.labels.num_classes)
    checkpoints = _restored(inputs, learner, state, console)
    inputs = go_on(continuation, state, int(tf.convert_to_tensor(learner.optimizer.iterations.value)))
    schedule.earlier = make_schedule(inputs).earlier  # known only now; no update has been traced yet
    checkpoints.about = identity_of(inputs)
    shown = make_schedule(inputs, counts_skipped=True)
    if continuation.change:
        console.print(_longer(inputs, shown), highlight=False, markup=False)
    journal, validation = _open_results(inputs, learner, state, console)
    return Loop(
        inputs=inputs,
        learner=learner,
        steps=steps,
        state=state,
        learning_rate=lambda step: float(shown(step)),
        evaluate=validation,
        checkpoints=checkpoints,
        journal=journal,
        callbacks=_callback_list(inputs, learner.model, [_progress(inputs, state, console), *callbacks]),
        follower=make_follower(inputs, console),
        drawn=_drawn(inputs, console),
    )


def _longer(inputs: Inputs, schedule: Schedule) -> str:
    """What a finished run that is made longer begins with."""
    at, total = inputs.plan.extended[-1].at, inputs.plan.total_steps
    before, now = float(schedule(at - 1)), float(schedule(at))
    return (
        f"{inputs.config.places.output} was complete after {at:,} updates and is made longer, to {total:,}: the "
        f"learning rate jumps from {before:.3g} to {now:.3g}"
    )


def _restored(inputs: Inputs, learner: Learner, state: State, console: Console) -> Checkpoints:
    """Restores the learner and the state from the newest intact checkpoint, if there is one."""
    checkpoints = Checkpoints(
        inputs.config.places.checkpoints,
        learner.variables | state.variables,
        is_chief=inputs.config.cluster.is_chief,
        added=[ADDED],
    )
    checkpoints.restore()
    for problem in checkpoints.problems:
        console.print(f"skipping a damaged checkpoint: {problem}", highlight=False, markup=False)
    check_common_step(inputs.strategy, int(state.step), inputs.config)
    return checkpoints


def _open_results(inputs: Inputs, learner: Learner, state: State, console: Console) -> tuple[Journal, Validation]:
    """If the best model was lost, the next evaluation saves one; after the last update, that is done here."""
    is_over = bool(state.stopped) or int(state.step) >= inputs.plan.total_steps
    is_lost = _forget_lost_best(f"{inputs.config.places.output}/{BEST}", state, is_over, console)
    evaluated = int(state.step) - 1 if is_lost and is_over else int(state.epoch_end)
    journal = _open_journal(inputs.config, state, evaluated, console)
    journal.add_hyperparameters(identity_of(inputs))
    validation = Validation(inputs=inputs, learner=learner, state=state, journal=journal, console=console)
    if is_lost and is_over:
        with refusals():
            validation(int(state.step), lambda: False)
    return journal, validation


def _drawn(inputs: Inputs, console: Console) -> DrawnClasses | None:
    """Prints which classes were drawn, if uniform sampling would draw others."""
    train = inputs.train
    if not train.is_class_uniform:
        return None
    return DrawnClasses(train.manifest.labels, train.class_pixels(inputs.config.data.train_splits), console)


def _progress(inputs: Inputs, state: State, console: Console) -> ShowProgress:
    return ShowProgress(console, first=int(state.step), total=inputs.plan.total_steps)


def _callback_list(
    inputs: Inputs, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
) -> keras.callbacks.CallbackList:
    plan = inputs.plan
    epochs = -(-plan.total_steps // plan.steps_per_epoch)
    return keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=plan.steps_per_epoch)


def _forget_lost_best(path: str, state: State, is_over: bool, console: Console) -> bool:
    """Whether the best model is missing or damaged. If so, resets its score, so that the next evaluation saves one."""
    if float(state.best) < 0 and not is_over:
        return False  # none was saved yet
    try:
        read_description(path)
        return False
    except ModelFileError as error:
        cure = "the current model replaces it" if is_over else "the best model of the next evaluations replaces it"
        console.print(f"{error}; {cure}", highlight=False, markup=False)
    state.best.assign(-1.0)
    return True


def _open_journal(config: TrainConfig, state: State, evaluated: int, console: Console) -> Journal:
    """The journal of the run; only the chief writes."""
    if not config.cluster.is_chief:
        return NullJournal()
    journal = Journal(
        config.places.output,
        config.places.logs,
        step=int(state.step),
        evaluated=evaluated,
        reports_metric=config.reports_metric,
    )
    for problem in journal.problems:
        console.print(problem, highlight=False, markup=False)
    return journal


def _train(loop: Loop, stop: StopSignal) -> bool:
    try:
        with refusals():
            is_done = loop.run(stop)
            loop.journal.flush(now=True)
            return is_done
    except tf.errors.NotFoundError as error:
        raise TrainingError(
            f"a file is missing: {cause_of(error)}; restore it and run the same command again"
        ) from error
    except corrupt.READ_ERRORS as error:
        found = corrupt.diagnosis(error, *loop.inputs.train.splits, *filter(None, [loop.inputs.val]))
        if found is None:
            raise
        raise found from error
    finally:
        with contextlib.suppress(OSError, tf.errors.OpError):  # it would hide the first error
            loop.journal.close()
