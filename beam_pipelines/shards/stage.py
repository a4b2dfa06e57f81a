"""Stages shards: the pairs of a shard are read, decoded, conformed, counted and written, once."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import google_crc32c
import imagecodecs
import numpy as np

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL
from beam_pipelines.contract.pixel import LEVELS
from beam_pipelines.contract.record import Record
from beam_pipelines.contract.seal import sealed
from beam_pipelines.files import storage
from beam_pipelines.files.reader import FileReader
from beam_pipelines.files.spool import source_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.pixels import polygons
from beam_pipelines.pixels.conform import Sample, conform
from beam_pipelines.pixels.decode import decode_image
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.pixels.masks import read_mask
from beam_pipelines.pixels.measure import class_pixels_of, moments_of
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import BadInputError, Rejected
from beam_pipelines.shards.plan import ShardPlan
from beam_pipelines.shards.receipts import StagedShard, staged_receipt

PNG_LEVEL = 3  # of zlib: a quarter of the time of level 6 for 4 % more bytes

OnPair = Callable[[Sample | Rejected, float], None]  # the result for a pair, and the seconds it took


class ShardWriter:
    """Writes records in TFRecord framing to `file`, and computes their number, bytes, CRC-32C and SHA-256.

    Without `hashed` there is no SHA-256: a file that only the build reads does not need it.
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


def file_reader(recipe: Recipe) -> FileReader:
    """A reader of images and masks, which refuses files that are too large for `max_image_pixels`."""
    return FileReader(BYTES_PER_PIXEL * recipe.max_image_pixels)


def prepare(pair: Pair, recipe: Recipe, reader: FileReader, reading: MaskReading) -> Sample | Rejected:
    """Reads, decodes (or draws) and conforms one pair; every fault of the pair becomes a Rejected."""
    try:
        image = decode_image(reader.read(pair.image), recipe.max_image_pixels, recipe.rules)
        data = reader.read(pair.mask)
        if polygons.is_document(data):
            drawn = polygons.draw(data, recipe.labels, image.shape[:2])
            return conform(pair.filename, image, drawn, recipe, polygons.table_of_drawn(recipe.labels.num_classes))
        mask = read_mask(data, recipe.labels, recipe.max_image_pixels, reading, recipe.rules)
        return replace(conform(pair.filename, image, mask.ids, recipe), repairs=mask.repairs)
    except BadInputError as bad:
        return Rejected(
            key=pair.key,
            split=pair.split,
            image=pair.image,
            mask=source_of(pair.mask),
            stage=bad.stage,
            reason=bad.reason,
            detail=bad.detail,
        )


def stage_shard(
    plan: ShardPlan, recipe: Recipe, workspace: Workspace, reader: FileReader, on_pair: OnPair
) -> StagedShard:
    """Writes a shard's pairs as they are, unnormalized: the final shard, unless the recipe normalizes.

    A shard that an earlier run staged is not staged again.
    """
    done = _staged_before(plan, recipe, workspace)
    if done:
        return done
    contents = _Contents()
    with workspace.writing(_target(plan, recipe, workspace)) as file:
        writer = ShardWriter(file, hashed=not recipe.normalized)
        for sample in _samples(plan, recipe, reader, on_pair):
            contents.add(sample)
            if isinstance(sample, Sample):
                writer.write(record.encode(to_record(sample, recipe.staged_format, recipe.mask_format)))
    staged = contents.staged(plan, writer)
    workspace.write(workspace.staged_receipt(plan.file), sealed(staged.to_json()))
    return staged


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


def _samples(plan: ShardPlan, recipe: Recipe, reader: FileReader, on_pair: OnPair) -> Iterator[Sample | Rejected]:
    for pair in plan.pairs:
        start = time.perf_counter()
        sample = prepare(pair, recipe, reader, plan.reading)
        on_pair(sample, time.perf_counter() - start)
        yield sample


@dataclass
class _Contents:
    """Counts of the pairs of a shard; `class_pixels` is int64[256], the pixels of each train id."""

    moments: Moments = field(default_factory=Moments.zero)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    minus_ones: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, sample: Sample | Rejected) -> None:
        if isinstance(sample, Rejected):
            self.rejected.append(sample)
            return
        self.moments += moments_of(sample.image)
        self.class_pixels += class_pixels_of(sample.mask)
        self.minus_ones += sample.minus_ones
        self.repairs.update(sample.repairs)
        self.shapes.append(sample.mask.shape)

    def staged(self, plan: ShardPlan, writer: ShardWriter) -> StagedShard:
        heights, widths = zip(*self.shapes, strict=True) if self.shapes else ((), ())
        return StagedShard(
            plan_digest=plan.digest,
            split=plan.split,
            shard=writer.shard(plan.file),
            crc32c=writer.crc32c,
            moments=self.moments,
            class_pixels=self.class_pixels,
            heights=(min(heights, default=0), max(heights, default=0)),
            widths=(min(widths, default=0), max(widths, default=0)),
            rejected=tuple(self.rejected),
            minus_ones=self.minus_ones,
            repairs=dict(self.repairs),
        )


def _target(plan: ShardPlan, recipe: Recipe, workspace: Workspace) -> str:
    return workspace.staged(plan.file) if recipe.normalized else workspace.final(plan.file)


def _pixels(array: np.ndarray, pixel_format: str) -> bytes:
    return bytes(imagecodecs.png_encode(array, level=PNG_LEVEL)) if pixel_format == "png" else array.tobytes()


def _staged_before(plan: ShardPlan, recipe: Recipe, workspace: Workspace) -> StagedShard | None:
    """The receipt of an earlier run, if it has the same plan and its shard still exists."""
    staged = staged_receipt(plan.file, workspace)
    if staged is None or staged.plan_digest != plan.digest:
        return None
    return staged if storage.size_of(_target(plan, recipe, workspace)) == staged.shard.bytes else None
