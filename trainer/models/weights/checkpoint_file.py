"""Reads checkpoints of TensorFlow 1: PREFIX.index and PREFIX.data-00000-of-00001, local or gs://."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from trainer.errors import cause_of, refusals
from trainer.files import is_folder, names_in, read_bytes
from trainer.models.errors import ModelError, WeightsError
from trainer.models.weights.checkpoint_index import check_end, read_index
from trainer.models.weights.transfer import Source

_ENDING = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")
# TensorFlow's reader has no error of its own for damage, and gives some errors as those of Python.
_DAMAGE = (tf.errors.OpError, IndexError, MemoryError, RuntimeError, ValueError)
_MOST_BYTES = 2**23  # of an index; Xception-65 and all slots of its optimizer have 2**18
_CURE = "get the files again: all of PREFIX.index and PREFIX.data-..."


def is_checkpoint(path: str) -> bool:
    """Whether `path` is a folder, one of the files of a checkpoint, or what their names begin with."""
    return is_folder(path) or bool(_ENDING.search(path)) or bool(tf.io.gfile.exists(f"{path}.index"))


def open_checkpoint(path: str) -> Source:
    """The variables of a checkpoint, which are read when they are asked for; their checksums are checked then.

    Args:
      path: what the names of its files begin with, such as model.ckpt; one of the files; or a folder with one
        checkpoint.

    Raises:
      WeightsError: there is no such checkpoint, or one of its files is missing.
      ModelError: it is damaged, or a folder has several.
    """
    prefix = _prefix(path)
    try:
        with refusals():
            entries = read_index(read_bytes(f"{prefix}.index", _MOST_BYTES))
            reader = tf.train.load_checkpoint(prefix)
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise WeightsError(f"{prefix}: a file of the checkpoint is missing ({cause_of(error)}); {_CURE}") from error
    except _DAMAGE as error:
        raise ModelError(f"{prefix} is not a checkpoint that can be read ({cause_of(error)}); {_CURE}") from error

    def read(name: str) -> np.ndarray:
        try:
            with refusals():
                check_end(prefix, entries[name])
                return np.asarray(reader.get_tensor(name))
        except _DAMAGE as error:
            raise ModelError(f"{prefix} is damaged: {name} can't be read ({cause_of(error)}); {_CURE}") from error

    return Source(path=prefix, shapes={name: entry.shape for name, entry in entries.items()}, read=read)


def _prefix(path: str) -> str:
    """What the names of the files begin with."""
    with refusals():
        if not is_folder(path):
            prefix = _ENDING.sub("", path)
            if not tf.io.gfile.exists(f"{prefix}.index"):
                raise WeightsError(f"there is no checkpoint {prefix}: {prefix}.index does not exist; set its path")
            return prefix
        found = [name.removesuffix(".index") for name in names_in(path) if name.endswith(".index")]
    if not found:
        raise WeightsError(f"{path} has no checkpoint: no file in it ends in .index; set the path of another folder")
    if len(found) > 1:
        raise ModelError(
            f"{path} has {len(found)} checkpoints: set the path of one of them, such as {path.rstrip('/')}/{found[-1]}"
        )
    return f"{path.rstrip('/')}/{found[0]}"
