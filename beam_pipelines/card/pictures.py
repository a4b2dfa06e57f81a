"""Pictures for the page: records that are read back from the shards, as JPEG and PNG inside of data: addresses."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from beam_pipelines.card.statistics import Place
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.record import Record
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.carry import image_of, mask_of

LONGEST = 640  # pixels: the longer side of a picture
THUMBNAIL = 240  # of a small one
_QUALITY = 85  # of JPEG
_GOLDEN = 0.618034  # part of the color wheel between two classes without a color: neighbors differ most
_STRIPES = ((32, 32, 32), (88, 88, 88))  # what ignored pixels are hatched with
_STRIPE = 5  # pixels: the width of a stripe
_DIMMED = 150  # of 255: how much is hidden of what is not of the class that a picture is about
_LINE = 7  # pixels: twice the width of the line around it, and one


@dataclass(frozen=True)
class Picture:
    """A record as it was before normalization: `image` uint8[H, W, 3], `mask` uint8[H, W] of train ids."""

    filename: str
    image: np.ndarray
    mask: np.ndarray


def read_pictures(places: Iterable[Place], manifest: Manifest, workspace: Workspace) -> Iterator[tuple[Place, Picture]]:
    """Yields each of the places with its picture, shard by shard.

    Raises:
      CorruptRecordError, RecordError: a shard is damaged.
    """
    of_shards: dict[str, dict[int, Place]] = {}
    for place in sorted(set(places)):
        of_shards.setdefault(place.shard, {})[place.number] = place
    for shard, wanted in of_shards.items():
        path = workspace.final(shard)
        with storage.open_read(path) as file:
            for number, serialized in tfrecord.read_chosen(file, wanted, path):
                yield wanted[number], picture_of(record.decode(serialized), manifest.moments.normalization)


def picture_of(found: Record, normalization: Normalization) -> Picture:
    """The picture of a record; images that are normalized get their pixels back. Raises RecordError."""
    record.check(found)
    return Picture(found.filename, image_of(found, normalization), mask_of(found))


def colors_of(labels: LabelTable) -> list[tuple[int, int, int]]:
    """The color of each class: that of the label table, or one of its own if it has none."""
    return [row.color if row.color is not None else _color(row.train_id) for row in labels.classes]


def _color(train_id: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(train_id * _GOLDEN % 1, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def photo(image: np.ndarray, longest: int = LONGEST) -> str:
    """uint8[H, W, 3] -> the address of a JPEG picture, no larger than `longest`."""
    shown = Image.fromarray(image)
    shown = shown.resize(_size(shown.size, longest), Image.Resampling.BOX)
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=_QUALITY)
    return _address("jpeg", file.getvalue())


def mask_picture(mask: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> str:
    """uint8[H, W] of train ids -> the address of a PNG picture in the classes' colors; ignored pixels are hatched."""
    ids = _small(mask)
    rows, columns = np.indices(ids.shape)
    light = (rows + columns) // _STRIPE % 2 == 1
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = np.array(colors, np.uint8).reshape(-1, 3)
    palette[IGNORE] = _STRIPES[0]
    if len(colors) < IGNORE:  # or else there is no number left for the other stripe
        palette[IGNORE - 1] = _STRIPES[1]
        ids = np.where((ids == IGNORE) & light, IGNORE - 1, ids).astype(np.uint8)
    return png(ids, palette.tobytes())


def spotlight(mask: np.ndarray, train_id: int, color: tuple[int, int, int]) -> str:
    """uint8[H, W] -> the address of a PNG picture that shows one class in its color with a white line around it, and
    dims all the rest.
    """
    shown = Image.fromarray((_small(mask) == train_id).astype(np.uint8))
    around = np.asarray(shown.filter(ImageFilter.MaxFilter(_LINE)))
    places = np.where(np.asarray(shown) > 0, 1, 2 * around).astype(np.uint8)
    return png(places, bytes([0, 0, 0, *color, 255, 255, 255]), transparency=bytes([_DIMMED, 255, 255]))


def png(indices: np.ndarray, palette: bytes, **options: bytes) -> str:
    """uint8[H, W] of places in a palette -> the address of a PNG picture."""
    shown = Image.fromarray(indices)
    shown.putpalette(palette)
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True, **options)
    return _address("png", file.getvalue())


def _small(mask: np.ndarray) -> np.ndarray:
    shown = Image.fromarray(mask)
    return np.asarray(shown.resize(_size(shown.size, LONGEST), Image.Resampling.NEAREST))


def _size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height), no larger than `longest`."""
    width, height = size
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _address(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
