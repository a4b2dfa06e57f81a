"""Verifies a `.keras` file before Keras loads it, so that no more memory is allocated than the file has weights."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
DESCRIPTION = "street_scenes.json"

_MIB = 2**20
_LIMITS = {DESCRIPTION: 4 * _MIB, METADATA: _MIB, CONFIG: 64 * _MIB}  # bytes
_MEMBERS = 64  # Keras writes three, and this trainer adds one
_RATIO = 16  # largest ratio of size to compressed size; Keras does not compress, and weights hardly shrink
_LARGEST = 2**31 - 1  # stride, kernel, rate or side that TensorFlow takes
_LEVELS = 64  # of nesting in a configuration
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)


class ArchiveError(UserError, ValueError):
    """A `.keras` file that can't be loaded. The message is the end of a sentence that begins with its path."""


def read_member(path: str, name: str) -> Any:
    """The JSON value of a member of the archive `path`, after a check of the sizes and checksums of all members.

    Raises:
      ArchiveError: a size or checksum is wrong, there is no such member, or it is not JSON.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, os.path.getsize(path))
            damaged = archive.testzip()
            if damaged is not None:
                raise ArchiveError(f"is damaged: the checksum of its {damaged} is wrong")
            return json.loads(archive.read(name))
    except KeyError as error:
        raise ArchiveError(f"has no {name}: it was not written by this trainer") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"is damaged: its {name} is not JSON, or nested too deeply") from error
    except _ZIP_FAULTS as error:
        raise ArchiveError(f"is not a .keras file, or is damaged: {error}") from error


def load(path: str) -> Any:
    """The object that Keras creates from the configuration and the weights in the archive.

    Raises:
      ArchiveError: a member is missing, the weights are not a plain HDF5 file, or are fewer than the layers need.
      Exception: any error of Keras.
    """
    config = read_member(path, CONFIG)
    _check_config(config)
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(path) as archive:
        if WEIGHTS not in archive.namelist():
            raise ArchiveError(f"is damaged: it has no {WEIGHTS}")
        weights = archive.extract(WEIGHTS, scratch)
        model = build(config, count_weights(weights))
        if isinstance(model, keras.Model):
            model.load_weights(weights)
        return model


def count_weights(path: str) -> int:
    """The number of weights in an HDF5 file. Raises ArchiveError if it has links to other files, or compressed data."""
    size = os.path.getsize(path)
    try:
        with h5py.File(path) as file:
            sets = list(_datasets(file, "", 0))
            held = sum(each.id.get_storage_size() for each in sets)
            asked = sum(each.nbytes for each in sets)
            numbers = sum(each.size or 0 for each in sets)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ArchiveError(f"is damaged: its {WEIGHTS} is not an HDF5 file ({str(error).splitlines()[0]})") from error
    if held > size or asked > held:
        raise ArchiveError(f"is damaged: its {WEIGHTS} has {size:,} bytes, but claims {asked:,} bytes of weights")
    return numbers


def build(config: Any, held: int) -> Any:
    """Creates the layers of a configuration, which may have at most `held` weights.

    Variables get memory only after their shapes are counted. Keras keeps a list of uninitialized variables per thread;
    a separate thread discards those of a model that is refused.

    Raises:
      ArchiveError: the layers need more weights.
      Exception: any error of Keras.
    """
    made: list[Any] = []
    failed: list[Exception] = []
    strategy = tf.distribute.get_strategy()

    def make() -> None:
        try:
            with strategy.scope():
                made.append(_make(config, held))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _make(config: Any, held: int) -> Any:
    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)
        asked = sum(math.prod(map(int, each.shape)) for each in getattr(model, "weights", ()))
    if asked > held:
        raise ArchiveError(f"is damaged: its layers need {asked:,} weights, but its {WEIGHTS} has {held:,}")
    with keras.StatelessScope():
        pass  # at its end, Keras initializes all variables of this thread
    return model


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ArchiveError if a member would need more memory than such a file of `size` bytes can have."""
    members = archive.infolist()
    if len(members) > _MEMBERS:
        raise ArchiveError(f"is not a .keras file of this trainer: it has {len(members):,} members")
    for member in members:
        if member.compress_size > size:
            raise ArchiveError(
                f"is damaged: its {member.filename} would take {member.compress_size:,} of its {size:,} bytes"
            )
        limit = _LIMITS.get(member.filename, _RATIO * member.compress_size + _MIB)
        if member.file_size > limit:
            raise ArchiveError(
                f"is damaged, or not a .keras file: its {member.filename} would have {member.file_size:,} bytes, more "
                f"than {limit:,}"
            )


def _check_config(config: Any) -> None:
    """Raises ArchiveError if a layer contains code, or is not part of Keras or of this trainer."""
    level = [config]
    for _ in range(_LEVELS):
        objects = [each for each in level if isinstance(each, dict)]
        for each in objects:
            _check_object(each)
        lists = [each for each in level if isinstance(each, list)]
        large = [value for each in lists for value in each if isinstance(value, int) and abs(value) > _LARGEST]
        if large:
            raise ArchiveError(f"is damaged: its {CONFIG} has a size of {large[0]:,}, more than {_LARGEST:,}")
        level = [value for each in objects for value in each.values()] + [value for each in lists for value in each]
    if any(isinstance(each, (dict, list)) for each in level):
        raise ArchiveError(f"is damaged: its {CONFIG} is nested more than {_LEVELS} levels deep")


def _check_object(value: dict[str, Any]) -> None:
    if "class_name" not in value:
        return
    module, name = value.get("module"), value["class_name"]
    if name in ("Lambda", "__lambda__"):
        raise ArchiveError(
            f"contains code (a layer {name}), which is not run: save a model that has only layers of Keras"
        )
    known = module is None or (isinstance(module, str) and module.split(".")[0] in ("keras", "builtins", "trainer"))
    if not known:
        raise ArchiveError(f"needs {module}.{name}, which is not part of Keras or of this trainer")


def _datasets(group: h5py.Group, place: str, level: int) -> Iterator[h5py.Dataset]:
    if level > _LEVELS:
        raise ArchiveError(f"is damaged: its {WEIGHTS} is nested more than {_LEVELS} levels deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ArchiveError(f"contains a link to another file ({WEIGHTS}: {place}/{name}), which is not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{place}/{name}", level + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ArchiveError(f"has weights in another file ({WEIGHTS}: {place}/{name}), which is not read")
            yield item
