"""Masks as people store them, drawn here: areas of a few classes, as ids, colors or palettes, damaged or whole."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (96, 160)  # height, width
# Of CamVid, as SegNet has them: ids 0 to 5, and black as void.
COLORS = np.array(
    [(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (0, 0, 0)], np.uint8
)


def areas(classes: int, seed: int = 0) -> np.ndarray:
    """uint8[96, 160] of ids below `classes`, each of which fills an area or two."""
    rng = np.random.default_rng(seed)
    points, ids = rng.integers(0, SIZE, (2 * classes, 2)), np.arange(2 * classes) % classes
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    return ids[distance.argmin(axis=-1)].astype(np.uint8)


def palette_image(ids: np.ndarray, colors: np.ndarray) -> Image.Image:
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette(colors.astype(np.uint8).tobytes())
    return image


def as_jpeg(image: Image.Image) -> Image.Image:
    """What is left of a picture after it was saved as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return Image.open(stream).convert(image.mode)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def write_pairs(folder: Path, masks: Iterable[Image.Image | bytes]) -> Path:
    """An input of the layout `folders`: masks as given, and an image for each."""
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    for index, mask in enumerate(masks):
        Image.fromarray(noise).save(folder / "images" / "train" / f"{index:03d}.png")
        data = mask if isinstance(mask, bytes) else png(mask)
        (folder / "masks" / "train" / f"{index:03d}.png").write_bytes(data)
    return folder
