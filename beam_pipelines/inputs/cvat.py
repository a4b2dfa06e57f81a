"""Annotations in the format "CVAT for images 1.1": one XML file with the shapes of each image.

Format: CVAT's documentation, "XML annotation format", version 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO
from xml.parsers import expat

import msgspec

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.regions import Ellipse, Region, RowRuns, encode

_PART = 1 << 20  # bytes that are parsed at a time
_WITHOUT_AREA = ("tag", "points", "skeleton")
Attributes = Mapping[str, str]


def read_cvat(file: BinaryIO, name: str) -> Iterator[tuple[str, str, bytes]]:
    """Yields (name, subset, regions as a line of JSON) of each image, in the order of the file, which messages call
    `name`. Shapes are in the order in which they are drawn: by z_order, then as in the file.

    Raises:
      BuildError: it is not such a file. A document type is refused: entities can expand to any size.
    """
    images = _Images(name)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = images.refuse_doctype
    parser.StartElementHandler, parser.EndElementHandler = images.start, images.end
    parser.buffer_text = True
    try:
        while part := file.read(_PART):
            parser.Parse(part, False)
            yield from images.take()
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two for encodings
        raise BuildError(f"{name} is not XML, or is truncated: {error}; export it again") from error
    yield from images.take()


class _Images:
    """Collects the images of a file from the elements that the parser reports."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._done: list[tuple[str, str, bytes]] = []
        self._path: list[str] = []
        self._image: Attributes = {}
        self._regions: list[tuple[float, Region]] = []

    def take(self) -> list[tuple[str, str, bytes]]:
        done, self._done = self._done, []
        return done

    def refuse_doctype(self, *_: object) -> None:
        raise BuildError(f"{self._name} has a document type (<!DOCTYPE), which files of CVAT don't have: remove it")

    def start(self, element: str, attributes: Attributes) -> None:
        if not self._path and element != "annotations":
            raise BuildError(f"{self._name} is not a file of CVAT: it holds <{element}>, not <annotations>")
        if self._path == ["annotations"] and element == "track":
            raise BuildError(f'{self._name} has tracks of a video: export the task as "CVAT for images 1.1"')
        if self._path == ["annotations"] and element == "image":
            if not attributes.get("name"):
                raise BuildError(f"{self._name}: an <image> has no name: export the task again")
            self._image, self._regions = attributes, []
        if self._path == ["annotations", "image"] and element not in _WITHOUT_AREA:
            self._regions.append(_ordered(element, attributes))
        self._path.append(element)

    def end(self, element: str) -> None:
        self._path.pop()
        if self._path == ["annotations"] and element == "image":
            ordered = [region for _, region in sorted(self._regions, key=lambda each: each[0])]
            height, width = (_size(self._image.get(side)) for side in ("height", "width"))
            line = encode(height, width, ordered)
            self._done.append((self._image["name"], self._image.get("subset", ""), line))


def _size(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else None


def _ordered(element: str, attributes: Attributes) -> tuple[float, Region]:
    """(z_order, region). What can't be read is a problem of the region, and so of its image alone."""
    label = attributes.get("label", "")
    make = _MAKERS.get(element)
    if make is None:
        return 0, Region(label, problem=f"a {element} can't be drawn")
    try:
        return _number(attributes.get("z_order", "0")), make(label, attributes)
    except (KeyError, ValueError, OverflowError, msgspec.ValidationError) as error:
        return 0, Region(label, problem=f"a {element} with wrong or missing attributes: {error}")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _points(attributes: Attributes) -> list[float]:
    """[x, y, x, y, ...] of `x,y;x,y`."""
    points = [point.split(",") for point in attributes["points"].split(";") if point.strip()]
    return [_number(value) for x, y in points for value in (x, y)]


def _polygon(label: str, attributes: Attributes) -> Region:
    return Region(label, segmentation=[_points(attributes)])


def _polyline(label: str, attributes: Attributes) -> Region:
    return Region(label, line=_points(attributes))


def _box(label: str, attributes: Attributes) -> Region:
    """A box is rotated around its center."""
    left, top, right, bottom = (_number(attributes[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    angle = math.radians(_number(attributes.get("rotation", "0")))
    if angle:
        x, y, cos, sin = (left + right) / 2, (top + bottom) / 2, math.cos(angle), math.sin(angle)
        offsets = [(across - x, down - y) for across, down in corners]
        corners = [(x + cos * dx - sin * dy, y + sin * dx + cos * dy) for dx, dy in offsets]
    return Region(label, segmentation=[[value for corner in corners for value in corner]])


def _ellipse(label: str, attributes: Attributes) -> Region:
    x, y, rx, ry = (_number(attributes[name]) for name in ("cx", "cy", "rx", "ry"))
    return Region(label, ellipse=Ellipse(x, y, rx, ry, _number(attributes.get("rotation", "0"))))


def _mask(label: str, attributes: Attributes) -> Region:
    box = {side: int(attributes[side]) for side in ("left", "top", "width", "height")}
    counts = [int(count) for count in attributes["rle"].split(",")]
    return Region(label, rows=msgspec.convert({"counts": counts, **box}, RowRuns))


_MAKERS: Mapping[str, Callable[[str, Attributes], Region]] = {
    "polygon": _polygon,
    "polyline": _polyline,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
