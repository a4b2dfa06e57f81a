"""What an evaluation measured of each image, and the file that keeps it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, section 2.5.1


class ResultsError(UserError, ValueError):
    """A file of results that can't be read; the message says how to make it again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResults:
    """What was measured of each of N images; see `trainer.evaluation.measures.measure`.

    Attributes:
      filenames: of the images, in stored order.
      confusions: int64[N, C, C], one matrix for each image; rows are the truth.
      near: int64[N, C, C], of the pixels near a boundary between true classes.
      boundary: int64[N, C, 3], intersection, truth and prediction of Boundary IoU.
      calibration: int64[N, BINS, 3], pixels, correct pixels and sum of confidences; see
        `trainer.evaluation.calibration.bins_of_levels`.
      brightness: float32[N], the mean luma, 0..255.
      suspects: int64[N], pixels of suspected label errors; see `trainer.evaluation.suspects`.
    """

    filenames: tuple[str, ...]
    confusions: np.ndarray
    near: np.ndarray
    boundary: np.ndarray
    calibration: np.ndarray
    brightness: np.ndarray
    suspects: np.ndarray

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> ImageResults:
        """Of the images that `measure` measured, one row for each, with `calibration` in place of `levels`."""
        stacked = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        brightness = stacked.pop("color").astype(np.float64) @ _LUMA
        return cls(filenames=tuple(names), brightness=brightness.astype(np.float32), **stacked)

    @property
    def suspect_shares(self) -> np.ndarray:
        """float64[N]: the share of the valid pixels that `suspects` are; 0 without valid pixels."""
        shares: np.ndarray = self.suspects / np.maximum(1, self.confusions.sum(axis=(1, 2)))
        return shares

    def to_bytes(self, labels: LabelTable) -> bytes:
        """The content of a file that `read_results` reads: compressed arrays, with the names of the classes."""
        content = io.BytesIO()
        names = [row.name for row in labels.classes]
        arrays = vars(self) | {"filenames": _texts(self.filenames), "class_names": _texts(names)}
        np.savez_compressed(content, **arrays)
        return content.getvalue()


def read_results(content: bytes) -> tuple[ImageResults, tuple[str, ...]]:
    """-> the results and the names of the C classes.

    Raises:
      ResultsError: it is not a whole file of results of this version.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names, filenames = (tuple(arrays.pop(name).tolist()) for name in ("class_names", "filenames"))
        results = ImageResults(filenames=filenames, **arrays)
        _check_shapes(results, len(names))
    except Exception as error:  # of a damaged archive: NumPy and zipfile raise many kinds
        raise ResultsError(f"not a whole file of results ({error}): run trainer.evaluate again") from error
    return results, names


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(values, np.str_)


def _check_shapes(results: ImageResults, classes: int) -> None:
    images = len(results.filenames)
    expected = {"confusions": (classes, classes), "near": (classes, classes), "boundary": (classes, 3)}
    for field in fields(results)[1:]:
        shape = getattr(results, field.name).shape
        if shape[0] != images or shape[1:] != expected.get(field.name, shape[1:]):
            raise ValueError(f"{field.name} has shape {list(shape)} for {images} images of {classes} classes")
