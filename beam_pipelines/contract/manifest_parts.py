"""The parts of `dataset.json` whose JSON differs from their value: what it holds, and the way there and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np

from beam_pipelines.contract.labels import LabelTable, LabelTableError, TableFields
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import CHANNELS, LEVELS
from beam_pipelines.contract.record import RAW_DTYPES, is_normalized
from beam_pipelines.contract.schema import Count, Digest, PlainName, SchemaError, Size


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How the records hold pixels. A `height` or `width` of None varies from record to record."""

    height: int | None
    width: int | None
    image_format: str
    mask_format: str

    @property
    def normalized(self) -> bool:
        return is_normalized(self.image_format)

    @property
    def uniform(self) -> bool:
        """Whether all records have one size."""
        return self.height is not None and self.width is not None

    @property
    def dtype(self) -> str:
        return RAW_DTYPES.get(self.image_format, "uint8")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of the data set, by its name in the data set's folder."""

    file: str
    examples: int
    bytes: int
    sha256: str


class Update(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What an update of a data set changed: numbers of pairs, and the shards that it wrote."""

    added: Count
    changed: Count
    removed: Count
    again: Count
    shards: tuple[PlainName, ...]


class Parts(Protocol):
    """The fields of `Manifest` that are written from here."""

    @property
    def pixels(self) -> PixelFormat: ...
    @property
    def labels(self) -> LabelTable: ...
    @property
    def moments_split(self) -> str: ...
    @property
    def moments(self) -> Moments: ...
    @property
    def splits(self) -> Mapping[str, tuple[Shard, ...]]: ...
    @property
    def rejected(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class Form:
    """A part as JSON has it.

    Attributes:
      kind: the type of the JSON.
      json_of: manifest -> the JSON.
      values_of: (decoded JSON, name of the file) -> the fields of `Manifest` that it holds. Raises SchemaError.
    """

    kind: Any
    json_of: Callable[[Parts], Any]
    values_of: Callable[[Any, str], dict[str, Any]]


class _Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class _PixelFields(_Fields, frozen=True, kw_only=True):
    height: Size | None
    width: Size | None
    image_format: Literal["raw_float32", "raw_float16", "raw_uint8", "png"]
    mask_format: Literal["raw_uint8", "png"]
    channels: Literal[3]
    normalized: bool


# int64[256] as JSON: counts of each level, or of each train id.
Row = Annotated[tuple[Count, ...], msgspec.Meta(min_length=LEVELS, max_length=LEVELS)]


class _MomentsFields(_Fields, frozen=True, kw_only=True):
    split: str
    pixels: Count
    sums: tuple[int, int, int]
    sums_of_squares: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    histogram: tuple[Row, Row, Row]


class ShardFields(msgspec.Struct, frozen=True, kw_only=True):
    """A `Shard` in any list of a build; manifest and receipts are stricter."""

    file: PlainName
    examples: Count
    bytes: Count
    sha256: str


class _ShardFields(ShardFields, forbid_unknown_fields=True, frozen=True, kw_only=True):
    sha256: Digest


class _SplitFields(_Fields, frozen=True, kw_only=True):
    examples: Count
    shards: tuple[_ShardFields, ...]


class _RejectedFields(_Fields, frozen=True, kw_only=True):
    pairs: Count
    by_reason: dict[str, Count]


def _pixels_json(parts: Parts) -> dict[str, Any]:
    return asdict(parts.pixels) | {"channels": CHANNELS, "normalized": parts.pixels.normalized}


def _pixels_of(found: _PixelFields, name: str) -> dict[str, Any]:
    own = {key: getattr(found, key) for key in PixelFormat.__dataclass_fields__}
    return {"pixels": PixelFormat(**own)}


def _labels_of(found: TableFields, name: str) -> dict[str, Any]:
    try:
        return {"labels": LabelTable.of(found)}
    except LabelTableError as error:
        raise SchemaError(name, "labels", str(error)) from error


def _moments_json(parts: Parts) -> dict[str, Any]:
    moments = parts.moments
    return {
        "split": parts.moments_split,
        "pixels": moments.pixels,
        "sums": list(moments.sums),
        "sums_of_squares": list(moments.sums_of_squares),
        "mean": list(moments.mean),
        "std": list(moments.std),
        "histogram": moments.histogram.tolist(),
    }


def _moments_of(found: _MomentsFields, name: str) -> dict[str, Any]:
    return {"moments_split": found.split, "moments": Moments(np.array(found.histogram, np.int64))}


def _splits_json(parts: Parts) -> dict[str, Any]:
    return {
        split: {"examples": sum(shard.examples for shard in shards), "shards": [asdict(shard) for shard in shards]}
        for split, shards in parts.splits.items()
    }


def _splits_of(found: Mapping[str, _SplitFields], name: str) -> dict[str, Any]:
    return {
        "splits": {
            split: tuple(Shard(**msgspec.structs.asdict(shard)) for shard in fields.shards)
            for split, fields in found.items()
        }
    }


def _rejected_json(parts: Parts) -> dict[str, Any]:
    return {"pairs": sum(parts.rejected.values()), "by_reason": dict(parts.rejected)}


def _rejected_of(found: _RejectedFields, name: str) -> dict[str, Any]:
    return {"rejected": found.by_reason}


FORMS: Mapping[str, Form] = {
    "pixels": Form(_PixelFields, _pixels_json, _pixels_of),
    "labels": Form(TableFields, lambda parts: parts.labels.to_json(), _labels_of),
    "moments": Form(_MomentsFields, _moments_json, _moments_of),
    "splits": Form(dict[PlainName, _SplitFields], _splits_json, _splits_of),
    "rejected": Form(_RejectedFields, _rejected_json, _rejected_of),
}
INSIDE = ("moments_split",)  # fields of `Manifest` that stand in the JSON of another one
