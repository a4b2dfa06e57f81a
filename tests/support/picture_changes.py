"""What happens to copies of a picture: other encoders, sizes and light, mirrors and crops."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image


def reencoded(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def half_size(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BICUBIC))


def lit(image: np.ndarray, factor: float) -> np.ndarray:
    return np.minimum(np.rint(image * factor), 255).astype(np.uint8)


def mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Without `share` of the height and of the width, half of it at each side."""
    height, width = image.shape[:2]
    top, left = round(height * share / 2), round(width * share / 2)
    return np.ascontiguousarray(image[top : height - top, left : width - left])


CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 75": partial(reencoded, quality=75),
    "JPEG 30": partial(reencoded, quality=30),
    "half size": half_size,
    "brighter": partial(lit, factor=1.3),
    "darker": partial(lit, factor=0.6),
    "mirrored": mirrored,
    "cropped by 2 %": partial(cropped, share=0.02),
    "cropped by 5 %": partial(cropped, share=0.05),
}
