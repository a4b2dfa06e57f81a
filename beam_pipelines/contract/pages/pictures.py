"""Pictures inside of pages: photos as JPEG and class maps as PNG, in data: addresses.

`pictures.html` has a macro that lays class maps over a photo, `pictures.js` what keys, buttons and a slider do to them.
"""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.contract.pages import share

LONGEST = 640  # pixels: the longer side of a picture
THUMBNAIL = 240  # of a small one
_TOLD = 4  # classes in the words about a class map
_QUALITY = 85  # of JPEG
_GOLDEN = 0.618034  # part of the color wheel between two classes without a color: neighbors differ most
_STRIPES = ((32, 32, 32), (88, 88, 88))  # what ignored pixels are hatched with
_STRIPE = 5  # pixels: the width of a stripe
_DIMMED = 230  # of 255: how much is hidden of what is not of the class that a picture is about
_LINE = 320  # pixels of the longer side for each pixel of the line around it; smaller pictures get none


def colors_of(labels: LabelTable) -> list[tuple[int, int, int]]:
    """The color of each class: that of the label table, or one of its own if it has none."""
    return [row.color if row.color is not None else _color(row.train_id) for row in labels.classes]


def _color(train_id: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(train_id * _GOLDEN % 1, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def css(color: Sequence[int]) -> str:
    """An RGB color for a style sheet."""
    return "#" + "".join(f"{value:02x}" for value in color)


def legend_of(labels: LabelTable) -> list[tuple[str, str]]:
    """Name and color of each class, by train id."""
    return [(row.name, css(color)) for row, color in zip(labels.classes, colors_of(labels), strict=True)]


def photo(image: np.ndarray, longest: int = LONGEST) -> str:
    """uint8[H, W, 3] -> the address of a JPEG picture, no larger than `longest`."""
    shown = Image.fromarray(smaller(image, longest))
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=_QUALITY)
    return _address("jpeg", file.getvalue())


def mask_picture(mask: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> str:
    """uint8[H, W] of train ids -> the address of a PNG picture in the classes' colors; ignored pixels are hatched."""
    ids = smaller(mask)
    rows, columns = np.indices(ids.shape)
    light = (rows + columns) // _STRIPE % 2 == 1
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = np.array(colors, np.uint8).reshape(-1, 3)
    palette[IGNORE] = _STRIPES[0]
    if len(colors) < IGNORE:  # or else there is no number left for the other stripe
        palette[IGNORE - 1] = _STRIPES[1]
        ids = np.where((ids == IGNORE) & light, IGNORE - 1, ids).astype(np.uint8)
    return png(ids, palette.tobytes())


def spotlight(
    chosen: np.ndarray, color: Sequence[int], dimmed: int = _DIMMED, filled: int = 255, line: int = _LINE
) -> str:
    """bool[H, W] -> the address of a PNG picture that shows what is chosen in one color and dims all the rest; a white
    line is around it, unless the picture is so small that the line would be more to see than what is chosen.

    Args:
      dimmed, filled: how much is hidden, of 255, of the rest and of what is chosen.
      line: pixels of the longer side for each pixel of the line's width.
    """
    shown = Image.fromarray(smaller(chosen.astype(np.uint8)))
    width = max(shown.size) // line
    around = np.asarray(shown.filter(ImageFilter.MaxFilter(2 * width + 1)) if width else shown)
    places = np.where(np.asarray(shown) > 0, 1, 2 * around).astype(np.uint8)
    return png(places, bytes([0, 0, 0, *color, 255, 255, 255]), transparency=bytes([dimmed, filled, 255]))


def png(indices: np.ndarray, palette: bytes, **options: bytes) -> str:
    """uint8[H, W] of places in a palette -> the address of a PNG picture."""
    shown = Image.fromarray(indices)
    shown.putpalette(palette)
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True, **options)
    return _address("png", file.getvalue())


def words_of(mask: np.ndarray, labels: LabelTable) -> str:
    """The largest classes of a class map, for those who can't see it."""
    counts = np.bincount(mask.reshape(-1), minlength=IGNORE + 1)
    largest = sorted(range(labels.num_classes), key=lambda train_id: (-counts[train_id], train_id))[:_TOLD]
    parts = [f"{labels.classes[each].name} {share(int(counts[each]) / mask.size)}" for each in largest if counts[each]]
    if counts[IGNORE]:
        parts.append(f"ignored {share(int(counts[IGNORE]) / mask.size)}")
    return ", ".join(parts)


def smaller(pixels: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """No larger than `longest`: uint8[H, W, 3] by the means of boxes, and ids uint8[H, W] by the nearest."""
    shown = Image.fromarray(pixels)
    method = Image.Resampling.BOX if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(shown.resize(_size(shown.size, longest), method))


def _size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height), no larger than `longest`."""
    width, height = size
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _address(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
