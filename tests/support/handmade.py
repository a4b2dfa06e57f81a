"""Records and shards written with the contract alone, as any other program may: this runs without Beam."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from beam_pipelines.contract.manifest import FILE_NAME, Manifest, PixelFormat, Shard
from beam_pipelines.contract.moments import Moments
from beam_pipelines.pixels.conform import Sample

SIZE = (8, 12)
SHARDS = (5, 1, 0, 9, 3, 2, 4, 1, 6, 7, 8)  # more than are read at a time, one of them empty
EXAMPLES = sum(SHARDS)


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
        table = moments.normalization.table().astype(record.RAW_DTYPES[image_format])
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


def make_sample(number: int, name: str, size: tuple[int, int] = SIZE) -> Sample:
    """A picture of noise; the first two ids of its mask tell its number."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 200, (*size, 3), np.uint8)
    mask = rng.choice(np.array([*range(11), IGNORE], np.uint8), size)
    mask[0, :2] = divmod(number % 121, 11)
    return Sample(name, image, mask)


def write_dataset(
    folder: Path,
    image_format: str,
    shards: Sequence[int] = SHARDS,
    sizes: Sequence[tuple[int, int]] = (SIZE,),
    first: int = 0,
) -> Path:
    """Example n of shard s is called `sS-nN` and has the size n of `sizes`, which repeat. `first`: its number."""
    numbers = itertools.count(first)
    samples = [
        [make_sample(next(numbers), f"s{shard}-n{index}", sizes[index % len(sizes)]) for index in range(count)]
        for shard, count in enumerate(shards)
    ]
    return write_samples(folder, image_format, samples, sizes[0] if len(sizes) == 1 else None)


def write_samples(
    folder: Path, image_format: str, samples: Sequence[Sequence[Sample]], size: tuple[int, int] | None
) -> Path:
    """A data set with the samples of each shard of train. `size`: of all of them; None if they have several."""
    folder.mkdir(parents=True, exist_ok=True)
    mask_format = "png" if image_format == "png" else "raw_uint8"
    moments = moments_of(*(sample.image for shard in samples for sample in shard))
    written = [
        write_shard(
            folder / f"train-{index:05d}-of-{len(samples):05d}.tfrecord",
            (to_record(sample, image_format, mask_format, moments) for sample in shard),
        )
        for index, shard in enumerate(samples)
    ]
    labels = BUILTIN_TABLES["camvid11"]()
    class_pixels, ignored = counts_of((sample.mask for shard in samples for sample in shard), labels.num_classes)
    empty = Shard(file="rejected-00000-of-00001.tfrecord", examples=0, bytes=0, sha256=hashlib.sha256().hexdigest())
    manifest = Manifest(
        fingerprint="0" * 64,
        recipe={},
        pixels=PixelFormat(
            height=size[0] if size else None,
            width=size[1] if size else None,
            image_format=image_format,
            mask_format=mask_format,
        ),
        labels=labels,
        moments_split="train",
        moments=moments,
        class_pixels={"train": class_pixels, "rejected": (0,) * labels.num_classes},
        ignored_pixels={"train": ignored, "rejected": 0},
        splits={"train": tuple(written), "rejected": (empty,)},
        rejected={},
        timing={},
    )
    (folder / FILE_NAME).write_text(manifest.to_json())
    return folder


def _encoded(pixels: np.ndarray, pixel_format: str) -> bytes:
    if pixel_format != "png":
        return pixels.tobytes()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
