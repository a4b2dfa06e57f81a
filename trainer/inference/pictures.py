"""Segments image files and writes the predicted classes."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL, MAX_IMAGE_PIXELS, PictureError, decode_image
from trainer.errors import refusal
from trainer.files import files_below, is_folder, is_local
from trainer.inference.model_file import load_model
from trainer.inference.outputs import OutputFolder, Picture, PredictionError, check_targets, targets_of, write
from trainer.inference.request import PredictSettings
from trainer.inference.segmenter import Segmenter

TYPES = tuple(f".{kind}" for kind in IMAGE_TYPES)
_LITERAL = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]", "\\": "\\\\"})  # patterns that match these characters
_THREADS = 4  # read, decode, encode and write; only one of them runs the model at a time


@dataclass(frozen=True)
class Outcome:
    """Numbers of images: segmented, skipped since they can't be, and kept since their files are there already."""

    segmented: int
    skipped: int
    kept: int


def predict(settings: PredictSettings) -> Outcome:
    """Segments the images of `settings.images` and writes the results to `settings.output`, each file as a whole.

    Images that can't be segmented are named on stderr; the last line, on stdout, has the numbers.

    Raises:
      ModelFileError: see `load_model`.
      PredictionError: there are no images, two would be written to one file, the output can't be written, or has files
        of the same names.
    """
    pictures = find_pictures(settings.images)
    check_targets(pictures, settings)
    folder = OutputFolder(pictures, settings)
    model, description = load_model(settings.model)
    segmenter = Segmenter(model, description, views=settings.views)
    worker = _Worker(segmenter, description.labels, settings, folder.kept)
    missing = [each for each in pictures if not folder.kept.issuperset(targets_of(each, settings).values())]
    if missing:
        segmenter.class_map.get_concrete_function()  # traced before the clock starts, not by the first image
    started = time.monotonic()
    with folder.recorded():
        skipped = _segment_all(missing, worker, Console(stderr=True, highlight=False, soft_wrap=True))
    outcome = Outcome(len(missing) - skipped, skipped, len(pictures) - len(missing))
    kept = f", {outcome.kept:,} kept as they were (--overwrite replaces them)" if outcome.kept else ""
    rate = len(missing) / (time.monotonic() - started)
    counted = f"{outcome.segmented:,} of {len(pictures):,} images segmented, {skipped:,} skipped{kept}"
    print(f"{settings.output}: {counted}; {rate:.1f} images/s")
    return outcome


def find_pictures(images: str) -> list[Picture]:
    """The images of a folder and its subfolders, a single file, or the files that a pattern matches; sorted by path.

    Raises:
      PredictionError: there are none.
    """
    if is_folder(images):
        base = images.rstrip("/")
        paths = [f"{base}/{name}" for name in files_below(base)]
    elif tf.io.gfile.exists(images):
        return [Picture(images, _stem(os.path.basename(images)))]
    else:
        base, pattern = _split_pattern(images)
        paths = [path for path in tf.io.gfile.glob(pattern) if not is_folder(path)]
        if not paths:
            raise PredictionError(
                f"--images={images}: there is no such file or folder, and no file matches the pattern"
            )
    shown = [path for path in paths if path.lower().endswith(TYPES) and not os.path.basename(path).startswith(".")]
    if not shown:
        raise PredictionError(f"{images}: none of {len(paths):,} files is an image: the types are {', '.join(TYPES)}")
    return [Picture(path, _stem(os.path.relpath(path, base or "."))) for path in sorted(shown)]


def _split_pattern(images: str) -> tuple[str, str]:
    """-> the existing folder that a pattern begins with, and the pattern in which the name of this folder is literal:
    `data [1]/*.png` matches the images in `data [1]`.
    """
    parts = images.split("/")
    bucket = [] if is_local(images) else parts[:3]  # not looked at: an account may have access to its objects only
    folders = ["/".join(parts[:end]) or "/" for end in range(len(parts) - 1, len(bucket), -1)]
    base = next(filter(is_folder, folders), "/".join(bucket))
    return base, base.translate(_LITERAL) + images[len(base) :]


def load_picture(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """-> RGB uint8[H, W, 3], the same pixels that the pipeline decodes.

    Raises:
      PictureError: the file can't be read, or the pipeline would reject it.
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
    """Blends the colors of the classes over an image. -> uint8[H, W, 3].

    Args:
      image: RGB uint8[H, W, 3].
      class_map: train ids, uint8[H, W].
      palette: the color of each train id, uint8[256, 3].
      opacity: of the colors, from 0 to 1.
    """
    blended: np.ndarray = image * np.float32(1 - opacity) + palette[class_map] * np.float32(opacity)
    return (blended + np.float32(0.5)).astype(np.uint8)


def _segment_all(pictures: list[Picture], worker: _Worker, console: Console) -> int:
    """-> the number of images that were skipped."""
    skipped = 0
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
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
    """Segments an image. Called from several threads; the model runs in one of them at a time."""

    def __init__(
        self, segmenter: Segmenter, labels: LabelTable, settings: PredictSettings, kept: frozenset[str]
    ) -> None:
        self._segmenter = segmenter
        self._labels = labels
        self._settings = settings
        self._kept = kept
        self._model_is_free = threading.Lock()
        self._label_ids = _label_ids(labels) if settings.form == "cityscapes_submission" else None

    def __call__(self, picture: Picture) -> str | None:
        """-> why the image can't be segmented; None if it was."""
        try:
            image = load_picture(picture.path, self._settings.max_image_pixels)
            with self._model_is_free:
                class_map = self._segmenter.class_map(image[np.newaxis])[0].numpy()
        except PictureError as error:
            return str(error)
        except tf.errors.ResourceExhaustedError:
            return f"{image.shape[1]}x{image.shape[0]} (WxH) does not fit into the memory of the device"
        files = self._files(image, class_map)
        for kind, path in targets_of(picture, self._settings).items():
            if path not in self._kept:
                write(path, files[kind])
        return None

    def _files(self, image: np.ndarray, class_map: np.ndarray) -> dict[str, bytes]:
        if self._label_ids is not None:
            return {"label_ids": _png(self._label_ids[class_map])}
        palette = self._labels.palette
        blended = io.BytesIO()
        over = overlay(image, class_map, palette, self._settings.overlay_opacity)
        Image.fromarray(over).save(blended, "JPEG", quality=92, subsampling=0)
        return {"ids": _png(class_map), "colors": _png(class_map, palette), "overlays": blended.getvalue()}


def _label_ids(labels: LabelTable) -> np.ndarray:
    """uint8[C]: train id -> the official label id of the class of that name.

    Raises:
      PredictionError: the classes are not exactly those of the benchmark.
    """
    official = BUILTIN_TABLES["cityscapes19"]().classes
    id_of = {row.name: row.source_ids[0] for row in official}
    make = BUILTIN_TABLES.get(labels.name)
    is_built_in = make is not None and make() == labels  # such as a map of another data set to these classes
    wrong = [
        row.name for row in labels.classes if not (_is_official(row, official) or (is_built_in and row.name in id_of))
    ]
    missing = sorted(id_of.keys() - {row.name for row in labels.classes})
    if wrong or missing:
        listed = [
            f"{title}: {', '.join(names)}" for title, names in (("foreign", wrong), ("missing", missing)) if names
        ]
        raise PredictionError(
            f"--as=cityscapes_submission needs a model of the {len(official)} classes of Cityscapes, with their names "
            f"and ids; the model's label table {labels.name!r} has others ({'; '.join(listed)}): leave out --as, or "
            "train on a data set that is built with --labels=cityscapes19"
        )
    return np.array([id_of[row.name] for row in labels.classes], np.uint8)


def _is_official(row: Label, official: tuple[Label, ...]) -> bool:
    """Whether a class of the benchmark has the same name, and its label id or train id is the only source id."""
    return any(row.name == known.name and row.source_ids in (known.source_ids, (known.train_id,)) for known in official)


def _png(ids: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """A PNG file with one channel of 8 bits; with a `palette` uint8[256, 3], a palette image."""
    image, file = Image.fromarray(ids), io.BytesIO()
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]
