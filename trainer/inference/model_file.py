"""A trained model as one `.keras` file, with a description of its data set.

A `.keras` file is a zip archive; the description is an additional member, which Keras ignores. So the file also loads
with `keras.models.load_model`, after `import trainer.models.layers`: since 3.9, Keras imports no module that a file
names (CVE-2025-1550).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable, LabelTableError
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization
from trainer.files import is_folder, make_folder, new_name, publish
from trainer.inference import archive
from trainer.inference.archive import ArchiveError
from trainer.models import register_layers

BEST = "best.keras"  # name of the best model in the folder of a run
_MEMBER = archive.DESCRIPTION
_VERSION = 1


# Name scopes of TensorFlow, which Keras makes of the names of a model and of the layers in it.
_SCOPE, _SCOPE_WITHIN = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*"), re.compile(r"[A-Za-z0-9_.\\/>-]+")
_CURE = "restore the file from a backup, or train the model again"
_LOAD_FAULTS = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OSError,
    RuntimeError,
    ImportError,
    ArithmeticError,
    tf.errors.OpError,
)


class ModelFileError(UserError, ValueError):
    """A file that is not a trained model, or does not fit the data set; the message says how to fix it."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The model, and the data set that it was trained on.

    Attributes:
      model: name of the architecture in `trainer.models.MODELS`.
      labels: the classes of the outputs.
      mean, std: of pixel / 255, for red, green and blue; input images are normalized with them.
      size: (height, width) of the images in the data set, in pixels; None if they have several sizes.
      step: number of updates of the weights.
      mean_iou: on the validation split, from 0 to 1; None if the model was not evaluated.
      dataset: fingerprint of the data set.
    """

    model: str
    labels: LabelTable
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int] | None
    step: int
    mean_iou: float | None
    dataset: str

    @classmethod
    def of(cls, model: str, manifest: Manifest, *, step: int = 0, mean_iou: float | None = None) -> Description:
        """Of a model that was trained on a data set, whose `manifest` `trainer.data.dataset.read_manifest` reads."""
        pixels = manifest.pixels
        size = None if pixels.height is None or pixels.width is None else (pixels.height, pixels.width)
        red, green, blue = manifest.moments.mean
        stds = manifest.moments.std
        return cls(
            model=model,
            labels=manifest.labels,
            mean=(red, green, blue),
            std=(stds[0], stds[1], stds[2]),
            size=size,
            step=step,
            mean_iou=mean_iou,
            dataset=manifest.fingerprint,
        )

    @property
    def normalization(self) -> Normalization:
        return Normalization(self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "version": _VERSION, "labels": self.labels.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Description:
        """Raises KeyError, TypeError, ValueError or LabelTableError if `value` is not a description."""
        values = {name: value[name] for name in cls.__dataclass_fields__}
        tuples = {name: None if value[name] is None else tuple(value[name]) for name in ("mean", "std", "size")}
        description = cls(**(values | tuples | {"labels": LabelTable.from_json(value["labels"])}))
        for name, is_right in _RULES.items():
            if not is_right(getattr(description, name)):
                raise ValueError(f"its {name} is {str(value[name])[:80]}")
        return description


def _is_number(value: Any, least: float, most: float = math.inf) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and least <= value <= most


def _are_three(values: Any, most: float) -> bool:
    return values is not None and len(values) == 3 and all(_is_number(value, 0, most) for value in values)


def _are_lengths(values: Any) -> bool:
    return values is None or (len(values) == 2 and all(type(value) is int and value > 0 for value in values))


_RULES: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "mean": lambda value: _are_three(value, 1),
    "std": lambda value: _are_three(value, 1),
    "size": _are_lengths,
    "step": lambda value: type(value) is int and value >= 0,
    "mean_iou": lambda value: value is None or _is_number(value, 0, 1),
    "dataset": lambda value: isinstance(value, str),
}


def save_model(path: str, model: keras.Model, description: Description) -> None:
    """Writes a model that `trainer.predict`, `trainer.export` and `trainer.evaluate` take.

    Args:
      path: the `.keras` file, local or gs://. It is written as a whole, and replaces a file that is there.
      model: from normalized images float32[B, H, W, 3] to logits [B, H, W, classes]; see `trainer.models.build`.
      description: see `Description.of`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = os.path.join(scratch, "model.keras")
        model.save(made)
        with zipfile.ZipFile(made, "a") as opened:
            opened.writestr(_MEMBER, json.dumps(description.to_json(), indent=1))
        make_folder(os.path.dirname(path) or ".")
        temporary = new_name(path)
        try:
            tf.io.gfile.copy(made, temporary)
            publish(temporary, path)
        except BaseException:
            with contextlib.suppress(tf.errors.OpError, OSError):
                tf.io.gfile.remove(temporary)
            raise


def load_model(path: str) -> tuple[keras.Model, Description]:
    """Loads a model that `save_model` wrote, given its `.keras` file or the folder of its run.

    Raises:
      ModelFileError: there is no such file, it is damaged, or it has no description.
    """
    register_layers()
    file = find_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, "model.keras")
        tf.io.gfile.copy(file, local)
        description = _read_description(local, file)
        try:
            model = archive.load(local)
        except ArchiveError as error:
            raise ModelFileError(f"{file} {error}; {_CURE}") from error
        except _LOAD_FAULTS as error:
            if _is_lack(error):
                raise
            said, version = (str(error).splitlines() or [type(error).__name__])[0], _keras_version(local)
            is_other = version != keras.__version__
            raise ModelFileError(
                f"{file} was saved by Keras {version}, and Keras {keras.__version__} can't load it ({said}): "
                f"{'install the version that saved it, or a newer one' if is_other else _CURE}"
            ) from error
        _check_model(model, description, file)
        return model, description


def read_description(path: str) -> Description:
    """The description of the model at `path`, without loading the model. Raises ModelFileError as `load_model` does."""
    file = find_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, "model.keras")
        tf.io.gfile.copy(file, local)
        return _read_description(local, file)


def find_model(path: str) -> str:
    """The path of the file: `path` itself, or `best.keras` in a folder. Raises ModelFileError if it does not exist."""
    folder = is_folder(path)
    file = f"{path.rstrip('/')}/{BEST}" if folder else path
    if tf.io.gfile.exists(file):
        return file
    if folder and tf.io.gfile.exists(f"{path.rstrip('/')}/saved_model.pb"):
        raise ModelFileError(f"{path} is a SavedModel: set the {BEST}, or the folder of the run, that it was made from")
    if folder:
        raise ModelFileError(f"{path} has no {BEST}: a training run writes it after its first evaluation")
    raise ModelFileError(f"{path} does not exist: set the path of a {BEST}, or the folder of a training run")


def check_labels(description: Description, manifest: Manifest, folder: str) -> None:
    """Raises ModelFileError if the data set in `folder` has other classes than the model."""
    mine, theirs = ([row.name for row in labels.classes] for labels in (description.labels, manifest.labels))
    if mine == theirs:
        return
    raise ModelFileError(
        f"{folder} has other classes than the model: {', '.join(theirs)} (label table {manifest.labels.name!r}), not "
        f"{', '.join(mine)} ({description.labels.name!r}). Build the data set with the model's label table (--labels), "
        "or train on this data set"
    )


def _check_model(model: Any, description: Description, file: str) -> None:
    """Raises ModelFileError if TensorFlow can't run the layers, or they do not fit the description."""
    classes = description.labels.num_classes
    if not isinstance(model, keras.Model):
        raise ModelFileError(f"{file} contains a {type(model).__name__} instead of a model; {_CURE}")
    unfit = [] if _SCOPE.fullmatch(model.name) else [model.name]
    unfit += [name for name in _names_within(model) if not _SCOPE_WITHIN.fullmatch(name)]
    if unfit:
        raise ModelFileError(
            f"{file} has a layer called {unfit[0]!r}, which TensorFlow can't run: name it with A-Z, a-z, 0-9, _ and -, "
            f"or {_CURE}"
        )
    kinds = {each.dtype for each in model.inputs} - {"float16", "bfloat16", "float32", "float64"}
    if kinds:
        raise ModelFileError(f"{file} takes {min(kinds)} values, but normalized images have fractions; {_CURE}")
    found = [output.shape[-1] for output in model.outputs]
    if any(channels not in (None, classes) for channels in found):
        raise ModelFileError(f"{file} has {found[0]} outputs, but its {_MEMBER} describes {classes} classes; {_CURE}")


def _names_within(model: keras.Model) -> Iterator[str]:
    """The names of the layers and blocks of a model that are run, on all levels."""
    for each in model.layers:
        if not isinstance(each, keras.layers.InputLayer):
            yield each.name
        if isinstance(each, keras.Model):
            yield from _names_within(each)


def _is_lack(error: Exception) -> bool:
    """Whether memory or space on the disk is used up, which is no fault of the file."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, tf.errors.ResourceExhaustedError)


def _keras_version(local: str) -> str:
    try:
        return str(archive.read_member(local, archive.METADATA).get("keras_version"))
    except (ArchiveError, AttributeError):
        return "unknown"


def _read_description(local: str, file: str) -> Description:
    try:
        value = archive.read_member(local, _MEMBER)
    except ArchiveError as error:
        raise ModelFileError(f"{file} {error}; {_CURE}") from error
    if not isinstance(value, dict) or value.get("version") != _VERSION:
        found = value.get("version") if isinstance(value, dict) else None
        raise ModelFileError(
            f"{file} has version {found!r} of {_MEMBER}, but this trainer reads {_VERSION}: use the version of this "
            "project that saved it, or train the model again"
        )
    try:
        return Description.from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, LabelTableError) as error:
        raise ModelFileError(f"{file}: its {_MEMBER} is damaged: {error!r}; {_CURE}") from error
