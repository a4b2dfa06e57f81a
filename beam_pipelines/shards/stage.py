"""The unit of work: a shard's pairs are decoded once into one file, and that is normalized into the final one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, BinaryIO, TypeVar

import google_crc32c
import imagecodecs
import msgspec
import numpy as np

from beam_pipelines.contract import record, schema, tfrecord
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.moments import CHANNELS, LEVELS, Moments
from beam_pipelines.contract.record import Record
from beam_pipelines.contract.schema import Count, Crc, PlainName, SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.seal import sealed, unsealed
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.pixels.conform import Sample, conform
from beam_pipelines.pixels.decode import decode_image
from beam_pipelines.pixels.masks import MaskReading, decode_mask
from beam_pipelines.pixels.measure import class_pixels_of, moments_of
from beam_pipelines.pixels.normalize import Normalizer
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import BadInputError, Rejected, RejectedFields
from beam_pipelines.shards.plan import ShardPlan

PNG_LEVEL = 3  # of zlib: a quarter of the time of level 6 for 4 % more bytes

OnPair = Callable[[Sample | Rejected, float], None]  # what became of a pair, and the seconds it took


@dataclass(frozen=True, kw_only=True)
class StagedShard:
    """A shard whose pairs are decoded and counted. `heights` and `widths` are the least and the largest; `crc32c` is of
    the whole file.
    """

    plan_digest: str
    split: str
    shard: Shard
    crc32c: int
    moments: Moments
    class_pixels: np.ndarray
    heights: tuple[int, int]
    widths: tuple[int, int]
    rejected: tuple[Rejected, ...]
    minus_ones: int = 0

    def to_json(self) -> str:
        value = {name: getattr(self, name) for name in ("plan_digest", "split", "crc32c", "heights", "widths")}
        value |= {"shard": asdict(self.shard), "rejected": [asdict(rejected) for rejected in self.rejected]}
        value |= {"minus_ones": self.minus_ones} if self.minus_ones else {}
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
            moments=Moments(np.array(fields.histogram, np.int64)),
            class_pixels=np.array(fields.class_pixels, np.int64),
            heights=fields.heights,
            widths=fields.widths,
            rejected=tuple(map(Rejected.of, fields.rejected)),
            minus_ones=fields.minus_ones,
        )


@dataclass(frozen=True, kw_only=True)
class FinishedShard:
    """A final shard, and the `digest` of what it was made of; `crc32c` is of the whole file."""

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


# What the JSON of a receipt holds, as `to_json` writes it.


class _Fields(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _ShardFields(_Fields):
    file: PlainName
    examples: Count
    bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]  # empty where only this build reads the file


_Row = Annotated[tuple[Count, ...], msgspec.Meta(min_length=LEVELS, max_length=LEVELS)]


class _StagedFields(_Fields):
    plan_digest: str
    split: PlainName
    crc32c: Crc
    heights: tuple[Count, Count]
    widths: tuple[Count, Count]
    shard: _ShardFields
    rejected: tuple[RejectedFields, ...]
    histogram: tuple[_Row, _Row, _Row]
    class_pixels: _Row
    minus_ones: Count = 0


class _FinishedFields(_Fields):
    digest: str
    shard: _ShardFields
    crc32c: Crc


def staged_receipt(file: str, workspace: Workspace) -> StagedShard | None:
    """None where there is no receipt, or where it is damaged."""
    return _receipt(StagedShard.from_json, workspace.staged_receipt(file), file)


def finished_receipt(file: str, workspace: Workspace) -> FinishedShard | None:
    """None where there is no receipt, or where it is damaged."""
    return _receipt(FinishedShard.from_json, workspace.finished_receipt(file), file)


_Receipt = TypeVar("_Receipt", StagedShard, FinishedShard)


def _receipt(read: Callable[[str, str], _Receipt], path: str, file: str) -> _Receipt | None:
    text = unsealed(storage.read_bytes(path))
    try:
        found = None if text is None else read(text, path)
    except SchemaError:
        return None
    return found if found is not None and found.shard.file == file else None


class ShardWriter:
    """Writes records in TFRecord framing to `file`, and keeps count of them, their bytes, their CRC-32C and SHA-256.

    A file that only this build reads can do without the last: `hashed` False.
    """

    def __init__(self, file: BinaryIO, hashed: bool = True) -> None:
        self._file = file
        self._hash = hashlib.sha256() if hashed else None
        self.examples = 0
        self.bytes = 0
        self.crc32c = 0

    def write(self, serialized: bytes) -> None:
        for part in (tfrecord.header_of(serialized), serialized, tfrecord.footer_of(serialized)):
            self._file.write(part)
            if self._hash:
                self._hash.update(part)
            self.crc32c = google_crc32c.extend(self.crc32c, part)
            self.bytes += len(part)
        self.examples += 1

    def shard(self, file: str) -> Shard:
        sha256 = self._hash.hexdigest() if self._hash else ""
        return Shard(file=file, examples=self.examples, bytes=self.bytes, sha256=sha256)


def prepare(pair: Pair, recipe: Recipe, reader: storage.FileReader, reading: MaskReading) -> Sample | Rejected:
    """Reads, decodes and conforms one pair; nothing that is wrong with it gets past here."""
    try:
        image = decode_image(reader.read(pair.image), recipe.max_image_pixels)
        ids = decode_mask(reader.read(pair.mask), recipe.labels, recipe.max_image_pixels, reading)
        return conform(pair.filename, image, ids, recipe)
    except BadInputError as bad:
        return Rejected(
            key=pair.key,
            split=pair.split,
            image=pair.image,
            mask=pair.mask,
            stage=bad.stage,
            reason=bad.reason,
            detail=bad.detail,
        )


def stage_shard(
    plan: ShardPlan, recipe: Recipe, workspace: Workspace, reader: storage.FileReader, on_pair: OnPair
) -> StagedShard:
    """Writes a shard's pairs as they are, unnormalized: the final shard, unless the recipe normalizes.

    A shard that an earlier run staged is not staged again.
    """
    done = _staged_before(plan, recipe, workspace)
    if done:
        return done
    path = workspace.staged(plan.file) if recipe.normalized else workspace.final(plan.file)
    moments, class_pixels, minus_ones = Moments.zero(), np.zeros(LEVELS, np.int64), 0
    shapes, rejected = [], []
    with workspace.writing(path) as file:
        writer = ShardWriter(file, hashed=not recipe.normalized)
        for pair in plan.pairs:
            start = time.perf_counter()
            sample = prepare(pair, recipe, reader, plan.reading)
            on_pair(sample, time.perf_counter() - start)
            if isinstance(sample, Rejected):
                rejected.append(sample)
                continue
            moments += moments_of(sample.image)
            class_pixels += class_pixels_of(sample.mask)
            minus_ones += sample.minus_ones
            shapes.append(sample.mask.shape)
            writer.write(record.encode(to_record(sample, recipe.staged_format, recipe.mask_format)))
    heights, widths = zip(*shapes, strict=True) if shapes else ((), ())
    staged = StagedShard(
        plan_digest=plan.digest,
        split=plan.split,
        shard=writer.shard(plan.file),
        crc32c=writer.crc32c,
        moments=moments,
        class_pixels=class_pixels,
        heights=(min(heights, default=0), max(heights, default=0)),
        widths=(min(widths, default=0), max(widths, default=0)),
        rejected=tuple(rejected),
        minus_ones=minus_ones,
    )
    workspace.write(workspace.staged_receipt(plan.file), sealed(staged.to_json()))
    return staged


def finish_shard(staged: StagedShard, moments: Moments, recipe: Recipe, workspace: Workspace) -> Shard:
    """Streams a staged shard through normalization into its final file. The staged one stays until the data set is
    published: other moments, after a picture was mended, can then be applied without decoding anything again.

    A shard that an earlier run finished with the same moments is not finished again.
    """
    if not moments.pixels:
        return staged.shard  # every pair was rejected that the moments are taken of: publishing ends with that
    digest = hashlib.sha256(staged.plan_digest.encode() + moments.histogram.tobytes()).hexdigest()
    done = _finished_before(staged.shard.file, digest, workspace)
    if done:
        return done
    normalizer = Normalizer(moments.normalization, record.RAW_DTYPES[recipe.image_format])
    path = workspace.staged(staged.shard.file)
    final = workspace.final(staged.shard.file)
    with _staged_again(staged, workspace), storage.open_read(path) as source, workspace.writing(final) as file:
        writer = ShardWriter(file)
        for serialized in tfrecord.read_records(source, path):
            writer.write(record.encode(normalized(record.decode(serialized), normalizer, recipe.image_format)))
        if writer.examples != staged.shard.examples:
            raise tfrecord.CorruptRecordError(f"{path} has {writer.examples} of {staged.shard.examples} records")
    finished = FinishedShard(digest=digest, shard=writer.shard(staged.shard.file), crc32c=writer.crc32c)
    workspace.write(workspace.finished_receipt(finished.shard.file), sealed(finished.to_json()))
    return finished.shard


def to_record(sample: Sample, image_format: str, mask_format: str) -> Record:
    """Encodes a sample's pixels."""
    height, width = sample.mask.shape
    return Record(
        filename=sample.filename,
        height=height,
        width=width,
        image=_pixels(sample.image, image_format),
        image_format=image_format,
        mask=_pixels(sample.mask, mask_format),
        mask_format=mask_format,
    )


def normalized(staged: Record, normalizer: Normalizer, image_format: str) -> Record:
    """The record with its raw_uint8 image normalized."""
    image = np.frombuffer(staged.image, np.uint8).reshape(staged.height, staged.width, CHANNELS)
    return replace(staged, image=normalizer(image).tobytes(), image_format=image_format)


def _pixels(array: np.ndarray, pixel_format: str) -> bytes:
    return bytes(imagecodecs.png_encode(array, level=PNG_LEVEL)) if pixel_format == "png" else array.tobytes()


def _staged_before(plan: ShardPlan, recipe: Recipe, workspace: Workspace) -> StagedShard | None:
    """The receipt of an earlier run, if it is of the same plan and its shard is still there."""
    staged = staged_receipt(plan.file, workspace)
    if staged is None or staged.plan_digest != plan.digest:
        return None
    path = workspace.staged(plan.file) if recipe.normalized else workspace.final(plan.file)
    return staged if _has_size(path, staged.shard.bytes) else None


def _finished_before(file: str, digest: str, workspace: Workspace) -> Shard | None:
    found = finished_receipt(file, workspace)
    there = found and found.digest == digest and _has_size(workspace.final(file), found.shard.bytes)
    return found.shard if found and there else None


def _has_size(path: str, size: int) -> bool:
    return storage.size_of(path) == size


@contextlib.contextmanager
def _staged_again(staged: StagedShard, workspace: Workspace) -> Iterator[None]:
    """A staged shard that can't be read has lost its receipt when the error is told."""
    try:
        yield
    except (tfrecord.CorruptRecordError, FileNotFoundError) as error:
        storage.delete([workspace.staged_receipt(staged.shard.file)])
        raise BuildError(f"{error}: run the same command again, it is staged anew") from error
