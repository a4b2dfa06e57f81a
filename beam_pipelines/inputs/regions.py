"""The annotated regions of one image, as planning writes them for the workers: a line of JSON.

Coordinates are in pixels: x to the right, y down, and (0, 0) is the corner of the upper left pixel, not its center.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Place = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class ColumnRuns(msgspec.Struct, frozen=True):
    """COCO's RLE: lengths of runs down the columns of the whole image, outside the region first. `counts` is a list, or
    the text that pycocotools compresses it to; `size` is (height, width).
    """

    counts: str | list[Number]
    size: tuple[Number, Number]


class RowRuns(msgspec.Struct, frozen=True):
    """CVAT's RLE: lengths of runs along the rows of a box, outside the region first."""

    counts: list[Number]
    left: Place
    top: Place
    width: Number
    height: Number


class Ellipse(msgspec.Struct, frozen=True):
    """`rotation` is in degrees, clockwise as seen."""

    cx: float
    cy: float
    rx: float
    ry: float
    rotation: float = 0.0


class Region(msgspec.Struct, frozen=True, omit_defaults=True):
    """One region in exactly one form.

    Attributes:
      segmentation: polygons, each as [x, y, x, y, ...], or COCO's RLE.
      rows: CVAT's RLE.
      line: [x, y, x, y, ...]; it is drawn with a width.
      problem: why the region can't be drawn: its image is rejected.
    """

    label: str
    segmentation: list[list[float]] | ColumnRuns | None = None
    rows: RowRuns | None = None
    ellipse: Ellipse | None = None
    line: list[float] | None = None
    problem: str | None = None


class UnreadRegion(msgspec.Struct, frozen=True):
    """A Region whose segmentation is taken over as it is in a user's file, for the worker to check."""

    label: str
    segmentation: msgspec.Raw


class Regions(msgspec.Struct, frozen=True):
    """The regions of an image, in the order in which they are drawn; the size is None if the user's file has none."""

    height: Number | None
    width: Number | None
    regions: list[Region]


def encode(height: int | None, width: int | None, regions: list[Any]) -> bytes:
    """`Regions` as one line of JSON; `regions` has each as Region or UnreadRegion.

    Raises:
      ValueError: a segmentation that was taken over is not JSON.
    """
    line = msgspec.json.encode({"height": height, "width": width, "regions": regions})
    return msgspec.json.format(line, indent=-1) if b"\n" in line else line
