"""The files that are written for a segmented image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import LabelTable
from trainer.inference.submission import label_ids_of


class Drawing:
    """Makes the files of a form, see `trainer.inference.outputs.targets_of`.

    Raises:
      SubmissionError: the benchmark of the form has other classes than the model.
    """

    def __init__(self, labels: LabelTable, form: str, overlay_opacity: float) -> None:
        self._palette = labels.palette
        self._opacity = overlay_opacity
        self._label_ids = (
            label_ids_of(labels, "--as=cityscapes_submission") if form == "cityscapes_submission" else None
        )

    def __call__(self, image: np.ndarray, class_map: np.ndarray) -> dict[str, bytes]:
        """RGB uint8[H, W, 3] and train ids uint8[H, W] -> kind of file -> its content."""
        if self._label_ids is not None:
            return {"label_ids": _png(self._label_ids[class_map])}
        blended = io.BytesIO()
        over = overlay(image, class_map, self._palette, self._opacity)
        Image.fromarray(over).save(blended, "JPEG", quality=92, subsampling=0)
        return {"ids": _png(class_map), "colors": _png(class_map, self._palette), "overlays": blended.getvalue()}


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


def _png(ids: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """A PNG file with one channel of 8 bits; with a `palette` uint8[256, 3], a palette image."""
    image, file = Image.fromarray(ids), io.BytesIO()
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, "PNG")
    return file.getvalue()
