"""Writes a trained model as one file for another runtime, and beside it a JSON file that says what it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.errors import refusals
from trainer.files import is_folder, make_folder, read_bytes, write_whole
from trainer.formats.check import Comparison
from trainer.formats.errors import FormatError
from trainer.formats.table import FORMATS, Run
from trainer.inference.model_file import Description
from trainer.inference.saved_model import ExportError, check_size
from trainer.inference.segmenter import network_input
from trainer.inference.views import WHOLE
from trainer.inference.windows import own_size
from trainer.models import as_list

BESIDE = ".json"  # added to the name of the file
_KIND = "street-scenes export"
_LARGEST_JSON = 2**24


class Served(tf.Module):
    """`tensor`: images uint8[B, H, W, 3], RGB -> {"class_map": train ids uint8[B, H, W]}, as a SavedModel's `tensor`.

    Without the softmax of a SavedModel, which does not change which class is the most probable, and takes ONNX Runtime
    a third of its time.

    Args:
      size: the (height, width) of the images.
      batch: their number; None is any.
    """

    def __init__(
        self, model: keras.Model, description: Description, size: tuple[int, int], batch: int | None = None
    ) -> None:
        super().__init__(name="street_scenes")
        # Variables only: tracking the Keras model would save each layer as separate functions.
        self.weights = [weight.value for weight in model.variables]

        def tensor(images: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = as_list(model(network_input(images, description, size), training=False))[0]
            return {"class_map": tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8)}

        signature = [tf.TensorSpec([batch, *size, 3], tf.uint8, name="images")]
        self.tensor = tf.function(tensor, input_signature=signature, autograph=False)

    def run(self, images: np.ndarray) -> np.ndarray:
        """The same in TensorFlow."""
        return np.asarray(self.tensor(tf.constant(images))["class_map"])


def size_of(model: keras.Model, description: Description, asked: tuple[int, int] | None) -> tuple[int, int]:
    """The (height, width) of the images that a file takes: `asked`, or that of the model or its data set.

    Raises:
      ExportError: the model takes images of another size only.
      FormatError: the data set had several sizes, and none is asked for.
    """
    check_size(model, asked, WHOLE)
    height, width = own_size(model)
    own = None if height is None or width is None else (height, width)
    size = asked or own or description.size
    if size is None:
        raise FormatError(
            "the model was trained on images of several sizes, and a file takes images of one: set it with "
            "--image_size=HxW"
        )
    return size


def check_free(path: str, overwrite: bool) -> None:
    """Raises ExportError if `write` would not write to `path`."""
    if is_folder(path):
        raise ExportError(f"{path} is a folder: choose the name of a file in it")
    if tf.io.gfile.exists(path) and not overwrite:
        raise ExportError(f"{path} exists: set --overwrite to replace it, or another --output")
    if tf.io.gfile.exists(path + BESIDE) and not _is_ours(path + BESIDE):
        raise ExportError(f"{path}{BESIDE} is not the description of an exported file: choose another --output")


def convert(served: Served, form: str, size: tuple[int, int]) -> tuple[bytes, Run]:
    """-> the content of the file, and a function that runs it, which was tried with one image.

    Raises:
      UnsupportedOperationError: the format lacks an operation.
      FormatError: the runtime refuses the file.
    """
    row = FORMATS[form]
    content = row.convert(served)
    run = row.runner(content)
    class_map = run(np.zeros((1, *size, 3), np.uint8))
    if class_map.dtype != np.uint8 or class_map.shape != (1, *size):
        found = f"{class_map.dtype}{list(class_map.shape)}"
        raise FormatError(
            f"the converted model gives {found} instead of uint8{[1, *size]}: export a SavedModel (--format=savedmodel)"
        )
    return content, run


def write(path: str, content: bytes, about: Mapping[str, Any]) -> None:
    """Writes the file as a whole, and then `about` beside it, so that never an older one stands beside a new file.

    Raises:
      ExportError: it can't be written.
    """
    try:
        with refusals():
            make_folder(os.path.dirname(path) or ".")
            if tf.io.gfile.exists(path + BESIDE):
                tf.io.gfile.remove(path + BESIDE)
            write_whole(path, content)
            write_whole(path + BESIDE, (json.dumps(about, indent=1) + "\n").encode())
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{path} can't be written: {error}; fix this or choose another --output") from error


def about(
    path: str,
    content: bytes,
    form: str,
    description: Description,
    size: tuple[int, int],
    check: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the JSON beside a file says; `check` is what was compared, and None if nothing was."""
    row, labels = FORMATS[form], description.labels
    return {
        "kind": _KIND,
        "format": form,
        "file": os.path.basename(path),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **row.facts,
        "input": {"name": "images", "dtype": "uint8", "shape": [row.batch, *size, 3], "pixels": "RGB, 0..255"},
        "output": {"name": "class_map", "dtype": "uint8", "shape": [row.batch, *size], "pixels": "train ids"},
        "names": [label.name for label in labels.classes],
        "colors": labels.palette[: labels.num_classes].tolist(),
        "normalization": {"mean": description.mean, "std": description.std, "by": "the file itself"},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, **row.versions()},
        "model": description.to_json(),
        "check": check,
    }


def checked(comparison: Comparison, dataset: str, fingerprint: str, split: str) -> dict[str, Any]:
    """What was compared, and on which data set, for `about`."""
    return {"dataset": dataset, "fingerprint": fingerprint, "split": split, **comparison.to_json()}


def _is_ours(path: str) -> bool:
    try:
        value = json.loads(read_bytes(path, _LARGEST_JSON))
    except (ValueError, RecursionError, FileNotFoundError):
        return False
    return isinstance(value, dict) and value.get("kind") == _KIND
