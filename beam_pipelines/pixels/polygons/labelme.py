"""Labelme's JSON file of an image, drawn as `labelme.utils.shapes_to_label` draws it: with Pillow, outlines included.

Format and rules: Labelme 6.3, `_label_file.py` and `utils/shape.py`. Points (`point`, `points`) have no area, and are
not drawn.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from beam_pipelines.contract.picture_errors import PictureError, damage_refused
from beam_pipelines.inputs.regions import Number
from beam_pipelines.pixels.polygons.limits import LENGTH, LINE_WIDTH, PIXELS, STEPS, Work, bad, box_of, outline

_LARGEST_RADIUS = 15_000  # pixels; Pillow's 64-bit integers overflow above twice as much
_MASK_COST = 3  # a pixel of a mask, beside one of another region
_ANY = 0  # in place of a number of points
Pen = ImageDraw.ImageDraw


class Shape(msgspec.Struct, frozen=True):
    """`mask` is a PNG file in base64, of the box between the two points."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


class _File(msgspec.Struct):
    shapes: list[Shape]
    imageHeight: Number | None = None  # noqa: N815 - Labelme's names
    imageWidth: Number | None = None  # noqa: N815


@dataclass(frozen=True)
class Drawing:
    """The shapes of an image that have an area, and its (height, width)."""

    size: tuple[int | None, int | None]
    shapes: Sequence[Shape]

    @property
    def names(self) -> list[str]:
        return [shape.label for shape in self.shapes]

    def draw(self, ids: Sequence[int], background: int, size: tuple[int, int]) -> np.ndarray:
        """-> uint8[H, W]: `ids` has the value of each shape."""
        image = Image.new("L", (size[1], size[0]), background)
        pen, work = ImageDraw.Draw(image), Work(size)
        for shape, value in zip(self.shapes, ids, strict=True):
            _draw(shape, value, image, pen, work)
        return np.array(image)


def read(document: bytes) -> Drawing:
    """Raises msgspec.DecodeError if it is no file of Labelme."""
    file = msgspec.json.decode(document, type=_File)
    drawn = [shape for shape in file.shapes if shape.shape_type not in ("point", "points")]
    return Drawing((file.imageHeight, file.imageWidth), drawn)


def _draw(shape: Shape, value: int, image: Image.Image, pen: Pen, work: Work) -> None:
    kind = shape.shape_type or "polygon"
    found = outline(shape.points, shape.label, work)
    rows, columns = box_of(found, work.size)
    work.add(STEPS, len(found) * (rows + len(found)))
    work.add(PIXELS, rows * columns * (_MASK_COST if kind == "mask" else 1))
    points = [(x, y) for x, y in found.tolist()]
    if kind == "mask":
        _paste(shape, points, value, image)
        return
    if kind not in _KINDS:
        raise bad(f"{shape.label!r} is a {kind}, which can't be drawn; {', '.join([*_KINDS, 'mask'])} can")
    needed, put = _KINDS[kind]
    if needed not in (_ANY, len(points)):
        raise bad(f"{shape.label!r} is a {kind} with {len(points)} points, not {needed}")
    if kind == "circle":
        work.add(LENGTH, int(2 * math.pi * math.dist(*points)))
    put(pen, points, value)


def _polygon(pen: Pen, points: Sequence[tuple[float, float]], value: int) -> None:
    if len(points) > 2:  # fewer enclose no area
        pen.polygon(points, fill=value, outline=value)


def _rectangle(pen: Pen, points: Sequence[tuple[float, float]], value: int) -> None:
    (x0, y0), (x1, y1) = points
    pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=value, outline=value)


def _circle(pen: Pen, points: Sequence[tuple[float, float]], value: int) -> None:
    """The second point is on the circle around the first one."""
    (x, y), (at_x, at_y) = points
    radius = math.hypot(x - at_x, y - at_y)
    if radius > _LARGEST_RADIUS:
        raise bad(f"a circle has a radius of {radius:,.0f} pixels; at most {_LARGEST_RADIUS:,} are possible")
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value, outline=value)


def _line(pen: Pen, points: Sequence[tuple[float, float]], value: int) -> None:
    pen.line(points, fill=value, width=LINE_WIDTH)


_KINDS: Mapping[str, tuple[int, Callable[[Pen, Sequence[tuple[float, float]], int], None]]] = {
    "polygon": (_ANY, _polygon),
    "oriented_rectangle": (4, _polygon),
    "rectangle": (2, _rectangle),
    "circle": (2, _circle),
    "line": (2, _line),
    "linestrip": (_ANY, _line),
}


def _paste(shape: Shape, points: Sequence[tuple[float, float]], value: int, image: Image.Image) -> None:
    """Fills the pixels of a mask that are not 0."""
    if len(points) != 2 or not shape.mask:
        raise bad(f"{shape.label!r} is a mask without its two corners, or without its pixels")
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    width, height = right - left + 1, bottom - top + 1
    if width > image.width or height > image.height:
        raise bad(
            f"the mask of {shape.label!r} is {height}x{width}, larger than the image {image.height}x{image.width}"
        )
    try:
        data = base64.b64decode(shape.mask, validate=True)
        with damage_refused(data), Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.size != (width, height) or opened.mode not in ("1", "L", "P"):
                raise bad(f"the mask of {shape.label!r} is not a gray image of the size of its box")
            pixels = np.asarray(opened) != 0
    except (PictureError, binascii.Error) as error:
        raise bad(f"the mask of {shape.label!r} is damaged: {error}") from error
    image.paste(value, (left, top), Image.fromarray(pixels))
