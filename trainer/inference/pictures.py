"""Finds and reads the images and videos that are to be segmented."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL, MAX_IMAGE_PIXELS, PictureError, decode_image
from trainer.errors import refusal
from trainer.files import files_below, is_folder, is_local
from trainer.inference import frames
from trainer.inference.outputs import Picture, PredictionError, Video

TYPES = tuple(f".{kind}" for kind in IMAGE_TYPES)
_LITERAL = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]", "\\": "\\\\"})  # patterns that match these characters


def find_pictures(images: str) -> list[Picture]:
    """The images and videos of a folder and its subfolders, a single file, or the files that a pattern matches.

    Returns:
      They, sorted by path.

    Raises:
      PredictionError: there are none.
    """
    if is_folder(images):
        base = images.rstrip("/")
        paths = [f"{base}/{name}" for name in files_below(base)]
    elif tf.io.gfile.exists(images):
        return [_source(images, os.path.basename(images))]
    else:
        base, pattern = _split_pattern(images)
        paths = [path for path in tf.io.gfile.glob(pattern) if not is_folder(path)]
        if not paths:
            raise PredictionError(
                f"--images={images}: there is no such file or folder, and no file matches the pattern"
            )
    shown = [
        path
        for path in paths
        if path.lower().endswith(TYPES + frames.TYPES) and not os.path.basename(path).startswith(".")
    ]
    if not shown:
        raise PredictionError(
            f"{images}: none of {len(paths):,} files is an image or a video: the types are {', '.join(TYPES)}; "
            f"{', '.join(frames.TYPES)}"
        )
    return [_source(path, os.path.relpath(path, base or ".")) for path in sorted(shown)]


def _source(path: str, name: str) -> Picture:
    """The image, or the video, of a file; `name` is its path below the searched folder."""
    kind = Video if path.lower().endswith(frames.TYPES) else Picture
    return kind(path, os.path.splitext(name)[0])


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
