"""A trained model as one file: `.keras`, with a description inside that tells what it takes and what it gives.

A `.keras` file is a zip archive; the description is one more member of it, which Keras does not look at. So the file
also loads with `keras.saving.load_model`, after `trainer.models.register_layers()`.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from beam_pipelines.contract.labels import LabelTable, LabelTableError
from beam_pipelines.contract.manifest import Manifest
from trainer.models import register_layers

BEST = "best.keras"  # in the folder of a run
_MEMBER = "street_scenes.json"
_VERSION = 1


class ModelFileError(ValueError):
    """A file that is no trained model, or not one for this data set; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a model was trained on.

    Attributes:
      model: its name in `trainer.models.MODELS`.
      labels: the classes of its outputs.
      mean, std: of pixel / 255; images are normalized with them.
      size: (height, width) of the data set's images; None where they had several.
      step: updates that its weights had.
      mean_iou: on the validation split; None if it was not evaluated.
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
    def of(cls, model: str, manifest: Manifest, *, step: int, mean_iou: float | None) -> Description:
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

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "version": _VERSION, "labels": self.labels.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Description:
        values = {name: value[name] for name in cls.__dataclass_fields__}
        tuples = {name: None if value[name] is None else tuple(value[name]) for name in ("mean", "std", "size")}
        return cls(**(values | tuples | {"labels": LabelTable.from_json(value["labels"])}))


def save_model(path: str, model: keras.Model, description: Description) -> None:
    """Writes `path`, local or gs://, whole or not at all; what was there before is replaced."""
    with tempfile.TemporaryDirectory() as scratch:
        made = os.path.join(scratch, "model.keras")
        model.save(made)
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr(_MEMBER, json.dumps(description.to_json(), indent=1))
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        tf.io.gfile.copy(made, f"{path}.tmp", overwrite=True)
    tf.io.gfile.rename(f"{path}.tmp", path, overwrite=True)


def load_model(path: str) -> tuple[keras.Model, Description]:
    """The model of a `.keras` file that `save_model` wrote, or of the run whose folder is given.

    Raises:
      ModelFileError: there is no such file, it is damaged, or Keras alone wrote it.
    """
    register_layers()
    file = find_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, "model.keras")
        tf.io.gfile.copy(file, local)
        description = _read_description(local, file)
        try:
            return keras.saving.load_model(local, compile=False), description
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"{file} was saved by Keras {_keras_version(local)}, and Keras {keras.__version__} can't load it "
                f"({str(error).splitlines()[0]}): take the one that saved it, or a newer one"
            ) from error


def read_description(path: str) -> Description:
    """That of the model at `path`, without loading it. Raises ModelFileError as `load_model` does."""
    file = find_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, "model.keras")
        tf.io.gfile.copy(file, local)
        return _read_description(local, file)


def find_model(path: str) -> str:
    """The file itself, or `best.keras` in the folder of a run."""
    folder = tf.io.gfile.isdir(path)
    file = f"{path.rstrip('/')}/{BEST}" if folder else path
    if tf.io.gfile.exists(file):
        return file
    if folder:
        raise ModelFileError(f"{path} holds no {BEST}: training writes one after its first evaluation")
    raise ModelFileError(f"{path} does not exist: name a {BEST}, or the folder of a training run")


def check_labels(description: Description, manifest: Manifest, folder: str) -> None:
    """Raises ModelFileError where the data set `folder` has other classes than the model predicts."""
    mine, theirs = ([row.name for row in labels.classes] for labels in (description.labels, manifest.labels))
    if mine == theirs:
        return
    raise ModelFileError(
        f"{folder} has other classes than the model: {', '.join(theirs)} (label table {manifest.labels.name!r}) and "
        f"{', '.join(mine)} ({description.labels.name!r}). Build the data set with the model's label table (--labels), "
        "or train on this one"
    )


def _keras_version(local: str) -> str:
    with zipfile.ZipFile(local) as archive:
        return str(json.loads(archive.read("metadata.json")).get("keras_version"))


def _read_description(local: str, file: str) -> Description:
    try:
        with zipfile.ZipFile(local) as archive:
            damaged = archive.testzip()
            value = json.loads(archive.read(_MEMBER))
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:  # as damage has it
        raise ModelFileError(f"{file} is not a .keras file, or damaged: {error}") from error
    except KeyError as error:
        raise ModelFileError(f"{file} has no {_MEMBER}: it was not written by this trainer") from error
    if damaged is not None:
        raise ModelFileError(f"{file} is damaged: the checksum of its {damaged} is wrong")
    if value.get("version") != _VERSION:
        raise ModelFileError(
            f"{file} has version {value.get('version')!r} of {_MEMBER}, and this code reads {_VERSION}"
        )
    try:
        return Description.from_json(value)
    except (KeyError, TypeError, LabelTableError) as error:
        raise ModelFileError(f"{file}: its {_MEMBER} is damaged: {error!r}") from error
