"""The state of a run on disk: the newest few, each of them checked before it is believed."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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

KEPT = 2  # the newest, and one to fall back on should it be damaged
_FILE = re.compile(r"ckpt-(0|[1-9][0-9]{0,17})\.(index|data-[0-9]{5}-of-[0-9]{5}|json)")
_RECORD_BYTES = 2**22

# A network's faults; falling back on an older state would throw away work that is there.
_PASSING = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError),
)


class CheckpointError(UserError, RuntimeError):
    """A state that can't be read or written; the message says what to do."""


class Checkpoints:
    """Saves and restores variables. On several hosts all must call each method, and only the chief's files stay.

    `ckpt-STEP.json` is written last, when the files of the step are on the disk: it names them with their sizes and, in
    a local folder, their digests, and holds `about`. Old checkpoints are deleted by these names alone. The file
    `checkpoint` is for TensorFlow's own tools.

    Attributes:
      problems: what `restore` found to be damaged and passed over.
      newest_step: of the state that was restored or saved last; None where there is none.
    """

    def __init__(
        self,
        folder: str,
        values: dict[str, Sequence[keras.Variable | tf.Variable]],
        is_chief: bool,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.newest_step: int | None = None
        self._is_chief = is_chief
        self._about = dict(about or {})
        self._good: list[int] = []  # steps that were restored or saved, oldest first
        raw = {name: [_raw(each) for each in group] for name, group in values.items()}
        self._values = [each for group in raw.values() for each in group]
        self._state = tf.train.Checkpoint(**raw)
        _ = self._state.save_counter  # made now, so that it is in what `write` writes

    def restore(self) -> bool:
        """Sets all variables as the newest whole checkpoint has them. -> False where there is none.

        Raises:
          CheckpointError: what is there is damaged, or of another model.
        """
        for step in reversed(_steps(self.folder)):
            path = f"{self.folder}/ckpt-{step}"
            try:
                self._restore(step)
            except _PASSING as error:
                raise CheckpointError(
                    f"{path} can't be read: {refusal(error) or error}; run the same command again when it can"
                ) from error
            # IndexError, SystemError: an index that is cut short
            except (tf.errors.OpError, IndexError, ValueError, AssertionError, SystemError, FileNotFoundError) as error:
                self.problems.append(f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}")
                continue
            self.newest_step = step
            self._good = [step]
            return True
        if self.problems:
            raise CheckpointError(
                "no checkpoint can be read: " + "; ".join(self.problems) + f". Delete {self.folder} to start over"
            )
        return False

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

    def _restore(self, step: int) -> None:
        _check(self.folder, step)
        with _readable(self.folder, step) as path:
            self._state.read(path).assert_consumed()

    def _save(self, step: int) -> None:
        if self._is_chief:
            make_folder(self.folder)
            self._state.write(f"{self.folder}/ckpt-{step}")
            _vouch(self.folder, step, self._about)
            self._good = [*(each for each in self._good if each != step), step][-KEPT:]
            _name_newest(self.folder, self._good)
            _delete_others(self.folder, self._good)
        else:  # a part of the reading is done together, the chief alone keeps the result
            with tempfile.TemporaryDirectory() as scratch:
                self._state.write(f"{scratch}/state")
        self.newest_step = step


def has_checkpoints(folder: str) -> bool:
    """Whether there is any file of a checkpoint, whole or not."""
    return bool(_steps(folder))


def read_about(folder: str) -> dict[str, Any]:
    """What the newest checkpoint that has a readable record was saved with; empty where there is none."""
    for step in reversed(_steps(folder)):
        with contextlib.suppress(DamagedFileError, FileNotFoundError):
            return dict(_read_record(folder, step)["about"])
    return {}


def _steps(folder: str) -> list[int]:
    found = filter(None, map(_FILE.fullmatch, names_in(folder)))
    return sorted({int(match[1]) for match in found})


def _parts(folder: str, step: int) -> list[str]:
    """The names of the files that hold the state of `step`."""
    matches = filter(None, map(_FILE.fullmatch, names_in(folder)))
    return [match[0] for match in matches if int(match[1]) == step and match[2] != "json"]


def _vouch(folder: str, step: int, about: Mapping[str, Any]) -> None:
    files: dict[str, dict[str, Any]] = {}
    for name in _parts(folder, step):
        path = f"{folder}/{name}"
        flush(path)
        files[name] = {"bytes": tf.io.gfile.stat(path).length}
        if is_local(path):  # to read it back from a bucket would cost a download for each save
            files[name]["sha256"] = sha256_of(path)
    flush(folder)
    write_whole(f"{folder}/ckpt-{step}.json", sealed({"step": step, "files": files, "about": dict(about)}))


def _read_record(folder: str, step: int) -> dict[str, Any]:
    """Raises DamagedFileError, or FileNotFoundError where the checkpoint was not finished, or has none."""
    record = unsealed(read_bytes(f"{folder}/ckpt-{step}.json", _RECORD_BYTES))
    files = record.get("files")
    if not isinstance(files, dict) or not isinstance(record.get("about"), dict):
        raise DamagedFileError(f"ckpt-{step}.json is no record of a checkpoint")
    for name, facts in files.items():
        match = _FILE.fullmatch(name)
        if match is None or int(match[1]) != step or not isinstance(facts, dict) or "bytes" not in facts:
            raise DamagedFileError(f"ckpt-{step}.json is no record of a checkpoint: it names {name!r}")
    return record


def _check(folder: str, step: int) -> None:
    """Raises DamagedFileError where a file is not as the record of the checkpoint has it. Without a readable record
    there is nothing to compare with, and TensorFlow's checksums of each tensor decide alone.
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
            raise DamagedFileError(f"{name} has {size:,} bytes and was written with {facts['bytes']:,}")
        if "sha256" in facts and is_local(path) and sha256_of(path) != facts["sha256"]:
            raise DamagedFileError(f"{name} does not have the sha256 that it was written with")


@contextlib.contextmanager
def _readable(folder: str, step: int) -> Iterator[str]:
    """A path of the checkpoint that TensorFlow, for which `[1]`, `*` and `?` are patterns, reads as it stands."""
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
    """Deletes what the records of other checkpoints name; the record last, so that an interrupted deletion goes on."""
    for step in _steps(folder):
        if step in kept:
            continue
        with contextlib.suppress(DamagedFileError, FileNotFoundError):
            for name in [*_read_record(folder, step)["files"], f"ckpt-{step}.json"]:
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(f"{folder}/{name}")


def _raw(variable: keras.Variable | tf.Variable) -> tf.Variable:
    return variable if isinstance(variable, tf.Variable) else variable.value
