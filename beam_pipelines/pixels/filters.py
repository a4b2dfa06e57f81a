"""The filters that resize images: how --resize, Pillow and TensorFlow call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filter:
    """A filter by its name in `PIL.Image.Resampling` and in TensorFlow: of `tf.image.resize`, except "box", which only
    `tf.raw_ops.ScaleAndTranslate` has.
    """

    pillow: str
    tensorflow: str


FILTERS = {
    "area": Filter("BOX", "box"),
    "bilinear": Filter("BILINEAR", "bilinear"),
    "bicubic": Filter("BICUBIC", "bicubic"),
    "lanczos": Filter("LANCZOS", "lanczos3"),
}
