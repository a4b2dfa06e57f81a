"""Segments picture files, and writes the predicted classes."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL, MAX_IMAGE_PIXELS, PictureError, decode_image
from trainer.errors import refusal
from trainer.files import make_folder
from trainer.inference.model_file import load_model
from trainer.inference.request import PredictSettings
from trainer.inference.segmenter import Segmenter

TYPES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LITERAL = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]", "\\": "\\\\"})  # patterns of these characters
_THREADS = 4  # that read, decode, encode and write; one at a time has the model


class PredictionError(UserError, ValueError):
    """Pictures or an output that can't be used; the message says what to do."""


@dataclass(frozen=True)
class Picture:
    """A file, and its place below what was searched, without its type: `aachen/aachen_000000_000019`."""

    path: str
    name: str


@dataclass(frozen=True)
class Outcome:
    """Numbers of pictures."""

    segmented: int
    skipped: int


def predict(settings: PredictSettings) -> Outcome:
    """Segments what `settings.images` names, and writes it to `settings.output`; each file whole or not at all.

    Pictures that can't be segmented are named on stderr, the closing line is on stdout.

    Raises:
      ModelFileError: see `load_model`.
      PredictionError: there are no pictures, two would be written to one file, or the output can't be written.
    """
    pictures = find_pictures(settings.images)
    _check_targets(pictures, settings)
    with _writing(settings.output):
        make_folder(settings.output)
    model, description = load_model(settings.model)
    segmenter = Segmenter(model, description, scales=settings.scales, flip=settings.flip)
    worker = _Worker(segmenter, description.labels, settings)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = time.monotonic()
    skipped = _segment_all(pictures, worker, console)
    outcome = Outcome(len(pictures) - skipped, skipped)
    rate = len(pictures) / (time.monotonic() - started)
    counted = f"{outcome.segmented:,} of {len(pictures):,} pictures segmented"
    print(f"{settings.output}: {counted}, {skipped:,} skipped; {rate:.1f} a second")
    return outcome


def find_pictures(images: str) -> list[Picture]:
    """The pictures of a folder and the folders in it, a file, or what a pattern matches; by their names.

    Raises:
      PredictionError: there is none.
    """
    if tf.io.gfile.isdir(images):
        base = images.rstrip("/")
        paths = [f"{folder.rstrip('/')}/{name}" for folder, _, names in tf.io.gfile.walk(base) for name in names]
    elif tf.io.gfile.exists(images):
        return [Picture(images, _stem(os.path.basename(images)))]
    else:
        base, pattern = _split_pattern(images)
        paths = [path for path in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(path)]
        if not paths:
            raise PredictionError(f"--images={images}: there is no such file or folder, and nothing matches it")
    shown = [path for path in paths if path.lower().endswith(TYPES) and not os.path.basename(path).startswith(".")]
    if not shown:
        raise PredictionError(f"{images}: there is no picture among {len(paths):,} files: it takes {', '.join(TYPES)}")
    return [Picture(path, _stem(os.path.relpath(path, base or "."))) for path in sorted(shown)]


def _split_pattern(images: str) -> tuple[str, str]:
    """-> the folder that a pattern begins with, and the pattern: the characters of a folder that is there stand for
    themselves, so that `data [1]/*.png` are the pictures in `data [1]`.
    """
    parts = images.split("/")
    folders = ["/".join(parts[:end]) or "/" for end in range(len(parts) - 1, 0, -1)]
    base = next(filter(tf.io.gfile.isdir, folders), "")
    return base, base.translate(_LITERAL) + images[len(base) :]


def load_picture(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """-> uint8[H, W, 3], RGB: the pixels that the pipeline makes of this file.

    Raises:
      PictureError: it can't be read, or the pipeline would reject it.
    """
    limit = BYTES_PER_PIXEL * max_pixels
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            data = file.read(limit + 1)
    except tf.errors.OpError as error:
        raise PictureError("unreadable", str(refusal(error) or error.message)) from error
    if not data:
        raise PictureError("empty_file", "the file has no bytes")
    if len(data) > limit:
        raise PictureError("too_many_pixels", f"the file has more than {limit:,} bytes")
    return decode_image(data, max_pixels)


def overlay(image: np.ndarray, class_map: np.ndarray, palette: np.ndarray, opacity: float) -> np.ndarray:
    """The colors of the classes over the picture, both uint8[H, W, 3]; `class_map` uint8[H, W] holds train ids."""
    blended: np.ndarray = image * np.float32(1 - opacity) + palette[class_map] * np.float32(opacity)
    return (blended + np.float32(0.5)).astype(np.uint8)


def _segment_all(pictures: list[Picture], worker: _Worker, console: Console) -> int:
    """-> the number of pictures that were skipped."""
    skipped = 0
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
    executor = ThreadPoolExecutor(_THREADS)
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=len(pictures))
            for picture, fault in zip(pictures, executor.map(worker, pictures), strict=True):
                progress.advance(task)
                if fault is not None:
                    skipped += 1
                    console.print(f"{picture.path}: {fault}; skipped", markup=False)
    finally:
        executor.shutdown(cancel_futures=True)
    return skipped


class _Worker:
    """Segments one picture at a time, and reads and writes several."""

    def __init__(self, segmenter: Segmenter, labels: LabelTable, settings: PredictSettings) -> None:
        self._segmenter = segmenter
        self._labels = labels
        self._settings = settings
        self._model_is_free = threading.Lock()
        self._label_ids = _label_ids(labels) if settings.form == "cityscapes_submission" else None

    def __call__(self, picture: Picture) -> str | None:
        """-> what is wrong with the picture."""
        try:
            image = load_picture(picture.path, self._settings.max_image_pixels)
            with self._model_is_free:
                class_map = self._segmenter.class_map(image[np.newaxis])[0].numpy()
        except PictureError as error:
            return str(error)
        except tf.errors.ResourceExhaustedError:
            return f"{image.shape[1]}x{image.shape[0]} (WxH) is more than the memory of the device holds"
        files = self._files(image, class_map)
        for kind, path in _targets(picture, self._settings).items():
            _write(path, files[kind])
        return None

    def _files(self, image: np.ndarray, class_map: np.ndarray) -> dict[str, bytes]:
        if self._label_ids is not None:
            return {"label_ids": _png(self._label_ids[class_map])}
        palette = self._labels.palette
        blended = io.BytesIO()
        over = overlay(image, class_map, palette, self._settings.overlay_opacity)
        Image.fromarray(over).save(blended, "JPEG", quality=92, subsampling=0)
        return {"ids": _png(class_map), "colors": _png(class_map, palette), "overlays": blended.getvalue()}


def _check_targets(pictures: list[Picture], settings: PredictSettings) -> None:
    """Raises PredictionError where a file would be written twice, or over a picture, or become one of the next run."""
    output, images = _absolute(settings.output), _absolute(settings.images)
    if tf.io.gfile.isdir(settings.images) and f"{output}/".startswith(f"{images}/"):
        raise PredictionError(
            f"--output={settings.output} is inside --images={settings.images}, so the next run would segment what this "
            "one writes: choose a folder outside of it"
        )
    sources = {_absolute(picture.path) for picture in pictures}
    writers: dict[str, Picture] = {}
    for picture in pictures:
        for target in _targets(picture, settings).values():
            other = writers.setdefault(target, picture)
            if other is not picture:
                raise PredictionError(f"{other.path} and {picture.path} would both become {target}: rename one of them")
            if _absolute(target) in sources:
                raise PredictionError(f"{target} is one of the pictures: choose another --output")


def _targets(picture: Picture, settings: PredictSettings) -> dict[str, str]:
    """What is written of a picture -> where."""
    output = settings.output.rstrip("/")
    if settings.form == "cityscapes_submission":
        return {"label_ids": f"{output}/{os.path.basename(picture.name)}.png"}
    types = {"ids": "png", "colors": "png", "overlays": "jpg"}
    return {kind: f"{output}/{kind}/{picture.name}.{suffix}" for kind, suffix in types.items()}


def _label_ids(labels: LabelTable) -> np.ndarray:
    """uint8[C]: train id -> the official label id of the class of that name.

    Raises:
      PredictionError: the classes are not those of the benchmark, one to one.
    """
    official = BUILTIN_TABLES["cityscapes19"]().classes
    id_of = {row.name: row.source_ids[0] for row in official}
    wrong = [row.name for row in labels.classes if not _is_official(row, official)]
    missing = sorted(id_of.keys() - {row.name for row in labels.classes})
    if wrong or missing:
        listed = [
            f"{title}: {', '.join(names)}" for title, names in (("foreign", wrong), ("missing", missing)) if names
        ]
        raise PredictionError(
            f"--as=cityscapes_submission needs a model of the {len(official)} classes of Cityscapes, with their names "
            f"and ids; the model's label table {labels.name!r} has others ({'; '.join(listed)}): leave --as out, or "
            "train on a data set with --labels=cityscapes19"
        )
    return np.array([id_of[row.name] for row in labels.classes], np.uint8)


def _is_official(row: Label, official: tuple[Label, ...]) -> bool:
    """Whether a class is one of the benchmark's: its name, and its only source id is the label id or the train id."""
    return any(row.name == known.name and row.source_ids in (known.source_ids, (known.train_id,)) for known in official)


def _png(ids: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Of one channel of 8 bits; with a `palette` uint8[256, 3] shown in its colors."""
    image, file = Image.fromarray(ids), io.BytesIO()
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def _write(path: str, data: bytes) -> None:
    with _writing(path):
        tf.io.gfile.makedirs(os.path.dirname(path))
        with tf.io.gfile.GFile(f"{path}.tmp", "wb") as file:
            file.write(data)
        tf.io.gfile.rename(f"{path}.tmp", path, overwrite=True)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise PredictionError(
            f"{path} can't be written: {refusal(error) or error.message}; fix this or choose another --output"
        ) from error


def _absolute(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.abspath(path)


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]
