"""The output folder of a prediction: which files are written for an image, and which are there already.

A file that is there is never replaced without `--overwrite`. `.predict.json` in the folder records the commands that
wrote to it, so that the same command can be run again: it keeps the files that are there and writes the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.errors import refusal
from trainer.files import (
    DamagedFileError,
    is_folder,
    make_folder,
    make_parent,
    names_in,
    read_bytes,
    sealed,
    sha256_of,
    unsealed,
    write_whole,
)
from trainer.inference.model_file import find_model
from trainer.inference.request import PredictSettings

_RECORD = ".predict.json"
_RECORD_BYTES = 2**22


class PredictionError(UserError, ValueError):
    """Images that can't be segmented, or an output folder that can't be used; the message says how to fix it."""


@dataclass(frozen=True)
class Picture:
    """An image file. `name` is its path below the searched folder, without suffix: `aachen/aachen_000000_000019`."""

    path: str
    name: str


@dataclass(frozen=True)
class Video(Picture):
    """A video file. Its frames are the pictures `NAME/000001`, `NAME/000002`, ..., by their number."""

    def frame(self, number: int) -> Picture:
        return Picture(f"{self.path}: frame {number:,}", f"{self.name}/{number:06}")


def targets_of(picture: Picture, settings: PredictSettings) -> dict[str, str]:
    """Kind of file -> the path where it is written."""
    output = settings.output.rstrip("/")
    if settings.form == "cityscapes_submission":
        return {"label_ids": f"{output}/{os.path.basename(picture.name)}.png"}
    types = {"ids": "png", "colors": "png", "overlays": "jpg"}
    return {kind: f"{output}/{kind}/{picture.name}.{suffix}" for kind, suffix in types.items()}


def check_targets(pictures: Sequence[Picture], settings: PredictSettings) -> None:
    """Raises PredictionError if a file would be written twice, replace an image, or be an image of the next run."""
    output, images = _absolute(settings.output), _absolute(settings.images)
    if is_folder(settings.images) and f"{output}/".startswith(f"{images}/"):
        raise PredictionError(
            f"--output={settings.output} is inside --images={settings.images}, so the next run would segment what this "
            "run writes: choose a folder outside of it"
        )
    sources = {_absolute(picture.path) for picture in pictures}
    videos = [picture for picture in pictures if isinstance(picture, Video)]
    if videos and settings.form == "cityscapes_submission":
        raise PredictionError(f"{videos[0].path} is a video, of which there is no submission: leave out --as")
    if settings.every > 1 and not videos:
        raise PredictionError(f"--every={settings.every} has no effect: there is no video in {settings.images}")
    writers: dict[str, Picture] = {}
    for picture in sorted(pictures, key=lambda each: not isinstance(each, Video)):
        for target in _places(picture, settings):
            other = writers.get(os.path.dirname(target)) or writers.setdefault(target, picture)
            if other is not picture:
                raise PredictionError(
                    f"{other.path} and {picture.path} would both be written to {target}: rename one of them"
                )
            if _absolute(target) in sources:
                raise PredictionError(f"{target} is one of the images: choose another --output")


def _places(picture: Picture, settings: PredictSettings) -> list[str]:
    """The files that are written for an image; the folders of those of the frames of a video."""
    if isinstance(picture, Video):
        return [os.path.dirname(path) for path in targets_of(picture.frame(1), settings).values()]
    return [*targets_of(picture, settings).values()]


class OutputFolder:
    """The folder of one command.

    Attributes:
      kept: the paths of files that are there already, and stay as they are.

    Raises:
      ModelFileError: there is no model.
      PredictionError: the folder can't be written, or has files of the same names that another command wrote.
    """

    def __init__(self, pictures: Sequence[Picture], settings: PredictSettings) -> None:
        self._record, self._overwrite = f"{settings.output.rstrip('/')}/{_RECORD}", settings.overwrite
        with writing(settings.output):
            make_folder(settings.output)
        self._command = _identity(settings)
        self._recorded = _recorded(self._record)
        places = [(each, place) for each in pictures for place in _places(each, settings)]
        targets = [place for each, place in places if not isinstance(each, Video)]
        folders = [place for each, place in places if isinstance(each, Video)]
        targets += [f"{folder}/{name}" for folder in folders for name in names_in(folder)]
        self.kept = frozenset() if settings.overwrite else _existing(targets)
        if self.kept and self._command not in self._recorded:
            raise PredictionError(
                f"{min(self.kept)} is already there, and was not written by this command and model: choose another "
                "--output, or replace it with --overwrite"
            )

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Records the command: before files are added, but after files are replaced, so that no old one is kept."""
        if not self._overwrite:
            self._write_record([*(each for each in self._recorded if each != self._command), self._command])
            yield
            return
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(self._record)
        yield
        self._write_record([self._command])

    def _write_record(self, commands: list[dict[str, Any]]) -> None:
        with writing(self._record):
            write_whole(self._record, sealed({"commands": commands}))


def write(path: str, data: bytes) -> None:
    """Writes a file whole or not at all. Raises PredictionError if it can't be written."""
    with writing(path):
        make_parent(path)
        write_whole(path, data)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns errors of the file system into a PredictionError about `path`."""
    try:
        yield
    except UserError:
        raise
    except (tf.errors.OpError, OSError) as error:
        reason = refusal(error) or (error.message if isinstance(error, tf.errors.OpError) else error)
        raise PredictionError(f"{path} can't be written: {reason}; fix this or choose another --output") from error


def _identity(settings: PredictSettings) -> dict[str, Any]:
    """What the files of a command depend on, as plain JSON. Without a window, it is what earlier versions recorded."""
    views = settings.views.to_json()
    if settings.views.window is None:
        del views["window"], views["overlap"]
    return {
        "model": sha256_of(find_model(settings.model)),
        "images": _absolute(settings.images),
        "as": settings.form,
        "overlay_opacity": settings.overlay_opacity,
        **views,
    }


def _recorded(path: str) -> list[dict[str, Any]]:
    """The commands that wrote to a folder; none if their record is missing or damaged."""
    try:
        commands = unsealed(read_bytes(path, _RECORD_BYTES)).get("commands")
    except (FileNotFoundError, DamagedFileError):
        return []
    return commands if isinstance(commands, list) else []


def _existing(paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that exist. Lists each folder once: in a bucket, each question is a request."""
    folders = {os.path.dirname(path) for path in paths}
    names = {folder: set(names_in(folder)) for folder in folders}
    return frozenset(path for path in paths if os.path.basename(path) in names[os.path.dirname(path)])


def _absolute(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.abspath(path)
