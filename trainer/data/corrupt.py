"""Finds damaged records, and reports or skips them."""

from __future__ import annotations

import re

import tensorflow as tf

from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.manifest import Manifest, Shard
from trainer.data.dataset import Split
from trainer.data.manifest import DatasetError
from trainer.data.records import Parse, parser

# Raised for a wrong checksum, and for wrong content; the latter can have other causes, too.
READ_ERRORS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError)

_RESTORE = "Restore the file, or skip damaged records with --on_corrupt=skip"


def check_framing(split: Split) -> None:
    """Checks the headers of all records: TensorFlow trusts the length in a header, and a huge one ends the process.

    Files in a bucket are not checked, since each read would cost a request.

    Raises:
      DatasetError: a header is damaged, or a shard has another number of records than the manifest says.
    """
    if split.is_remote:
        return
    for path, shard in zip(split.paths(), split.shards, strict=True):
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                found = tfrecord.count_records(file, shard.bytes, shard.file)
        except tfrecord.CorruptRecordError as error:
            raise DatasetError(f"{split.folder}: {error}. {_RESTORE}") from error
        if found != shard.examples:
            raise DatasetError(
                f"{path} has {found:,} records, but {contract.FILE_NAME} says {shard.examples:,}: restore it (sha256 "
                f"{shard.sha256}), or build the data set again"
            )


def without_corrupt(split: Split) -> Split:
    """Reads all shards. -> the split with its intact records; `corrupt` describes the others.

    A damaged record ends its shard, because it is not certain where the next one starts.

    Raises:
      DatasetError: no record is intact.
    """
    good = _read_through(split)
    if not good.shards:
        raise DatasetError(
            f"{split.folder}: no shard has an intact record: {good.corrupt[0]}; restore the files, or rebuild the data "
            "set"
        )
    return good


def _read_through(split: Split) -> Split:
    shards, messages = [], []
    parse = tf.function(parser(split.manifest), input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    for path, shard in zip(split.paths(), split.shards, strict=True):
        count = 0
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                for serialized in tfrecord.read_records(file, shard.file):
                    _check_record(serialized, split.manifest, parse, f"{shard.file}: record {count}")
                    count += 1
        except tfrecord.CorruptRecordError as error:
            messages.append(f"{error}; {shard.examples - count} records of {shard.file} can't be read")
        if count:
            shards.append(Shard(file=shard.file, examples=count, bytes=shard.bytes, sha256=shard.sha256))
    return Split(split.folder, split.manifest, tuple(shards), tuple(messages))


def _check_record(serialized: bytes, manifest: Manifest, parse: Parse, where: str) -> None:
    """Raises CorruptRecordError if the content of a record with a correct checksum does not fit the manifest."""
    pixels = manifest.pixels
    try:
        found = record.decode(serialized)
        record.check(found)
        for name in ("image_format", "mask_format", "height", "width"):
            wanted = getattr(pixels, name)
            if wanted not in (None, getattr(found, name)):
                raise record.RecordError(f"{name} is {getattr(found, name)!r}, but the manifest says {wanted!r}")
        if "png" in (pixels.image_format, pixels.mask_format):  # raw pixels are already verified
            parse(tf.constant(serialized))
    except record.RecordError as error:
        raise tfrecord.CorruptRecordError(f"{where}: {error}") from error
    except tf.errors.InvalidArgumentError as error:
        raise tfrecord.CorruptRecordError(f"{where}: a PNG can't be decoded: {_first_sentence(error)}") from error


def _first_sentence(error: tf.errors.OpError) -> str:
    """TensorFlow's message, without the location in its graph."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", (error.message.splitlines() or [""])[0]).strip()


def diagnosis(error: tf.errors.OpError, *splits: Split) -> DatasetError | None:
    """Reads the shards to find the damaged record that caused `error`. -> None if the data is not the cause."""
    for split in splits:
        corrupt = _read_through(split).corrupt
        if corrupt:
            return DatasetError(f"{split.folder}: {corrupt[0]}. {_RESTORE}")
    if not isinstance(error, tf.errors.DataLossError):
        return None
    return DatasetError(
        f"{splits[0].folder}: reading failed, but every record passes its checksum now; run the same command again"
    )
