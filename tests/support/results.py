"""Results of images of which only the confusions matter."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.calibration import BINS
from trainer.evaluation.results import ImageResults


def results_of(confusions: np.ndarray) -> ImageResults:
    """Of int64[N, C, C]; everything else is zero."""
    images, classes = confusions.shape[:2]
    return ImageResults(
        filenames=tuple(f"image-{number:04}" for number in range(images)),
        confusions=confusions,
        near=np.zeros_like(confusions),
        boundary=np.zeros((images, classes, 3), np.int64),
        calibration=np.zeros((images, BINS, 3), np.int64),
        brightness=np.zeros(images, np.float32),
        label_quality=np.zeros(images, np.float32),
    )
