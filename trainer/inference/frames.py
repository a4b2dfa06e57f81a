"""The frames of a video, one at a time, as PyAV (FFmpeg's libraries) decodes them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.pictures import PictureError
from trainer.errors import refusal

_INDEXED = (".m4v", ".mov", ".mp4")  # their index may be at the end
TYPES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_TICKS = 1_000_000  # of FFmpeg's clock in a second
_SLACK = 0.5  # seconds by which the sound of an intact file may be longer


def frames_of(path: str, *, every: int, max_pixels: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (number, RGB uint8[H, W, 3]) of each frame whose number, from 1, is 1 plus a multiple of `every`.

    Raises:
      PictureError: there is no PyAV, or the video can't be read, from the frame on that the message names; the frames
        before it were yielded.
    """
    if importlib.util.find_spec("av") is None:
        raise PictureError("video", "PyAV, which reads its frames, is not installed: pip install '.[video]'")
    import av

    number, end = 0, 0.0
    try:
        with tf.io.gfile.GFile(path, "rb") as file, _opened(file, path) as container:
            stream = _stream(container, max_pixels)
            for number, frame in enumerate(container.decode(stream), 1):
                _check(frame)
                end = (frame.time or 0.0) + float(1 / (stream.average_rate or 1))
                if (number - 1) % every == 0:
                    yield number, frame.to_ndarray(format="rgb24")  # by the matrix that the frame names
            _check_complete(container, stream, number, end)
    except tf.errors.OpError as error:
        raise PictureError("unreadable", str(refusal(error) or error.message)) from error
    except av.FFmpegError as error:
        raise PictureError("damaged", f"{_after(number)}{error.strerror}") from error


def _opened(file: tf.io.gfile.GFile, path: str) -> Any:
    """The container that a file is. Raises PictureError if it is none."""
    import av

    if not file.size():
        raise PictureError("empty_file", "the file has no bytes")
    try:
        return av.open(file, options={"err_detect": "explode"})
    except av.FFmpegError as error:
        index = "; an mp4 whose download stopped lacks its index" if path.lower().endswith(_INDEXED) else ""
        told = f"the file is not a video that can be read ({error.strerror}{index}): copy or download it again"
        raise PictureError("not_a_video", told) from error


def _stream(container: Any, max_pixels: int) -> Any:
    """The video stream of a file. Raises PictureError if there is none, or it is too large."""
    if not container.streams.video:
        raise PictureError("no_video", "the file has sound or text only")
    stream = container.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise PictureError(
            "too_many_pixels",
            f"{width}x{height} (WxH) is more than {max_pixels:,} pixels: --max_image_pixels={width * height} takes it",
        )
    stream.codec_context.options = {"err_detect": "explode"}  # a guess at lost blocks would be segmented in silence
    return stream


def _check(frame: Any) -> None:
    if frame.rotation:
        raise PictureError(
            "rotated", f"it is shown turned by {abs(frame.rotation)} degrees: `ffmpeg -i VIDEO TURNED.mp4` turns it"
        )


def _check_complete(container: Any, stream: Any, number: int, end: float) -> None:
    """Raises PictureError if the file ends before what it says itself.

    Args:
      number: of the last frame.
      end: of the last frame, in seconds.
    """
    if not number:
        raise PictureError("no_video", "the file has no frame")
    if number < stream.frames:
        raise PictureError(
            "truncated", f"the video ends after frame {number:,}, before its stated {stream.frames:,} frames"
        )
    lasts = (container.duration or 0) / _TICKS
    if not stream.frames and lasts - end > _SLACK:
        raise PictureError(
            "truncated",
            f"the video ends after frame {number:,} ({end:.1f} s), before its stated length of {lasts:.1f} s",
        )


def _after(number: int) -> str:
    return f"after frame {number:,}, " if number else ""
