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
from beam_pipelines.pixels.polygons.limits import LINE_WIDTH, OUTLINES, PIXELS, STEPS, Work, bad, check_near, outline
from beam_pipelines.pixels.polygons.runs import check_number, check_runs, columns_of, decompressed, spread

_THIN = 1e-6  # pixels: an ellipse with such a radius has no area
_COLUMNS = 16  # of an ellipse at a time: they stay in the processor's cache
_ELLIPSE_COST, _ROWS_COST = 8, 2  # a pixel in their box, beside one of their columns
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
        canvas, work = np.full(size, background, np.uint8, order="F"), Work(size)  # as pycocotools has its masks
        for region, value in zip(self.regions, ids, strict=True):
            left, mask = mask_of(region, work)
            work.add(PIXELS, mask.size)
            np.copyto(canvas[:, left : left + mask.shape[1]], np.uint8(value), where=mask)
        return np.ascontiguousarray(canvas)


def read(document: bytes) -> Drawing:
    """Raises msgspec.DecodeError if a segmentation is not as COCO has them."""
    found = msgspec.json.decode(document, type=Regions)
    return Drawing((found.height, found.width), found.regions)


def mask_of(region: Region, work: Work) -> Window:
    """Raises BadInputError if the region can't be drawn."""
    size = work.size
    if region.problem:
        raise bad(f"{region.label!r} can't be drawn: {region.problem}")
    if region.rows is not None:
        return _of_rows(region.rows, region.label, work)
    if region.ellipse is not None:
        return _of_ellipse(region.ellipse, region.label, work)
    if region.line is not None:
        return _of_line(region.line, region.label, work)
    if isinstance(region.segmentation, ColumnRuns):
        return _of_columns(region.segmentation, region.label, size)
    return _of_polygons(region.segmentation or [], region.label, work)


def _of_polygons(polygons: Sequence[Sequence[float]], name: str, work: Work) -> Window:
    """The union of polygons; those of fewer than three points enclose no area."""
    height, width = work.size
    work.add(OUTLINES, len(polygons))
    outlines = [outline(polygon, name, work) for polygon in polygons]
    parts = [points.reshape(-1) for points in outlines if len(points) > 2]
    if not parts:
        return 0, np.zeros((height, 0), bool)
    union = coco.merge(coco.frPyObjects(parts, height, width))
    return columns_of(
        decompressed(union["counts"], height * width, name), height
    )  # pycocotools.decode would fill the whole image


def _of_columns(runs: ColumnRuns, name: str, size: Size) -> Window:
    if runs.size != size:
        raise bad(f"the RLE of {name!r} is of {runs.size[0]}x{runs.size[1]} pixels, the image {size[0]}x{size[1]}")
    pixels = size[0] * size[1]
    if isinstance(runs.counts, str):
        counts = decompressed(runs.counts.encode(errors="replace"), pixels, name)
    else:
        check_number(len(runs.counts), pixels, name)
        counts = np.array(runs.counts, np.int64)
    check_runs(counts, pixels, name)
    return columns_of(counts, size[0])


def _of_rows(runs: RowRuns, name: str, work: Work) -> Window:
    """What is outside the image is clipped."""
    size = work.size
    if runs.width > size[1] or runs.height > size[0]:
        raise bad(f"the mask of {name!r} is {runs.height}x{runs.width}, larger than the image {size[0]}x{size[1]}")
    check_near([runs.left, runs.top], name, size)
    check_number(len(runs.counts), runs.width * runs.height, name)
    work.add(PIXELS, _ROWS_COST * runs.width * runs.height)
    counts = np.array(runs.counts, np.int64)
    check_runs(counts, runs.width * runs.height, name)
    pixels = spread(counts).reshape(runs.height, runs.width)
    top, left = max(runs.top, 0), max(runs.left, 0)
    inside = pixels[top - runs.top :, left - runs.left :][: max(size[0] - top, 0), : max(size[1] - left, 0)]
    mask = np.zeros((size[0], inside.shape[1]), bool, order="F")
    mask[top : top + inside.shape[0]] = inside
    return left, mask


def _of_ellipse(ellipse: Ellipse, name: str, work: Work) -> Window:
    """Only the pixels in its box are looked at."""
    height, width = work.size
    check_near([ellipse.cx, ellipse.cy, ellipse.rx, ellipse.ry], name, work.size)
    if min(ellipse.rx, ellipse.ry) < _THIN:
        return 0, np.zeros((height, 0), bool)
    cos, sin = math.cos(math.radians(ellipse.rotation)), math.sin(math.radians(ellipse.rotation))
    left, right = _ends(ellipse.cx, math.hypot(ellipse.rx * cos, ellipse.ry * sin), width)
    top, bottom = _ends(ellipse.cy, math.hypot(ellipse.rx * sin, ellipse.ry * cos), height)
    work.add(PIXELS, _ELLIPSE_COST * (bottom - top) * (right - left))
    mask = np.zeros((height, right - left), bool, order="F")
    y = np.arange(top, bottom)[:, np.newaxis] + 0.5 - ellipse.cy
    for start in range(left, right, _COLUMNS):
        end = min(start + _COLUMNS, right)
        x = np.arange(start, end)[np.newaxis, :] + 0.5 - ellipse.cx
        along, across = (cos * x + sin * y) / ellipse.rx, (cos * y - sin * x) / ellipse.ry
        mask[top:bottom, start - left : end - left] = along**2 + across**2 <= 1
    return left, mask


def _ends(center: float, reach: float, length: int) -> tuple[int, int]:
    """The first pixel of `length` ones within `reach` of `center`, and the one after the last."""
    start = min(max(math.floor(center - reach), 0), length)
    return start, max(start, min(math.ceil(center + reach), length))


def _of_line(line: Sequence[float], name: str, work: Work) -> Window:
    """Pillow cuts coordinates to whole pixels toward 0: moved to the left by whole pixels, none becomes negative."""
    height, width = work.size
    points = outline(line, name, work)
    if not len(points):
        return 0, np.zeros((height, 0), bool)
    work.add(STEPS, len(points) * height)
    left, _ = _ends(points[:, 0].min() - LINE_WIDTH, 0, width)
    _, right = _ends(points[:, 0].max() + LINE_WIDTH, 0, width)
    image = Image.new("L", (max(right - left, 0), height))
    ImageDraw.Draw(image).line((points - (left, 0)).reshape(-1).tolist(), fill=1, width=LINE_WIDTH)
    return left, np.asarray(image).astype(bool, order="F")
