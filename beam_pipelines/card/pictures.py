"""Pictures for the page: records that are read back from the shards, as JPEG and PNG inside of data: addresses."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from beam_pipelines.card.statistics import Place
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.record import Record
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.carry import image_of, mask_of

LONGEST = 640  # pixels: the longer side of a picture
THUMBNAIL = 240  # of a small one
_RESTORE = "restore the file, or build the data set again with --overwrite"
_QUALITY = 85  # of JPEG
_GOLDEN = 0.618034  # part of the color wheel between two classes without a color: neighbors differ most
_STRIPES = ((32, 32, 32), (88, 88, 88))  # what ignored pixels are hatched with
_STRIPE = 5  # pixels: the width of a stripe
_DIMMED = 230  # of 255: how much is hidden of what is not of the class that a picture is about
_LINE = 320  # pixels of the longer side for each pixel of the line around it; smaller pictures get none


@dataclass(frozen=True)
class Picture:
    """A record as it was before normalization: `image` uint8[H, W, 3], `mask` uint8[H, W] of train ids."""

    filename: str
    image: np.ndarray
    mask: np.ndarray


def read_pictures(places: Iterable[Place], manifest: Manifest, workspace: Workspace) -> Iterator[tuple[Place, Picture]]:
    """Yields each of the places with its picture, shard by shard. Raises BuildError if a shard is damaged or gone."""
    of_shards: dict[str, dict[int, Place]] = {}
    for place in sorted(set(places)):
        of_shards.setdefault(place.shard, {})[place.number] = place
    for shard, wanted in of_shards.items():
        path = workspace.final(shard)
        for number, picture in _chosen(path, wanted, manifest.moments.normalization):
            yield wanted[number], picture


def _chosen(path: str, numbers: Collection[int], normalization: Normalization) -> Iterator[tuple[int, Picture]]:
    """(number, picture) of the records `numbers` of the shard at `path`. Raises BuildError if it is damaged or gone."""
    try:
        with storage.open_read(path) as file:
            for number, serialized in tfrecord.read_chosen(file, numbers, path):
                yield number, picture_of(record.decode(serialized), normalization)
    except FileNotFoundError as error:
        raise BuildError(f"{path}: the shard does not exist; {_RESTORE}") from error
    except tfrecord.CorruptRecordError as error:
        raise BuildError(f"{error}; {_RESTORE}") from error
    except record.RecordError as error:
        raise BuildError(f"{path}: {error}; {_RESTORE}") from error


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
    """uint8[H, W] -> the address of a PNG picture that shows one class in its color and dims all the rest; a white line
    is around it, unless the picture is so small that the line would be more to see than the class.
    """
    shown = Image.fromarray((_small(mask) == train_id).astype(np.uint8))
    line = max(shown.size) // _LINE
    around = np.asarray(shown.filter(ImageFilter.MaxFilter(2 * line + 1)) if line else shown)
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
