"""The manifest of a data set for the trainer, in a local folder or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.contract.manifest import FILE_NAME, Manifest, ManifestError, not_built
from launch.errors import LaunchError


@dataclass(frozen=True)
class Files:
    """Access to the folder of a data set. Both functions raise LaunchError if the folder cannot be read.

    Attributes:
      sizes: -> the name of each file in the folder, and its size in bytes.
      read: file name -> its text; None if there is no such file.
    """

    sizes: Callable[[], dict[str, int]]
    read: Callable[[str], str | None]


def local_files(folder: str) -> Files:
    """The files of a folder on this machine."""
    root = Path(folder).expanduser()

    def sizes() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in root.iterdir() if path.is_file()}

    def read(name: str) -> str | None:
        try:
            return (root / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(
                f"{root / name} could not be read: {error}; restore the file or rebuild the data set"
            ) from error

    return Files(sizes, read)


def open_manifest(folder: str, text: str | None, splits: Iterable[str], hosts: int) -> Manifest:
    """Reads the manifest of a data set, and checks that the trainer can start with it.

    Args:
      text: content of the manifest file; None if there is no such file.
      splits: the splits that the trainer reads; empty names are skipped.
      hosts: how many hosts share each split.

    Raises:
      LaunchError: the manifest cannot be read, or a split is missing, has no examples, or has fewer shards with
        examples than there are hosts.
    """
    if text is None:
        raise LaunchError(not_built(folder))
    try:
        manifest = Manifest.from_json(text, f"{folder}/{FILE_NAME}")
    except ManifestError as error:
        raise LaunchError(str(error)) from error
    for split in filter(None, splits):
        _check_split(manifest, folder, split, hosts)
    return manifest


def _check_split(manifest: Manifest, folder: str, split: str, hosts: int) -> None:
    """Raises LaunchError if `hosts` hosts cannot train on the split."""
    if split not in manifest.splits:
        raise LaunchError(f"{folder} has no split {split!r}; it has {', '.join(manifest.splits)}")
    if not manifest.examples(split):
        raise LaunchError(f"{folder}: split {split!r} has no examples, all pairs were rejected: rebuild the data set")
    shards = sum(shard.examples > 0 for shard in manifest.splits[split])  # the trainer skips the others
    if shards < hosts:
        raise LaunchError(
            f"{folder}: {shards} shards of {split} are too few for {hosts} hosts: use fewer hosts, or rebuild the "
            f"data set with --shards={split}={hosts} or more"
        )


def check_image_size(manifest: Manifest, folder: str, is_cropped: bool) -> None:
    """Raises LaunchError if the images have several sizes and are not cropped to one."""
    if not manifest.pixels.uniform and not is_cropped:
        raise LaunchError(f"{folder} has images of several sizes: set the training size with --crop_size=HEIGHTxWIDTH")
