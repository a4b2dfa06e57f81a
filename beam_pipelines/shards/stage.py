"""Stages shards: the pairs of a shard are read, decoded, conformed, counted and written, once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

import google_crc32c
import imagecodecs
import numpy as np

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL
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
from beam_pipelines.pixels.fingerprint import fingerprint
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.pixels.masks import read_mask
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import BadInputError, Rejected
from beam_pipelines.shards.carry import carried, image_of, mask_of, staged_whole
from beam_pipelines.shards.contents import Contents
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
        size = (image.shape[0], image.shape[1])
        ids, repairs, table = _ids_of(data, recipe, reading, size)
        sample = conform(pair.filename, image, ids, recipe, table)
        return replace(sample, repairs=repairs, source_size=size, fingerprint=fingerprint(image))
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


def _ids_of(
    data: bytes, recipe: Recipe, reading: MaskReading, size: tuple[int, int]
) -> tuple[np.ndarray, Mapping[str, int], LabelTable]:
    """-> the ids of a mask file, or of one that is drawn; the pixels that were repaired; the table of the ids."""
    if polygons.is_document(data):
        drawn = polygons.draw(data, recipe.labels, size)
        return drawn, {}, polygons.table_of_drawn(recipe.labels.num_classes)
    mask = read_mask(data, recipe.labels, recipe.max_image_pixels, reading, recipe.rules)
    return mask.ids, mask.repairs, recipe.labels


def stage_shard(
    plan: ShardPlan, recipe: Recipe, workspace: Workspace, reader: FileReader, on_pair: OnPair
) -> StagedShard:
    """Writes a shard's pairs as they are, unnormalized: the final shard, unless the recipe normalizes.

    A shard that an earlier run staged is not staged again, and one that an update takes over as a whole needs no
    staging.

    Raises:
      BuildError: a file can't be read or written, or another build has taken the folder (ReplacedBuildError).
    """
    workspace.check()  # before hours of work
    if plan.source and plan.is_whole:
        return staged_whole(plan, plan.source, workspace)
    done = _staged_before(plan, recipe, workspace)
    if done:
        return done
    contents, rejected = Contents(), list[Rejected]()
    with workspace.writing(_target(plan, recipe, workspace)) as file:
        writer = ShardWriter(file, hashed=not recipe.normalized)
        if plan.source:
            _carry(plan, plan.source, workspace, writer, contents)
        for pair, sample in () if plan.source else _samples(plan, recipe, reader, on_pair):
            if isinstance(sample, Rejected):
                rejected.append(sample)
                continue
            contents.add(pair.key, sample)
            writer.write(record.encode(to_record(sample, recipe.staged_format, recipe.mask_format)))
    index = contents.index(plan.split)
    written = index.to_bytes()
    workspace.write(workspace.index(plan.file), written)
    shard = writer.shard(plan.file)
    staged = StagedShard.of(
        index, written, plan_digest=plan.digest, shard=shard, crc32c=writer.crc32c, rejected=rejected
    )
    workspace.write(workspace.staged_receipt(plan.file), sealed(staged.to_json()))
    return staged


def _carry(plan: ShardPlan, source: Shard, workspace: Workspace, writer: ShardWriter, contents: Contents) -> None:
    """Copies the records of the plan's pairs from a finished shard."""
    for example, found in carried(plan, source, workspace):
        contents.carry(example, image_of(found), mask_of(found))
        writer.write(record.encode(found))


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


def _samples(
    plan: ShardPlan, recipe: Recipe, reader: FileReader, on_pair: OnPair
) -> Iterator[tuple[Pair, Sample | Rejected]]:
    for pair in plan.pairs:
        start = time.perf_counter()
        sample = prepare(pair, recipe, reader, plan.reading)
        on_pair(sample, time.perf_counter() - start)
        yield pair, sample


def _target(plan: ShardPlan, recipe: Recipe, workspace: Workspace) -> str:
    return workspace.staged(plan.file) if recipe.normalized else workspace.final(plan.file)


def _pixels(array: np.ndarray, pixel_format: str) -> bytes:
    return bytes(imagecodecs.png_encode(array, level=PNG_LEVEL)) if pixel_format == "png" else array.tobytes()


def _staged_before(plan: ShardPlan, recipe: Recipe, workspace: Workspace) -> StagedShard | None:
    """The receipt of an earlier run, if it has the same plan and its shard still exists."""
    staged = staged_receipt(plan.file, workspace)
    if staged is None or staged.plan_digest != plan.digest:
        return None
    expected = {_target(plan, recipe, workspace): staged.shard.bytes, workspace.index(plan.file): staged.index_bytes}
    return staged if all(storage.size_of(path) == size for path, size in expected.items()) else None
