"""Segments picture files, and writes what the model sees in them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_pipelines.contract.labels import LabelTable
from trainer.buckets import refusal
from trainer.model_file import load_model
from trainer.serving import Segmenter

if TYPE_CHECKING:
    from trainer.predict import PredictSettings

TYPES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_THREADS = 4  # that read, decode, encode and write; one at a time has the model
# What Pillow's parsers stumble over in damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
_TIFF_BITS_PER_SAMPLE = 258
_PNG_BIT_DEPTH = 24  # its place in the file


class PredictionError(ValueError):
    """A reason to segment nothing, or nothing more; the message says what to do."""


class PictureError(ValueError):
    """A file that can't be segmented."""


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
        tf.io.gfile.makedirs(settings.output)
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
        base = re.split(r"[*?\[]", images)[0].rpartition("/")[0]
        paths = [path for path in tf.io.gfile.glob(images) if not tf.io.gfile.isdir(path)]
        if not paths:
            raise PredictionError(f"--images={images}: there is no such file or folder, and nothing matches it")
    shown = [path for path in paths if path.lower().endswith(TYPES) and not os.path.basename(path).startswith(".")]
    if not shown:
        raise PredictionError(f"{images}: there is no picture among {len(paths):,} files; {', '.join(TYPES)} are")
    return [Picture(path, _stem(os.path.relpath(path, base or "."))) for path in sorted(shown)]


def load_picture(path: str) -> np.ndarray:
    """-> uint8[H, W, 3], RGB, as it is stored: not turned as its EXIF orientation says.

    Raises:
      PictureError: it can't be read, or has more than 8 bits per channel.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            data = file.read()
        image = Image.open(io.BytesIO(data))
        if _is_deep(image, data):
            raise PictureError("it has more than 8 bits per channel, and the model saw 8: convert it")
        return np.asarray(image.convert("RGB"))
    except PictureError:
        raise
    except tf.errors.OpError as error:
        raise PictureError(f"it can't be read: {refusal(error) or error.message}") from error
    except UnidentifiedImageError as error:  # whose own words are about Python's objects
        raise PictureError(f"it is no picture, or damaged: none that can be told by its {len(data):,} bytes") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise PictureError(f"it is no picture, or damaged: {error}") from error


def overlay(image: np.ndarray, class_map: np.ndarray, palette: np.ndarray, opacity: float) -> np.ndarray:
    """The colours of the classes over the picture, both uint8[H, W, 3]; `class_map` uint8[H, W] holds train ids."""
    blended: np.ndarray = image * np.float32(1 - opacity) + palette[class_map] * np.float32(opacity)
    return (blended + np.float32(0.5)).astype(np.uint8)


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Pillow cuts off the lower 8 of 16 bits, or all that is above 255, and says nothing."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,))) > 8)
    return image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[_PNG_BIT_DEPTH] > 8)


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
            image = load_picture(picture.path)
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
            f"--output={settings.output} lies in --images={settings.images}, so that the next run would segment what "
            "this one writes: choose a folder beside it"
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
    """uint8[C]: train id -> the first source id of its class. Raises PredictionError where there is none in 0..255."""
    ids = [row.source_ids[0] if row.source_ids else None for row in labels.classes]
    for row, label_id in zip(labels.classes, ids, strict=True):
        if label_id is None or label_id > 255:
            raise PredictionError(
                f"the class {row.name!r} of the model's label table {labels.name!r} has the label id {label_id}: "
                "--as=cityscapes_submission needs one from 0 to 255 for each"
            )
    return np.array(ids, np.uint8)


def _png(ids: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Of one channel of 8 bits; with a `palette` uint8[256, 3] shown in its colours."""
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
            f"{path} can't be written: {refusal(error) or error.message}; mend that or choose another --output"
        ) from error


def _absolute(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.abspath(path)


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]
