"""Receipts: a file for each staged and each finished shard, written after it, with what the shard holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

import google_crc32c
import msgspec
import numpy as np

from beam_pipelines.contract import schema
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.manifest_parts import Row, ShardFields
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.schema import Count, Crc, PlainName, SchemaError
from beam_pipelines.contract.seal import unsealed
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.rejects import Rejected, RejectedFields

_PLAIN = ("plan_digest", "split", "crc32c", "index_bytes", "index_crc32c", "heights", "widths")


@dataclass(frozen=True, kw_only=True)
class StagedShard:
    """A shard whose pairs are decoded and counted. `class_pixels` is int64[256], the pixels of each train id; `heights`
    and `widths` are (least, largest); `crc32c` is that of the file, `index_bytes` and `index_crc32c` are of its index.
    `source` is the finished shard that an update may leave as it is; its `crc32c` is not known.
    """

    plan_digest: str
    split: str
    shard: Shard
    crc32c: int | None
    index_bytes: int
    index_crc32c: int
    moments: Moments
    class_pixels: np.ndarray
    heights: tuple[int, int]
    widths: tuple[int, int]
    rejected: Sequence[Rejected]
    minus_ones: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    source: Shard | None = None

    @classmethod
    def of(cls, index: Index, written: bytes, **others: Any) -> StagedShard:
        """What `index`, written as the bytes `written`, and the fields `others` tell."""
        heights, widths = (
            zip(*(example.size for example in index.examples), strict=True) if index.examples else ((), ())
        )
        return cls(
            split=index.split,
            index_bytes=len(written),
            index_crc32c=google_crc32c.value(written),
            moments=index.moments,
            class_pixels=index.class_pixels,
            heights=(min(heights, default=0), max(heights, default=0)),
            widths=(min(widths, default=0), max(widths, default=0)),
            minus_ones=index.minus_ones,
            repairs=index.repairs,
            **others,
        )

    def to_json(self) -> str:
        value = {name: getattr(self, name) for name in _PLAIN}
        value |= {"shard": asdict(self.shard), "rejected": [asdict(rejected) for rejected in self.rejected]}
        value |= {"minus_ones": self.minus_ones} if self.minus_ones else {}
        value |= {"repairs": dict(sorted(self.repairs.items()))} if self.repairs else {}
        value |= {"histogram": self.moments.histogram.tolist(), "class_pixels": self.class_pixels.tolist()}
        return json.dumps(value)

    @classmethod
    def from_json(cls, text: str, name: str) -> StagedShard:
        """Raises SchemaError, which calls the receipt `name`."""
        fields = schema.decode(_StagedFields, text, name)
        pixels = sum(fields.class_pixels)
        if any(sum(row) != pixels for row in fields.histogram):
            raise SchemaError(name, "histogram", f"each channel counts every pixel once, and the masks have {pixels:,}")
        return cls(
            plan_digest=fields.plan_digest,
            split=fields.split,
            shard=Shard(**msgspec.structs.asdict(fields.shard)),
            crc32c=fields.crc32c,
            index_bytes=fields.index_bytes,
            index_crc32c=fields.index_crc32c,
            moments=Moments(np.array(fields.histogram, np.int64)),
            class_pixels=np.array(fields.class_pixels, np.int64),
            heights=fields.heights,
            widths=fields.widths,
            rejected=tuple(map(Rejected.of, fields.rejected)),
            minus_ones=fields.minus_ones,
            repairs=fields.repairs,
        )


@dataclass(frozen=True, kw_only=True)
class FinishedShard:
    """A final shard. `digest` is that of its plan and the moments; `crc32c` is that of the file."""

    digest: str
    shard: Shard
    crc32c: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, name: str) -> FinishedShard:
        """Raises SchemaError, which calls the receipt `name`."""
        fields = schema.decode(_FinishedFields, text, name)
        shard = Shard(**msgspec.structs.asdict(fields.shard))
        return cls(digest=fields.digest, shard=shard, crc32c=fields.crc32c)


# The JSON of receipts, as `to_json` writes it.


class _Fields(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _ShardFields(ShardFields, forbid_unknown_fields=True, frozen=True, kw_only=True):
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]  # empty if only this build reads the file


class _StagedFields(_Fields):
    plan_digest: str
    split: PlainName
    crc32c: Crc
    index_bytes: Count
    index_crc32c: Crc
    heights: tuple[Count, Count]
    widths: tuple[Count, Count]
    shard: _ShardFields
    rejected: tuple[RejectedFields, ...]
    histogram: tuple[Row, Row, Row]
    class_pixels: Row
    minus_ones: Count = 0
    repairs: dict[str, Count] = msgspec.field(default_factory=dict)


class _FinishedFields(_Fields):
    digest: str
    shard: _ShardFields
    crc32c: Crc


def staged_receipt(file: str, workspace: Workspace) -> StagedShard | None:
    """None if there is no receipt, or if it is damaged."""
    return _receipt(StagedShard.from_json, workspace.staged_receipt(file), file)


def finished_receipt(file: str, workspace: Workspace) -> FinishedShard | None:
    """None if there is no receipt, or if it is damaged."""
    return _receipt(FinishedShard.from_json, workspace.finished_receipt(file), file)


_Receipt = TypeVar("_Receipt", StagedShard, FinishedShard)


def _receipt(read: Callable[[str, str], _Receipt], path: str, file: str) -> _Receipt | None:
    text = unsealed(storage.read_bytes(path))
    try:
        found = None if text is None else read(text, path)
    except SchemaError:
        return None
    return found if found is not None and found.shard.file == file else None
