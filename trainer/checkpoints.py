"""The state of a run on disk: the newest few, each of them complete or absent."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import keras
import tensorflow as tf

from trainer.buckets import refusal, refusals

KEPT = 2  # the newest, and one to fall back on should it be damaged

# A network's faults; falling back on an older state would throw away work that is there.
_PASSING = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError),
)


class CheckpointError(RuntimeError):
    """A state that can't be read or written; the message says what to do."""


class Checkpoints:
    """Saves and restores variables. On several hosts all must call each method, and only the chief's files stay.

    TensorFlow writes a checkpoint's parts under other names and its index last, then names it in the file
    `checkpoint`; a run that is killed in between goes on from the one before.
    """

    def __init__(self, folder: str, values: dict[str, Sequence[keras.Variable | tf.Variable]], is_chief: bool) -> None:
        self.folder = folder
        self._is_chief = is_chief
        raw = {name: [_raw(each) for each in group] for name, group in values.items()}
        self._values = [each for group in raw.values() for each in group]
        self._state = tf.train.Checkpoint(**raw)
        self._manager = tf.train.CheckpointManager(self._state, folder, max_to_keep=KEPT)

    def restore(self) -> bool:
        """Sets all variables as the newest whole checkpoint has them. -> False where there is none.

        Raises:
          CheckpointError: what is there is damaged, or of another model.
        """
        paths = list(reversed(self._manager.checkpoints))
        problems = []
        if not paths and checkpoint_files(self.folder):
            problems.append(
                f"{self.folder} has checkpoints, but its file `checkpoint`, which names them, can't be read"
            )
        for path in paths:
            try:
                self._state.restore(path).assert_consumed()
                return True
            except _PASSING as error:
                raise CheckpointError(
                    f"{path} can't be read: {refusal(error) or error}; start again when it can"
                ) from error
            except (tf.errors.OpError, IndexError, ValueError, AssertionError) as error:  # IndexError: cut short
                problems.append(f"{path}: {str(error).splitlines()[0]}")
        if problems:
            raise CheckpointError(
                "no checkpoint can be read: " + "; ".join(problems) + f". Delete {self.folder} to start over"
            )
        return False

    @property
    def newest_step(self) -> int | None:
        newest = self._manager.latest_checkpoint
        return None if newest is None else int(newest.rpartition("-")[2])

    def is_finite(self) -> bool:
        """Whether none of the values is NaN or infinite."""
        floats = [tf.convert_to_tensor(each) for each in self._values if each.dtype.is_floating]
        return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in floats]))

    def save(self, step: int) -> None:
        """Raises CheckpointError where it can't be written; those before it stay."""
        try:
            with refusals():
                self._save(step)
        except (tf.errors.OpError, OSError) as error:
            raise CheckpointError(f"{self.folder}: step {step} can't be saved: {error}") from error

    def _save(self, step: int) -> None:
        if self._is_chief:
            self._manager.save(checkpoint_number=step)
        else:  # a part of the reading is done together, the chief alone keeps the result
            with tempfile.TemporaryDirectory() as scratch:
                self._state.write(f"{scratch}/state")


def checkpoint_files(folder: str) -> list[str]:
    """The indexes of the checkpoints that are there."""
    found: list[str] = tf.io.gfile.glob(f"{folder}/ckpt-*.index")
    return found


def _raw(variable: keras.Variable | tf.Variable) -> tf.Variable:
    return variable if isinstance(variable, tf.Variable) else variable.value
