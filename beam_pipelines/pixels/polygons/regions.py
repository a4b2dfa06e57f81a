"""The regions that planning makes of COCO's and CVAT's files, drawn as pycocotools draws them.

Polygons are filled by pycocotools (`maskApi.c`, rleFrPoly), as COCO's own masks are. A pixel belongs to an ellipse if
its center does. CVAT exports no lines as masks; they are drawn as Labelme's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from beam_pipelines.inputs.regions import ColumnRuns, Ellipse, Region, Regions, RowRuns
from beam_pipelines.pixels.polygons.limits import LINE_WIDTH, bad, check_near, outline
from beam_pipelines.pixels.polygons.runs import check_runs, columns_of, decompressed, spread

_THIN = 1e-6  # pixels: an ellipse with such a radius has no area
Size = tuple[int, int]
Window = tuple[int, np.ndarray]  # (left, bool[H, w]): the columns from `left` on; the region is in no others


@dataclass(frozen=True)
class Drawing:
    """The regions of an image, and its (height, width)."""

    size: tuple[int | None, int | None]
    regions: Sequence[Region]

    @property
    def names(self) -> list[str]:
        return [region.label for region in self.regions]

    def draw(self, ids: Sequence[int], background: int, size: Size) -> np.ndarray:
        """-> uint8[H, W]: `ids` has the value of each region."""
        canvas = np.full(size, background, np.uint8, order="F")  # as pycocotools has its masks
        for region, value in zip(self.regions, ids, strict=True):
            left, mask = mask_of(region, size)
            np.copyto(canvas[:, left : left + mask.shape[1]], np.uint8(value), where=mask)
        return np.ascontiguousarray(canvas)


def read(document: bytes) -> Drawing:
    """Raises msgspec.DecodeError if a segmentation is not as COCO has them."""
    found = msgspec.json.decode(document, type=Regions)
    return Drawing((found.height, found.width), found.regions)


def mask_of(region: Region, size: Size) -> Window:
    """Raises BadInputError if the region can't be drawn."""
    if region.problem:
        raise bad(f"{region.label!r} can't be drawn: {region.problem}")
    if region.rows is not None:
        return _of_rows(region.rows, region.label, size)
    if region.ellipse is not None:
        return _of_ellipse(region.ellipse, region.label, size)
    if region.line is not None:
        return _of_line(region.line, region.label, size)
    if isinstance(region.segmentation, ColumnRuns):
        return _of_columns(region.segmentation, region.label, size)
    return _of_polygons(region.segmentation or [], region.label, size)


def _of_polygons(polygons: Sequence[Sequence[float]], name: str, size: Size) -> Window:
    """The union of polygons; those of fewer than three points enclose no area."""
    outlines = [outline(polygon, name, size) for polygon in polygons]
    parts = [points.reshape(-1) for points in outlines if len(points) > 2]
    if not parts:
        return 0, np.zeros((size[0], 0), bool)
    union = coco.merge(coco.frPyObjects(parts, *size))
    return columns_of(decompressed(union["counts"], name), size[0])  # pycocotools.decode would fill the whole image


def _of_columns(runs: ColumnRuns, name: str, size: Size) -> Window:
    if runs.size != size:
        raise bad(f"the RLE of {name!r} is of {runs.size[0]}x{runs.size[1]} pixels, the image {size[0]}x{size[1]}")
    text = runs.counts.encode(errors="replace") if isinstance(runs.counts, str) else None
    counts = np.array(runs.counts, np.int64) if text is None else decompressed(text, name)
    check_runs(counts, size[0] * size[1], name)
    return columns_of(counts, size[0])


def _of_rows(runs: RowRuns, name: str, size: Size) -> Window:
    """What is outside the image is clipped."""
    if runs.width > size[1] or runs.height > size[0]:
        raise bad(f"the mask of {name!r} is {runs.height}x{runs.width}, larger than the image {size[0]}x{size[1]}")
    check_near([runs.left, runs.top], name, size)
    counts = np.array(runs.counts, np.int64)
    check_runs(counts, runs.width * runs.height, name)
    pixels = spread(counts).reshape(runs.height, runs.width)
    top, left = max(runs.top, 0), max(runs.left, 0)
    inside = pixels[top - runs.top :, left - runs.left :][: max(size[0] - top, 0), : max(size[1] - left, 0)]
    mask = np.zeros((size[0], inside.shape[1]), bool)
    mask[top : top + inside.shape[0]] = inside
    return left, mask


def _of_ellipse(ellipse: Ellipse, name: str, size: Size) -> Window:
    check_near([ellipse.cx, ellipse.cy, ellipse.rx, ellipse.ry], name, size)
    if min(ellipse.rx, ellipse.ry) < _THIN:
        return 0, np.zeros((size[0], 0), bool)
    longer = max(ellipse.rx, ellipse.ry)
    left, right = max(math.floor(ellipse.cx - longer), 0), min(math.ceil(ellipse.cx + longer), size[1])
    x = np.arange(left, max(left, right))[np.newaxis, :] + 0.5 - ellipse.cx
    y = np.arange(size[0])[:, np.newaxis] + 0.5 - ellipse.cy
    cos, sin = math.cos(math.radians(ellipse.rotation)), math.sin(math.radians(ellipse.rotation))
    along, across = (cos * x + sin * y) / ellipse.rx, (cos * y - sin * x) / ellipse.ry
    return left, along**2 + across**2 <= 1


def _of_line(line: Sequence[float], name: str, size: Size) -> Window:
    image = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(image).line(outline(line, name, size).reshape(-1).tolist(), fill=1, width=LINE_WIDTH)
    return 0, np.asarray(image).astype(bool)
