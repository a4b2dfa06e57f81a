"""Checkpoints of a run: the newest few are kept, and each is verified before it is restored."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.errors import refusal, refusals
from trainer.files import (
    DamagedFileError,
    flush,
    is_local,
    make_folder,
    names_in,
    read_bytes,
    sealed,
    sha256_of,
    unsealed,
    write_whole,
)

KEPT = 2  # the newest, and one to fall back on if it is damaged
_FILE = re.compile(r"ckpt-(0|[1-9][0-9]{0,17})\.(index|data-[0-9]{5}-of-[0-9]{5}|json)")
_RECORD_BYTES = 2**22

# Errors of the network: falling back on an older checkpoint would discard the work since then.
_TRANSIENT = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError),
)


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that can't be read or written; the message says how to fix it."""


class Checkpoints:
    """Saves and restores variables. With several hosts, all must call each method; only the chief's files are kept.

    `ckpt-STEP.json`, the record, is written last, after the files of the step have been flushed to the disk. It holds
    `about` and the name, size and, in a local folder, SHA-256 digest of each file. Old checkpoints are deleted only by
    these names. The file `checkpoint` is for TensorFlow's own tools.

    Args:
      values: the variables, by group.
      added: groups that keep their values if a checkpoint of an earlier version lacks them.

    Attributes:
      about: what the records of the checkpoints that are saved next hold, for `read_about`.
      problems: one line for each damaged checkpoint that `restore` skipped.
      newest_step: step of the checkpoint that was restored or saved last; None if there is none.
    """

    def __init__(
        self,
        folder: str,
        values: dict[str, Sequence[keras.Variable | tf.Variable]],
        is_chief: bool,
        added: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.newest_step: int | None = None
        self._is_chief = is_chief
        self.about: Mapping[str, Any] = {}
        self._good: list[int] = []  # steps that were restored or saved, oldest first
        self._groups = {name: [_raw(each) for each in group] for name, group in values.items()}
        self._added = frozenset(added)
        self._values = [each for group in self._groups.values() for each in group]
        self._state = _checkpoint_of(self._groups)

    def restore(self) -> bool:
        """Restores all variables from the newest intact checkpoint. -> False if there are no checkpoints.

        Raises:
          CheckpointError: a checkpoint can't be read now, or all are damaged or of another model.
        """
        for step in reversed(_steps(self.folder)):
            path = f"{self.folder}/ckpt-{step}"
            try:
                self._restore(step)
            except _TRANSIENT as error:
                raise CheckpointError(
                    f"{path} can't be read: {refusal(error) or error}; fix this and run the same command again"
                ) from error
            # IndexError, SystemError: a truncated index
            except (tf.errors.OpError, IndexError, ValueError, AssertionError, SystemError, FileNotFoundError) as error:
                self.problems.append(f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}")
                continue
            self.newest_step = step
            self._good = [step]
            return True
        if self.problems:
            raise CheckpointError(
                f"no checkpoint can be read: {'; '.join(self.problems)}. Restore the files from a backup, or delete "
                f"{self.folder} to start over"
            )
        return False

    def is_finite(self) -> bool:
        """Whether all values are finite."""
        floats = [tf.convert_to_tensor(each) for each in self._values if each.dtype.is_floating]
        return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in floats]))

    def save(self, step: int) -> None:
        """Saves a checkpoint. Raises CheckpointError if it can't be written; earlier checkpoints are kept."""
        try:
            with refusals():
                self._save(step)
        except (tf.errors.OpError, OSError) as error:
            raise CheckpointError(f"{self.folder}: step {step} can't be saved: {error}") from error

    def _restore(self, step: int) -> None:
        _check(self.folder, step)
        with _readable(self.folder, step) as path:
            found = {name.partition("/")[0] for name in tf.train.load_checkpoint(path).get_variable_to_shape_map()}
            lacking = self._added - found
            groups = {name: group for name, group in self._groups.items() if name not in lacking}
            (_checkpoint_of(groups) if lacking else self._state).read(path).assert_consumed()

    def _save(self, step: int) -> None:
        if self._is_chief:
            make_folder(self.folder)
            self._state.write(f"{self.folder}/ckpt-{step}")
            _write_record(self.folder, step, self.about)
            self._good = [*(each for each in self._good if each != step), step][-KEPT:]
            _name_newest(self.folder, self._good)
            _delete_others(self.folder, self._good)
        else:  # all hosts take part in reading the variables, and only the chief keeps the files
            with tempfile.TemporaryDirectory() as scratch:
                self._state.write(f"{scratch}/state")
        self.newest_step = step


def has_checkpoints(folder: str) -> bool:
    """Whether the folder has any file of a checkpoint, complete or not."""
    return bool(_steps(folder))


def newest_step(folder: str) -> int:
    """The step of the newest checkpoint, complete or not; 0 if there is none."""
    return max(_steps(folder), default=0)


def read_about(folder: str) -> dict[str, Any]:
    """The `about` of the newest checkpoint with a readable record; empty if there is none."""
    for step in reversed(_steps(folder)):
        with contextlib.suppress(DamagedFileError, FileNotFoundError):
            return dict(_read_record(folder, step)["about"])
    return {}


def _steps(folder: str) -> list[int]:
    found = filter(None, map(_FILE.fullmatch, names_in(folder)))
    return sorted({int(match[1]) for match in found})


def _parts(folder: str, step: int) -> list[str]:
    """The names of the files that hold the variables of `step`."""
    matches = filter(None, map(_FILE.fullmatch, names_in(folder)))
    return [match[0] for match in matches if int(match[1]) == step and match[2] != "json"]


def _write_record(folder: str, step: int, about: Mapping[str, Any]) -> None:
    files: dict[str, dict[str, Any]] = {}
    for name in _parts(folder, step):
        path = f"{folder}/{name}"
        flush(path)
        files[name] = {"bytes": tf.io.gfile.stat(path).length}
        if is_local(path):  # reading it back from a bucket would cost a download for each checkpoint
            files[name]["sha256"] = sha256_of(path)
    flush(folder)
    write_whole(f"{folder}/ckpt-{step}.json", sealed({"step": step, "files": files, "about": dict(about)}))


def _read_record(folder: str, step: int) -> dict[str, Any]:
    """Raises DamagedFileError, or FileNotFoundError if the checkpoint is incomplete or has no record."""
    record = unsealed(read_bytes(f"{folder}/ckpt-{step}.json", _RECORD_BYTES))
    files = record.get("files")
    if not isinstance(files, dict) or not isinstance(record.get("about"), dict):
        raise DamagedFileError(f"ckpt-{step}.json is not the record of a checkpoint")
    for name, facts in files.items():
        match = _FILE.fullmatch(name)
        if match is None or int(match[1]) != step or not isinstance(facts, dict) or "bytes" not in facts:
            raise DamagedFileError(f"ckpt-{step}.json is not the record of a checkpoint: it names {name!r}")
    return record


def _check(folder: str, step: int) -> None:
    """Raises DamagedFileError if a file differs from the record of the checkpoint.

    Without a readable record, only TensorFlow's checksums of each tensor are verified.
    """
    try:
        record = _read_record(folder, step)
    except (DamagedFileError, FileNotFoundError):
        return
    for name, facts in record["files"].items():
        path = f"{folder}/{name}"
        if not tf.io.gfile.exists(path):
            raise DamagedFileError(f"{name} is missing")
        size = tf.io.gfile.stat(path).length
        if size != facts["bytes"]:
            raise DamagedFileError(f"{name} has {size:,} bytes instead of {facts['bytes']:,}")
        if "sha256" in facts and is_local(path) and sha256_of(path) != facts["sha256"]:
            raise DamagedFileError(f"{name} does not have the sha256 of its record")


@contextlib.contextmanager
def _readable(folder: str, step: int) -> Iterator[str]:
    """Yields a path of the checkpoint that TensorFlow does not take for a pattern because of `[1]`, `*` or `?`."""
    if not re.search(r"[\[\]*?\\]", folder):
        yield f"{folder}/ckpt-{step}"
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name in _parts(folder, step):
            if is_local(folder):
                os.symlink(os.path.abspath(f"{folder}/{name}"), f"{scratch}/{name}")
            else:
                tf.io.gfile.copy(f"{folder}/{name}", f"{scratch}/{name}")
        yield f"{scratch}/ckpt-{step}"


def _name_newest(folder: str, steps: Sequence[int]) -> None:
    lines = [f'model_checkpoint_path: "ckpt-{steps[-1]}"']
    lines += [f'all_model_checkpoint_paths: "ckpt-{step}"' for step in steps]
    write_whole(f"{folder}/checkpoint", "".join(line + "\n" for line in lines).encode())


def _delete_others(folder: str, kept: Sequence[int]) -> None:
    """Deletes the files that the records of other checkpoints name; the record last, so that a retry can continue."""
    for step in _steps(folder):
        if step in kept:
            continue
        with contextlib.suppress(DamagedFileError, FileNotFoundError):
            for name in [*_read_record(folder, step)["files"], f"ckpt-{step}.json"]:
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(f"{folder}/{name}")


def _checkpoint_of(groups: Mapping[str, Sequence[tf.Variable]]) -> tf.train.Checkpoint:
    made = tf.train.Checkpoint(**groups)
    _ = made.save_counter  # creates it, so that `write` saves it
    return made


def _raw(variable: keras.Variable | tf.Variable) -> tf.Variable:
    return variable if isinstance(variable, tf.Variable) else variable.value
