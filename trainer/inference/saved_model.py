"""A trained model as a SavedModel, which segments images and needs only TensorFlow.

Signatures; `image_bytes` string[B] are the contents of JPEG, PNG or BMP files, `images` uint8[B, H, W, 3] are RGB:

    serving_default        image_bytes -> class_map uint8[B, H, W], train ids at the size of the images
    probabilities          image_bytes -> probabilities float32[B, H, W, C]
    png                    image_bytes -> class_map_bytes string[B], train ids as one-channel PNG files
    tensor                 images -> class_map uint8[B, H, W]
    tensor_probabilities   images -> probabilities float32[B, H, W, C]
    labels                 -> names string[C] and colors uint8[C, 3], by train id

The images of one call must have the same size, except for `png`. With a fixed size, images in files are resized to it,
and tensors must have it: then nothing is resized in `tensor`, and TFLite can convert it. With windows, images of any
size keep it, and a SavedModel refuses those of too many windows. The REST API of TensorFlow Serving and Vertex AI
encodes names that end in `_bytes` as {"b64": "..."}; the result of `png` is also much smaller than a JSON list. An
image that the pipeline would reject, or that TensorFlow would decode to other pixels, raises an InvalidArgumentError
with the reason; see `beam_pipelines.contract.picture_graph`. `assets/description.json` describes the model.
`SHA256SUMS` has digests of the other files, for sha256sum: TensorFlow has none of its graph.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable

import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.picture_graph import decode_picture
from trainer.errors import refusals
from trainer.files import (
    DamagedFileError,
    files_below,
    flush,
    flush_tree,
    is_folder,
    make_folder,
    make_parent,
    read_bytes,
    sealed,
    sha256_of,
    unsealed,
    write_whole,
)
from trainer.inference.model_file import Description
from trainer.inference.segmenter import Segmenter
from trainer.inference.views import WHOLE, Views
from trainer.inference.windows import check_window, own_size

DESCRIPTION = "description.json"
_SUMS = "SHA256SUMS"  # TensorFlow does not look at it
_GRAPH = "saved_model.pb"  # without it, TensorFlow does not load a folder
_PARTS = re.compile(
    rf"{re.escape(_GRAPH)}|{_SUMS}|fingerprint\.pb|assets/{re.escape(DESCRIPTION)}|variables/variables\.(index|data-\d{{5}}-of-\d{{5}})"
)
_NOTE = ".export.json"  # suffix of the folder's name: the temporary folders of `_publish_local`
_NOTE_BYTES = 2**16
_MARK = 8  # random hexadecimal digits in the name of a temporary folder
_FILES = tf.TensorSpec([None], tf.string, name="image_bytes")


class ExportError(UserError, ValueError):
    """A SavedModel that can't be written; the message says how to fix it."""


def export_model(
    folder: str,
    model: keras.Model,
    description: Description,
    *,
    size: tuple[int, int] | None = None,
    views: Views = WHOLE,
    overwrite: bool = False,
) -> None:
    """Writes a SavedModel to `folder`: atomically if it is local; in a bucket, `saved_model.pb` is written last.

    Args:
      size: the fixed (height, width) in pixels; None: see `trainer.inference.segmenter`.
      views: see `trainer.inference.logits.predict_logits`.

    Raises:
      ExportError: the folder can't be written, has files that are not part of a SavedModel, or has a SavedModel and
        `overwrite` is false; or the model takes only images of another size.
      ViewsError: the model does not take windows of this size, or images of `size` would have too many.
    """
    folder = folder.rstrip("/")
    check_free(folder, overwrite)
    check_size(model, size, views)
    save = functools.partial(_save, model=model, description=description, size=size, views=views)
    try:
        with refusals():
            (_publish_remote if "://" in folder else _publish_local)(folder, save)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{folder} can't be written: {error}; fix this or choose another folder") from error


class _Served(tf.Module):
    """The signatures."""

    def __init__(
        self,
        model: keras.Model,
        description: Description,
        description_file: str,
        size: tuple[int, int] | None,
        views: Views,
    ) -> None:
        super().__init__(name="street_scenes")
        # Variables only: tracking the Keras model would save each layer as separate functions.
        self.weights = [weight.value for weight in model.variables]
        self.description = tf.saved_model.Asset(description_file)
        self._segmenter = Segmenter(model, description, size=size, views=views)
        self._images = tf.TensorSpec([None, *(size or _taken_size(model, views)), 3], tf.uint8, name="images")
        self.tensor, self.tensor_probabilities = (
            tf.function(function, input_signature=[self._images], autograph=False)
            for function in (self._tensor, self._tensor_probabilities)
        )
        classes = description.labels.classes
        self._names = [row.name for row in classes]
        self._colors = description.labels.palette[: len(classes)]

    @tf.function(input_signature=[_FILES], autograph=False)
    def class_map(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"class_map": self._segmenter.class_map(_decoded(image_bytes))}

    @tf.function(input_signature=[_FILES], autograph=False)
    def probabilities(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self._segmenter.probabilities(_decoded(image_bytes))}

    @tf.function(input_signature=[_FILES], autograph=False)
    def png(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def segment(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            ids = self._segmenter.class_map(_decoded_picture(numbered)[tf.newaxis])
            return tf.io.encode_png(tf.transpose(ids, [1, 2, 0]))

        return {"class_map_bytes": tf.map_fn(segment, _numbered(image_bytes), fn_output_signature=tf.string)}

    def _tensor(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"class_map": self._segmenter.class_map_of_size(self._checked(images))}

    def _tensor_probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self._segmenter.probabilities_of_size(self._checked(images))}

    def _checked(self, images: tf.Tensor) -> tf.Tensor:
        """Refuses other sizes when it runs: a signature that was loaded does not."""
        return tf.ensure_shape(images, self._images.shape)

    @tf.function(input_signature=[], autograph=False)
    def labels(self) -> dict[str, tf.Tensor]:
        return {"names": tf.constant(self._names), "colors": tf.constant(self._colors)}

    def save(self, folder: str) -> None:
        signatures = {"serving_default": self.class_map}
        others = ("probabilities", "png", "tensor", "tensor_probabilities", "labels")
        signatures |= {name: getattr(self, name) for name in others}
        tf.saved_model.save(self, folder, signatures=signatures)


def _numbered(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.range(tf.size(image_bytes)), image_bytes


def _decoded(image_bytes: tf.Tensor) -> tf.Tensor:
    """string[B] -> RGB uint8[B, H, W, 3]."""
    return tf.map_fn(_decoded_picture, _numbered(image_bytes), fn_output_signature=tf.uint8)


def _decoded_picture(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """(position in the batch, content of a file) -> RGB uint8[H, W, 3]."""
    number, file = numbered
    return decode_picture(file, ["image_bytes", number])


def loading_note(folder: str) -> str:
    """A note for a folder from which TensorFlow can't load, because its path looks like a pattern; else empty."""
    return (
        " (to load it, copy it to another folder: TensorFlow takes this path for a pattern)"
        if re.search(r"[\[*?\\]", folder)
        else ""
    )


def check_free(folder: str, overwrite: bool) -> None:
    """Raises ExportError if `export_model` would not write to `folder`."""
    if tf.io.gfile.exists(folder) and not is_folder(folder):
        raise ExportError(f"{folder} is a file: choose a folder")
    there = files_below(folder)
    others = [name for name in there if not _PARTS.fullmatch(name)]
    if others:
        raise ExportError(f"{folder} contains {others[0]}, which is not part of a SavedModel: choose another folder")
    if there and not overwrite:
        raise ExportError(
            f"{folder} already contains a SavedModel: choose another folder, or replace it with --overwrite"
        )


def check_size(model: keras.Model, size: tuple[int, int] | None, views: Views) -> None:
    """Raises ExportError if the model takes images of another size only; ViewsError if its windows do not fit."""
    check_window(model, views)
    if size is not None:
        views.check_windows(size)
    own = _taken_size(model, views)
    if size is not None and any(side not in (None, asked) for side, asked in zip(own, size, strict=True)):
        asked, only = ("x".join(map(str, each)) for each in (size, own))
        raise ExportError(f"--image_size={asked}: the model was built for images of {only}: leave --image_size out")


def _taken_size(model: keras.Model, views: Views) -> tuple[int | None, int | None]:
    """(height, width) of the images that are segmented; None is any."""
    return own_size(model) if views.window is None else (None, None)


def _publish_local(folder: str, save: Callable[[str], None]) -> None:
    """Writes a temporary folder beside `folder` and renames it, so that a partial SavedModel is never loaded.

    A note names the temporary folders, so that the next export can delete those of a killed one, and nothing else.
    """
    note = folder + _NOTE
    _clear(folder, note)
    parent = os.path.dirname(folder) or "."
    os.makedirs(parent, exist_ok=True)
    made, replaced = (f"{folder}.{kind}-{uuid.uuid4().hex[:_MARK]}" for kind in ("tmp", "old"))
    write_whole(note, sealed({"made": os.path.basename(made), "replaced": os.path.basename(replaced)}))
    try:
        save(made)
        flush_tree(made)
        if os.path.isdir(folder):
            os.rename(folder, replaced)
        os.rename(made, folder)
        flush(parent)
    finally:
        _clear(folder, note)


def _clear(folder: str, note: str) -> None:
    """Deletes the folders that `note` names, and `note`; restores a SavedModel that was moved away but not replaced."""
    try:
        names = unsealed(read_bytes(note, _NOTE_BYTES))
    except (FileNotFoundError, DamagedFileError):
        return
    paths = [_noted(folder, names.get(kind)) for kind in ("made", "replaced")]
    if None in paths:
        return
    made, replaced = paths
    if replaced and os.path.isdir(replaced) and not os.path.exists(folder):
        os.rename(replaced, folder)
    for path in (made, replaced):
        if path and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.remove(note)


def _noted(folder: str, name: object) -> str | None:
    """The path of a folder in a note; None if no export of `folder` could have given it this name."""
    pattern = rf"{re.escape(os.path.basename(folder))}\.(tmp|old)-[0-9a-f]{{{_MARK}}}"
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        return None
    return os.path.join(os.path.dirname(folder), name)


def _publish_remote(folder: str, save: Callable[[str], None]) -> None:
    """Deletes the graph first and writes it last, since a bucket can't rename folders: nothing loads without it."""
    with tempfile.TemporaryDirectory() as scratch:
        made = os.path.join(scratch, "model")
        save(made)
        make_folder(folder)
        if tf.io.gfile.exists(f"{folder}/{_GRAPH}"):
            tf.io.gfile.remove(f"{folder}/{_GRAPH}")
        files = [os.path.relpath(os.path.join(at, name), made) for at, _, names in os.walk(made) for name in names]
        for name in sorted(files, key=lambda name: name == _GRAPH):
            make_parent(f"{folder}/{name}")
            tf.io.gfile.copy(os.path.join(made, name), f"{folder}/{name}", overwrite=True)


def _save(
    folder: str, model: keras.Model, description: Description, size: tuple[int, int] | None, views: Views
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = os.path.join(scratch, DESCRIPTION)
        with open(file, "w", encoding="utf-8") as opened:
            json.dump(description.to_json(), opened, indent=1)
        _Served(model, description, file, size, views).save(folder)
    sums = "".join(f"{sha256_of(f'{folder}/{name}')}  {name}\n" for name in files_below(folder))
    with open(f"{folder}/{_SUMS}", "w", encoding="ascii") as opened:
        opened.write(sums)
