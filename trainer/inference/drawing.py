"""The files that are written for a segmented image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from trainer.inference.outputs import PredictionError


class Drawing:
    """Makes the files of a form, see `trainer.inference.outputs.targets_of`.

    Raises:
      PredictionError: the benchmark of the form has other classes than the model.
    """

    def __init__(self, labels: LabelTable, form: str, overlay_opacity: float) -> None:
        self._palette = labels.palette
        self._opacity = overlay_opacity
        self._label_ids = _label_ids(labels) if form == "cityscapes_submission" else None

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
