"""Whether the trainer can start with the data set: its manifest, shards, normalization and classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from beam_pipelines.contract.manifest import FILE_NAME, Manifest
from beam_pipelines.pixels.table_fit import SUSPICIOUS_IGNORED
from launch.dataset import Files, local_files, open_manifest
from launch.doctor.check import Session
from launch.doctor.checks.buckets import dataset_files
from launch.doctor.findings import FAILURE, OK, WARNING, Finding


def check_local(session: Session) -> Iterator[Finding]:
    """Raises LaunchError if the trainer could not start with the data set in a local folder."""
    return _check(session, local_files(session.option("dataset")))


def check_remote(session: Session) -> Iterator[Finding]:
    """Raises LaunchError if the trainer could not start with the data set in a bucket."""
    return _check(session, dataset_files(session))


def _check(session: Session, files: Files) -> Iterator[Finding]:
    folder, named = session.option("dataset"), session.splits
    manifest = open_manifest(folder, files.read(FILE_NAME), named, session.settings.hosts)
    splits = [split for names in named.values() for split in names]
    yield _contents(manifest, folder, splits)
    yield _shards(manifest, folder, splits, files.sizes())
    yield _normalization(manifest)
    for split in splits:
        yield _classes(manifest, split, named["train_split"])


def _contents(manifest: Manifest, folder: str, splits: Sequence[str]) -> Finding:
    pixels = manifest.pixels
    counts = ", ".join(f"{manifest.examples(split):,} examples of {split}" for split in splits)
    size = f"{pixels.height}x{pixels.width}" if pixels.uniform else "several image sizes (needs --crop_size)"
    return Finding(OK, f"{folder}: {counts}, {size}, {pixels.image_format}")


def _shards(manifest: Manifest, folder: str, splits: Sequence[str], sizes: dict[str, int]) -> Finding:
    """Checks sizes, as the trainer does when it starts; `beam_pipelines.verify` reads the contents."""
    shards = [shard for split in splits for shard in manifest.splits[split]]
    bad = [shard for shard in shards if sizes.get(shard.file) != shard.bytes]
    if not bad:
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        return Finding(OK, f"all {len(shards)} have their size, {megabytes:,.2f} MB in total", "shards")
    first = bad[0]
    found = f"has {sizes[first.file]:,} bytes of {first.bytes:,}" if first.file in sizes else "is missing"
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    message = f"{folder}/{first.file} {found}{more}: restore it (sha256 {first.sha256}), or rebuild the data set"
    return Finding(FAILURE, message, "shards")


def _normalization(manifest: Manifest) -> Finding:
    """Checks that every channel has different values."""
    name, pixels, moments = "normalization", manifest.pixels, manifest.moments
    flat = [color for color, std in zip(("red", "green", "blue"), moments.std, strict=True) if not std]
    if flat:
        message = f"all values of {', '.join(flat)} are equal in {manifest.moments_split}: check the input images"
        return Finding(WARNING, message, name)
    numbers = " ".join(f"{value:.3f}" for value in (*moments.mean, *moments.std))
    where = "in the records" if pixels.normalized else "by the reader"
    message = f"{where}; mean and std {numbers}, of {moments.pixels:,} pixels of {manifest.moments_split}"
    return Finding(OK, message, name)


def _classes(manifest: Manifest, split: str, trained: Sequence[str]) -> Finding:
    """Checks that the classes occur. An absent class matters only if all splits that are trained on lack it."""
    names = [label.name for label in manifest.labels.classes]
    counts, ignored = manifest.class_pixels[split], manifest.ignored_pixels[split]
    share = ignored / max(1, ignored + sum(counts))
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    found = f"{len(names) - len(absent)} of {len(names)} in {split}, {share:.1%} of its pixels ignored"
    if len(absent) == len(names):
        return Finding(FAILURE, f"{found}: there is nothing to learn; check --labels of the build", "classes")
    if share > SUSPICIOUS_IGNORED:
        message = f"{found}: check that {manifest.labels.name} is the right table (--labels of the build)"
        return Finding(WARNING, message, "classes")
    never = [
        name
        for name, *pixels in zip(names, *(manifest.class_pixels[each] for each in trained), strict=True)
        if not any(pixels)
    ]
    if never and split in trained:
        message = f"{found}; {', '.join(never)} cannot be learned: add images that contain them"
        return Finding(WARNING, message, "classes")
    return Finding(OK, found, "classes")
