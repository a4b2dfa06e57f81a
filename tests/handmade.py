"""Records and shards written with the contract alone, as any other program may: this runs without Beam."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipelines.conform import Sample
from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.contract.moments import Moments


def moments_of(*images: np.ndarray) -> Moments:
    """Of uint8[H, W, 3] all together."""
    channels = np.concatenate([image.reshape(-1, 3) for image in images]).T
    return Moments(np.stack([np.bincount(channel, minlength=256) for channel in channels]).astype(np.int64))


def to_record(
    sample: Sample, image_format: str, mask_format: str = "raw_uint8", moments: Moments | None = None
) -> record.Record:
    """`moments` normalize the image of a float format."""
    image = sample.image
    if image_format in ("raw_float32", "raw_float16"):
        assert moments is not None
        table = moments.normalization_table().astype(record.RAW_DTYPES[image_format])
        image = np.stack([table[channel][image[..., channel]] for channel in range(3)], -1)
    return record.Record(
        filename=sample.filename,
        height=sample.mask.shape[0],
        width=sample.mask.shape[1],
        image=_encoded(image, image_format),
        image_format=image_format,
        mask=_encoded(sample.mask, mask_format),
        mask_format=mask_format,
    )


def write_shard(path: Path, records: Iterable[record.Record]) -> Shard:
    serialized = [record.encode(each) for each in records]
    content = b"".join(tfrecord.header_of(each) + each + tfrecord.footer_of(each) for each in serialized)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Shard(file=path.name, examples=len(serialized), bytes=len(content), sha256=digest)


def counts_of(masks: Iterable[np.ndarray], classes: int) -> tuple[tuple[int, ...], int]:
    """Of uint8 masks: the pixels of each class, and those that are ignored."""
    counts = sum((np.bincount(mask.ravel(), minlength=256) for mask in masks), np.zeros(256, np.int64))
    return tuple(counts[:classes].tolist()), int(counts[IGNORE])


def _encoded(pixels: np.ndarray, pixel_format: str) -> bytes:
    if pixel_format != "png":
        return pixels.tobytes()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
