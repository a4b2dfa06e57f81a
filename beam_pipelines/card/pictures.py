"""Pictures for the page: records that are read back from the shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from beam_pipelines.card.statistics import Place
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.contract.record import Record
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.carry import image_of, mask_of

_RESTORE = "restore the file, or build the data set again with --overwrite"


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
