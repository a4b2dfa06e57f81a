"""What an export costs: the scores of a file and of its model on the same pixels of a split."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from trainer.data.batches import evaluation_batches
from trainer.data.corrupt import READ_ERRORS, diagnosis
from trainer.data.dataset import Split
from trainer.evaluation.measures import confusion
from trainer.evaluation.metrics import Scores
from trainer.formats.errors import FormatError
from trainer.formats.table import Run
from trainer.inference.model_file import Description, check_labels

Progress = Callable[[int, int], None]  # (images so far, all images)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A file and its model on the images of a split.

    Attributes:
      labels: the table of the C classes.
      images: their number.
      model, file: int64[C, C], counts of pixels by true and predicted class; rows are the truth.
      pixels, differing: of all images, also those that are ignored in the truth; how many get another class.
    """

    labels: LabelTable
    images: int
    model: np.ndarray
    file: np.ndarray
    pixels: int
    differing: int

    @functools.cached_property
    def scores(self) -> tuple[Scores, Scores]:
        """Of the model and of the file."""
        before, after = (Scores(confusion=counts, labels=self.labels) for counts in (self.model, self.file))
        return before, after

    def __str__(self) -> str:
        before, after = (100 * scores.mean_iou for scores in self.scores)
        change = "lost" if after <= before else "gained"
        return (
            f"mean IoU {before:.1f} % → {after:.1f} % ({change} {abs(before - after):.2f}), "
            f"{100 * self.differing / self.pixels:.3f} % of pixels differ"
        )

    def to_json(self) -> dict[str, Any]:
        """IoU from 0 to 1, with None for a class that has none; `lost` is that of the model minus that of the file."""
        names = [row.name for row in self.labels.classes]
        before, after = self.scores
        return {
            "images": self.images,
            "pixels": self.pixels,
            "differing_pixels": self.differing,
            "differing_share": self.differing / self.pixels,
            "mean_iou": _change(before.mean_iou, after.mean_iou),
            "class_iou": {
                name: _change(*ious) for name, *ious in zip(names, before.class_iou, after.class_iou, strict=True)
            },
        }


def check_fit(split: Split, description: Description, size: tuple[int, int]) -> None:
    """Raises an error unless the data set has the classes of the model, and images of the (height, width) of the file.

    Raises:
      ModelFileError: it has other classes.
      FormatError: it has images of another size, or of several.
    """
    check_labels(description, split.manifest, split.folder)
    pixels = split.manifest.pixels
    if (pixels.height, pixels.width) == size:
        return
    asked = "{}x{}".format(*size)
    if not pixels.uniform:
        raise FormatError(
            f"{split.folder} has images of several sizes, and the file takes {asked} only: check it on a data set that "
            f"was built with --image_size={asked}"
        )
    found = f"{pixels.height}x{pixels.width}"
    raise FormatError(
        f"{split.folder} has images of {found}, and the file takes {asked} only: set --image_size={found}, or check it "
        f"on a data set that was built with --image_size={asked}"
    )


def compare(split: Split, description: Description, model: Run, file: Run, on_progress: Progress) -> Comparison:
    """Runs both on the pixels of each image of the split, one image at a time.

    Raises:
      DatasetError: a record is damaged.
      FormatError: the runtime of the file fails.
    """
    classes = description.labels.num_classes
    totals = np.zeros((2, classes, classes), np.int64)
    done = pixels = differing = 0
    try:
        for batch in evaluation_batches(split, 1):
            images = batch["image"].numpy()
            found = model(images), file(images)
            totals += [confusion(batch["mask"], class_map, classes).numpy() for class_map in found]
            pixels += found[0].size
            differing += int((found[0] != found[1]).sum())
            done += 1
            on_progress(done, split.examples)
    except READ_ERRORS as error:
        damage = diagnosis(error, split)
        if damage is None:
            raise
        raise damage from error
    return Comparison(
        labels=description.labels, images=done, model=totals[0], file=totals[1], pixels=pixels, differing=differing
    )


def _change(before: float, after: float) -> dict[str, float | None]:
    values = {"model": float(before), "file": float(after), "lost": float(before - after)}
    return {name: None if math.isnan(value) else value for name, value in values.items()}
