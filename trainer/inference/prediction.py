"""Segments images and the frames of videos, and writes the predicted classes."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_pipelines.contract.pictures import PictureError
from trainer.inference.drawing import Drawing
from trainer.inference.frames import frames_of
from trainer.inference.model_file import load_model
from trainer.inference.outputs import OutputFolder, Picture, Video, check_targets, targets_of, write
from trainer.inference.pictures import find_pictures, load_picture
from trainer.inference.request import PredictSettings
from trainer.inference.segmenter import Segmenter
from trainer.inference.views import ViewsError

_THREADS = 4  # read and decode; as many encode and write
_AHEAD = 2 * _THREADS  # images that are read, and that are written, while the model runs
_SIZES = 4  # batches of images of several sizes that may wait to be full
Loaded = tuple[Picture, np.ndarray]
Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Outcome:
    """Numbers of images, frames among them: segmented; skipped, since they can't be; kept, since they are there."""

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
    drawing = Drawing(description.labels, settings.form, settings.overlay_opacity)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    prediction = _Prediction(Segmenter(model, description, views=settings.views), drawing, settings, folder, console)
    return prediction(pictures)


def by_size(images: Iterable[Loaded], count: int) -> Iterator[list[Loaded]]:
    """Yields batches of up to `count` images of one size, for which at most `_SIZES` batches of images wait."""
    waiting: dict[tuple[int, ...], list[Loaded]] = {}
    for picture, image in images:
        batch = waiting.setdefault(image.shape, [])
        batch.append((picture, image))
        if len(batch) == count:
            yield waiting.pop(image.shape)
        elif sum(map(len, waiting.values())) >= _SIZES * count:
            yield waiting.pop(next(iter(waiting)))  # the size that has waited the longest
    yield from waiting.values()


class _Prediction:
    """One command. The model runs in the main thread, while others read the next images and write the last ones."""

    def __init__(
        self, segmenter: Segmenter, drawing: Drawing, settings: PredictSettings, folder: OutputFolder, console: Console
    ) -> None:
        self._segmenter, self._drawing, self._settings = segmenter, drawing, settings
        self._folder, self._console = folder, console
        self._segmented = self._skipped = self._kept = 0
        self._has_told = False

    def __call__(self, pictures: list[Picture]) -> Outcome:
        if any(isinstance(each, Video) or not self._is_kept(each) for each in pictures):
            self._segmenter.class_map.get_concrete_function()  # traced before the clock starts, not by the first image
        started = time.monotonic()
        self._readers, self._writers = ThreadPoolExecutor(_THREADS), ThreadPoolExecutor(_THREADS)
        try:
            with self._folder.recorded(), self._progress(pictures) as progress:
                self._segment_all(pictures, progress)
        finally:
            for pool in (self._readers, self._writers):
                pool.shutdown(cancel_futures=True)
        tried = self._segmented + self._skipped
        kept = f", {self._kept:,} kept as they were (--overwrite replaces them)" if self._kept else ""
        counted = f"{self._segmented:,} of {tried + self._kept:,} images segmented, {self._skipped:,} skipped{kept}"
        rate = f"; {tried / (time.monotonic() - started):.1f} images/s" if self._segmented else ""
        print(f"{self._settings.output}: {counted}{rate}")
        return Outcome(self._segmented, self._skipped, self._kept)

    def _progress(self, pictures: list[Picture]) -> Progress:
        """A bar in a terminal; how many frames a video has is not known before."""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
        progress = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        has_videos = any(isinstance(each, Video) for each in pictures)
        progress.add_task("", total=None if has_videos else len(pictures))
        return progress

    def _segment_all(self, pictures: list[Picture], progress: Progress) -> None:
        writing: collections.deque[Future[None]] = collections.deque()
        for batch in by_size(self._loaded(pictures), self._settings.batch_per_replica):
            for picture, image, class_map in self._segment(batch):
                writing.append(self._writers.submit(self._write, picture, image, class_map))
                self._segmented += 1
            while len(writing) > _AHEAD:
                writing.popleft().result()
            progress.update(progress.task_ids[0], completed=self._segmented + self._skipped + self._kept)
        for written in writing:
            written.result()

    def _loaded(self, pictures: list[Picture]) -> Iterator[Loaded]:
        """Yields the images that are to be segmented, and names those that can't be read."""
        for is_video, group in itertools.groupby(pictures, lambda each: isinstance(each, Video)):
            if is_video:
                for video in group:
                    yield from self._frames(video)
                continue
            missing = (each for each in group if not self._keeps(each))
            for picture, image in _in_advance(self._readers, self._load, missing):
                if isinstance(image, Exception):
                    self._skip(picture, f"{image}; skipped")
                else:
                    yield picture, image

    def _load(self, picture: Picture) -> tuple[Picture, np.ndarray | PictureError | ViewsError]:
        try:
            image = load_picture(picture.path, self._settings.max_image_pixels)
            self._settings.views.check_windows(image.shape[:2])
        except (PictureError, ViewsError) as error:
            return picture, error
        return picture, image

    def _frames(self, video: Picture) -> Iterator[Loaded]:
        """The frames of a video, as far as it can be read."""
        assert isinstance(video, Video)
        settings, has_frames = self._settings, False
        found = frames_of(video.path, every=settings.every, max_pixels=settings.max_image_pixels)
        try:
            for number, image in _one_in_advance(self._readers, found):
                settings.views.check_windows(image.shape[:2])
                has_frames, frame = True, video.frame(number)
                if not self._keeps(frame):
                    yield frame, image
        except (PictureError, ViewsError) as error:
            self._skip(video, f"{error}; {'what follows is ' if has_frames else ''}skipped")

    def _keeps(self, picture: Picture) -> bool:
        """Whether all files of an image are there; counts it if so."""
        is_kept = self._is_kept(picture)
        self._kept += is_kept
        return is_kept

    def _is_kept(self, picture: Picture) -> bool:
        return self._folder.kept.issuperset(targets_of(picture, self._settings).values())

    def _skip(self, picture: Picture, reason: str) -> None:
        self._skipped += 1
        self._console.print(f"{picture.path}: {reason}", markup=False)

    def _segment(self, batch: list[Loaded]) -> list[tuple[Picture, np.ndarray, np.ndarray]]:
        """-> of each image that could be segmented: picture, RGB uint8[H, W, 3], train ids uint8[H, W]."""
        try:
            class_maps = self._segmenter.class_map(np.stack([image for _, image in batch])).numpy()
        except tf.errors.ResourceExhaustedError:
            height, width = batch[0][1].shape[:2]
            size = f"{width}x{height} (WxH)"
            if len(batch) == 1:
                self._skip(batch[0][0], f"{size} does not fit into the memory of the device; skipped")
                return []
            self._tell_of_batch(f"{len(batch)} images of {size}")
            return [done for each in batch for done in self._segment([each])]
        return [(picture, image, class_map) for (picture, image), class_map in zip(batch, class_maps, strict=True)]

    def _tell_of_batch(self, images: str) -> None:
        """Once: it is so for each batch of them."""
        if not self._has_told:
            self._has_told = True
            self._console.print(
                f"{images} do not fit into the memory of the device together, and are segmented one by one: set less "
                f"than --batch_per_replica={self._settings.batch_per_replica}",
                markup=False,
            )

    def _write(self, picture: Picture, image: np.ndarray, class_map: np.ndarray) -> None:
        files = self._drawing(image, class_map)
        for kind, path in targets_of(picture, self._settings).items():
            if path not in self._folder.kept:
                write(path, files[kind])


def _in_advance(pool: ThreadPoolExecutor, work: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """The results of `work`, in order, which is done for a few items more than are taken."""
    coming: collections.deque[Future[Done]] = collections.deque()
    for item in items:
        coming.append(pool.submit(work, item))
        if len(coming) > _AHEAD:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _one_in_advance(pool: ThreadPoolExecutor, items: Iterator[Item]) -> Iterator[Item]:
    """The items, of which the next one is made while the last one is used. None of them is None."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item
