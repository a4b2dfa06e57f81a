"""Polygons and other regions of an image -> train ids: drawn where they are read, without a mask file in between.

Two kinds of documents are drawn: Labelme's JSON file of an image (`labelme.py`), as Labelme draws it, and the line of
JSON that planning makes of COCO's and CVAT's files (`regions.py`), as pycocotools draws it.
"""

from __future__ import annotations

import codecs
import functools
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from beam_pipelines.contract.labels import IGNORE, Label, LabelTable
from beam_pipelines.files.reader import BLANK
from beam_pipelines.pixels.conform import check_sizes
from beam_pipelines.pixels.polygons import labelme, regions
from beam_pipelines.pixels.polygons.limits import MAX_BYTES, MAX_REGIONS, bad
from beam_pipelines.rejects import BadInputError

BACKGROUND = ("background", "_background_", "unlabeled")  # rows of a table that pixels outside all regions belong to
NEVER_COUNTED = "__ignore__"  # Labelme's name for what is ignored, in any table
_NAMED = 20  # unknown names in a message


class _Document(msgspec.Struct):
    """A document before it is known which kind it is. Labelme's image, as text, is skipped."""

    shapes: msgspec.Raw = msgspec.Raw()
    regions: msgspec.Raw = msgspec.Raw()


def is_document(data: bytes) -> bool:
    """Whether a mask file holds regions, and not pixels: no image file begins with a brace."""
    return data[:64].lstrip(BLANK).startswith(b"{")


def draw(document: bytes, table: LabelTable, size: tuple[int, int]) -> np.ndarray:
    """-> uint8[H, W] of train ids of the names in `table`; later regions over earlier ones. `size` is (height, width)
    of the image. Pixels outside all regions are of the row of `BACKGROUND` that the table has, or else ignored.

    Raises:
      BadInputError: `bad_polygons`, `unknown_labels`, or `size_mismatch` with the size in the document.
    """
    drawing = _opened(document)
    _check_declared(size, drawing.size)
    ids = train_ids_of(drawing.names, table)
    return drawing.draw(ids, background_of(table), size)


def names_in(document: bytes) -> list[str]:
    """The label of each region. Raises BadInputError: `bad_polygons`."""
    return _opened(document).names


def _opened(document: bytes) -> labelme.Drawing | regions.Drawing:
    data, kinds = document.removeprefix(codecs.BOM_UTF8), _Document()
    try:
        kinds = msgspec.json.decode(data, type=_Document)
        if max(len(kinds.shapes), len(kinds.regions)) > MAX_BYTES:
            raise bad(f"the regions have more than {MAX_BYTES:,} bytes of JSON")
        drawing = _read(data, of_build=len(kinds.regions) > 0)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        what = "a region is not as COCO has them" if len(kinds.regions) else "it is not Labelme's JSON"
        raise bad(f"{what}: {error}") from error
    if len(drawing.names) > MAX_REGIONS:
        raise bad(f"it has {len(drawing.names):,} regions; at most {MAX_REGIONS:,} are possible")
    return drawing


def train_ids_of(names: Sequence[str], table: LabelTable) -> list[int]:
    """The train id of each name. Raises BadInputError, with names and counts, if the table lacks names."""
    known = {NEVER_COUNTED: IGNORE} | {row.name: row.train_id for row in table.labels}
    unknown = Counter(name for name in names if name not in known)
    if unknown and not table.ignore_rest:
        shown = ", ".join(f"{name!r} ({count:,})" for name, count in unknown.most_common(_NAMED))
        raise BadInputError("decode", "unknown_labels", f"{len(unknown)} labels are not in table {table.name}: {shown}")
    return [known.get(name, IGNORE) for name in names]


def background_of(table: LabelTable) -> int:
    """The train id of pixels outside all regions."""
    train_ids = {row.name: row.train_id for row in table.labels}
    return next((train_ids[name] for name in BACKGROUND if name in train_ids), IGNORE)


@functools.lru_cache
def table_of_drawn(num_classes: int) -> LabelTable:
    """The table of what `draw` returns: train ids that stand for themselves."""
    rows = [
        Label(name=str(train_id), source_ids=(train_id,), train_id=train_id, color=None, category="")
        for train_id in (*range(num_classes), IGNORE)
    ]
    return LabelTable(name="drawn", labels=tuple(rows))


def _read(document: bytes, of_build: bool) -> labelme.Drawing | regions.Drawing:
    return regions.read(document) if of_build else labelme.read(document)


def _check_declared(size: tuple[int, int], declared: tuple[int | None, int | None]) -> None:
    """Labelme's older files, and some of COCO, have no size."""
    height, width = declared
    check_sizes(size, (size[0] if height is None else height, size[1] if width is None else width))
