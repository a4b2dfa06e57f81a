"""Finds and reads the files of instance ids of Cityscapes, `*_instanceIds.png`."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from PIL import Image

from beam_pipelines.contract.errors import UserError
from trainer.errors import refusals
from trainer.files import files_below, is_folder

OBJECTS = 1000  # ids above are 1000 * label id + number; smaller ids are label ids of pixels without an object
_FILE = re.compile(r"(?P<image>.+?)(_gtFine|_gtCoarse)?_instanceIds\.png")
_IMAGE_SUFFIX = "_leftImg8bit"
_MODES = ("I;16", "I;16B", "I")  # Pillow's for PNG files of 16 bits


class InstancesError(UserError, ValueError):
    """Files of instance ids that can't be used; the message says how to fix it."""


class InstanceFiles:
    """The files of instance ids below a folder, or that a pattern matches, local or gs://.

    A file belongs to the image of the same name without what Cityscapes appends: `aachen_000000_000019_leftImg8bit.png`
    and `aachen_000000_000019_gtFine_instanceIds.png`.

    Raises:
      InstancesError: there are no such files, or two for an image.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._path_of: dict[str, str] = {}
        with refusals():
            paths = _paths(place)
        for path in sorted(paths):
            found = _FILE.fullmatch(os.path.basename(path))
            if found is None:
                continue
            other = self._path_of.setdefault(found["image"], path)
            if other != path:
                raise InstancesError(
                    f"--instances={place}: {other} and {path} belong to one image: set a folder, or a pattern, with "
                    "only one of them"
                )
        if not self._path_of:
            raise InstancesError(f"--instances={place}: there are no files *_instanceIds.png: set their folder")

    def check(self, filenames: Iterable[str]) -> None:
        """Raises InstancesError if an image has no file."""
        for filename in filenames:
            self._file_of(filename)

    def read(self, filename: str, size: tuple[int, ...]) -> tuple[str, np.ndarray]:
        """The file of an image -> its path, and its ids uint16[H, W].

        Raises:
          InstancesError: it is missing or damaged, has not one channel of 16 bits, or another size than (H, W).
        """
        path = self._file_of(filename)
        with refusals(), tf.io.gfile.GFile(path, "rb") as file:
            data = file.read()
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                mode, ids = image.mode, np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InstancesError(f"{path} is no PNG file, or is damaged ({error}): restore it") from error
        if mode not in _MODES:
            raise InstancesError(
                f"{path} has not one channel of 16 bits, as instance ids have: give the files *_instanceIds.png of "
                "Cityscapes"
            )
        if ids.shape != size:
            found, scored = ("x".join(map(str, each)) for each in (ids.shape, size))
            raise InstancesError(
                f"{path} has {found} pixels, and {filename} is scored at {scored}: score it at its own size, with "
                "--input, or on a data set that is built with --image_size=native"
            )
        return path, ids.astype(np.uint16)

    def _file_of(self, filename: str) -> str:
        image = os.path.splitext(os.path.basename(filename))[0].removesuffix(_IMAGE_SUFFIX)
        if image not in self._path_of:
            raise InstancesError(
                f"--instances={self._place}: there is no file of the instances of {filename}, such as "
                f"{image}_gtFine_instanceIds.png: add it, or leave out --instances"
            )
        return self._path_of[image]


def _paths(place: str) -> list[str]:
    if is_folder(place):
        base = place.rstrip("/")
        return [f"{base}/{name}" for name in files_below(base)]
    try:
        found: list[str] = tf.io.gfile.glob(place)
    except tf.errors.NotFoundError:  # the folder before the pattern
        return []
    return found
