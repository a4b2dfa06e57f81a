"""A data set's manifest and files against what the trainer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from beam_pipelines.contract.manifest import FILE_NAME, Manifest, ManifestError, not_built
from launch.checks.finding import FAILURE, OK, WARNING, Finding
from launch.errors import LaunchError

_MOSTLY_IGNORED = 0.5
# File name -> bytes of what stands in the folder, and the text of a file in it; None where there is none.
Reader = tuple[Callable[[], dict[str, int]], Callable[[str], "str | None"]]


def check_dataset(folder: str, splits: Sequence[str], hosts: int, reader: Reader) -> Iterator[Finding]:
    """`splits` are those that the trainer reads, by `hosts` hosts."""
    sizes, read = reader
    try:
        manifest = open_dataset(folder, read(FILE_NAME), splits, hosts)
    except LaunchError as error:
        yield Finding(FAILURE, "data set", str(error))
        return
    counts = ", ".join(f"{manifest.examples(split):,} examples of {split}" for split in splits)
    size = (
        f"{manifest.pixels.height}x{manifest.pixels.width}"
        if manifest.pixels.uniform
        else "several sizes (--crop_size)"
    )
    yield Finding(OK, "data set", f"{folder}: {counts}, {size}, {manifest.pixels.image_format}")
    yield _shards(manifest, folder, splits, sizes())
    yield _normalization(manifest)
    yield from _classes(manifest, splits)


def open_dataset(folder: str, text: str | None, splits: Iterable[str], hosts: int) -> Manifest:
    """The manifest of a data set that the trainer can start with. `text` is that of its file, None where there is none.

    Raises:
      LaunchError: it can't be read, or a split (an empty name is none) is missing, has no examples, or fewer shards
        with examples than there are `hosts` to share them.
    """
    if text is None:
        raise LaunchError(not_built(folder))
    try:
        manifest = Manifest.from_json(text, f"{folder}/{FILE_NAME}")
    except ManifestError as error:
        raise LaunchError(str(error)) from error
    for split in filter(None, splits):
        if split not in manifest.splits:
            raise LaunchError(f"{folder} has no split {split!r}; it has {', '.join(manifest.splits)}")
        if not manifest.examples(split):
            raise LaunchError(f"{folder}: the split {split!r} has no examples, every pair was rejected: build it again")
        shards = sum(shard.examples > 0 for shard in manifest.splits[split])  # the trainer leaves out the others
        if shards < hosts:
            raise LaunchError(
                f"{folder}: {shards} shards of {split} can't be shared by {hosts} hosts: take fewer, or "
                f"build the data set with --shards={split}={hosts} or more"
            )
    return manifest


def check_size(manifest: Manifest, folder: str, is_cropped: bool) -> None:
    """Raises LaunchError where the trainer is not told what size to train on."""
    if not manifest.pixels.uniform and not is_cropped:
        raise LaunchError(f"{folder} has images of several sizes: give --crop_size=HEIGHTxWIDTH to train on")


def local_reader(folder: str) -> Reader:
    """Of a folder on this machine."""
    place = Path(folder).expanduser()

    def sizes() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in place.iterdir() if path.is_file()}

    def read(name: str) -> str | None:
        try:
            return (place / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(
                f"{place / name} can't be read: {error}; restore it, or build the data set again"
            ) from error

    return sizes, read


def _shards(manifest: Manifest, folder: str, splits: Sequence[str], there: dict[str, int]) -> Finding:
    """As the trainer looks at them when it starts: not their contents, which `beam_pipelines.verify` reads."""
    shards = [shard for split in splits for shard in manifest.splits[split]]
    bad = [shard for shard in shards if there.get(shard.file) != shard.bytes]
    if not bad:
        size = sum(shard.bytes for shard in shards) / 1e6
        return Finding(OK, "shards", f"all {len(shards)} are there with their sizes, {size:,.2f} MB")
    first = bad[0]
    found = f"has {there[first.file]:,} bytes of {first.bytes:,}" if first.file in there else "is missing"
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    told = f"{folder}/{first.file} {found}{more}: restore it (sha256 {first.sha256}), or build the data set again"
    return Finding(FAILURE, "shards", told)


def _normalization(manifest: Manifest) -> Finding:
    what, pixels, moments = "normalization", manifest.pixels, manifest.moments
    flat = [name for name, std in zip(("red", "green", "blue"), moments.std, strict=True) if not std]
    if flat:
        told = (
            f"all values of {', '.join(flat)} are equal in {manifest.moments_split}: are these the pictures you mean?"
        )
        return Finding(WARNING, what, told)
    numbers = " ".join(f"{value:.3f}" for value in (*moments.mean, *moments.std))
    where = "in the records" if pixels.normalized else "by the reader"
    return Finding(
        OK, what, f"{where}; mean and std {numbers}, of {moments.pixels:,} pixels of {manifest.moments_split}"
    )


def _classes(manifest: Manifest, splits: Sequence[str]) -> Iterator[Finding]:
    names = [label.name for label in manifest.labels.classes]
    for split in splits:
        counts, ignored = manifest.class_pixels[split], manifest.ignored_pixels[split]
        share = ignored / max(1, ignored + sum(counts))
        absent = [name for name, count in zip(names, counts, strict=True) if not count]
        told = f"{len(names) - len(absent)} of {len(names)} in {split}, {share:.1%} of it ignored"
        if len(absent) == len(names):
            yield Finding(
                FAILURE, "classes", f"{told}: nothing can be learned or scored; look at --labels of the build"
            )
        elif share > _MOSTLY_IGNORED:
            yield Finding(
                WARNING, "classes", f"{told}: is {manifest.labels.name} the right table (--labels of the build)?"
            )
        elif absent and split == splits[0]:
            yield Finding(
                WARNING, "classes", f"{told}; {', '.join(absent)} can't be learned: add pictures that have them"
            )
        else:
            yield Finding(OK, "classes", told)
