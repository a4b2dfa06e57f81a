"""The manifest of a data set for the trainer, in a local folder or a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.contract.manifest import FILE_NAME, Manifest, ManifestError, not_built
from launch.errors import LaunchError
from trainer.config import TrainConfig
from trainer.data import manifest as data
from trainer.data.manifest import DatasetError, shards_of


@dataclass(frozen=True)
class Files:
    """Access to the folder of a data set. Both functions raise LaunchError if the folder cannot be read.

    Attributes:
      sizes: -> the name of each file in the folder, and its size in bytes.
      read: file name -> its content; None if there is no such file.
    """

    sizes: Callable[[], dict[str, int]]
    read: Callable[[str], bytes | None]


def local_files(folder: str) -> Files:
    """The files of a folder on this machine."""
    root = Path(folder).expanduser()

    def sizes() -> dict[str, int]:
        try:
            return {path.name: path.stat().st_size for path in root.iterdir() if path.is_file()}
        except OSError as error:
            raise LaunchError(f"{root} could not be read: {error}; fix this and run the same command again") from error

    def read(name: str) -> bytes | None:
        try:
            return (root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LaunchError(
                f"{root / name} could not be read: {error}; restore the file or rebuild the data set"
            ) from error

    return Files(sizes, read)


def open_manifest(folder: str, content: bytes | None, splits: Mapping[str, Sequence[str]], hosts: int) -> Manifest:
    """Reads the manifest of a data set, and checks that the trainer can start with it.

    Args:
      content: of the manifest file; None if there is no such file.
      splits: option of the trainer -> the splits that it names, if any.
      hosts: how many hosts share each split.

    Raises:
      LaunchError: the manifest cannot be read, or a split is missing, has no examples, or has fewer shards with
        examples than there are hosts.
    """
    if content is None:
        raise LaunchError(not_built(folder))
    with _refusals():
        manifest = Manifest.from_json(content, f"{folder}/{FILE_NAME}")
        for option, names in splits.items():
            shards = [len(shards_of(manifest, folder, name, option)) for name in names]
            if names:
                _check_shards(sum(shards), folder, names, hosts)
    return manifest


def _check_shards(shards: int, folder: str, splits: Sequence[str], hosts: int) -> None:
    """Raises LaunchError if `hosts` hosts cannot share the shards of the splits that have examples."""
    if shards < hosts:
        named = ",".join(splits)
        raise LaunchError(
            f"{folder}: {shards} shards of {named} are too few for {hosts} hosts: use fewer hosts, or rebuild the data "
            f"set with --shards={splits[0]}={hosts} or more"
        )


def check_together(manifests: Mapping[str, Manifest], train: TrainConfig, tuned: Collection[str] = ()) -> None:
    """Raises LaunchError if the trainer can't train on all these data sets at once.

    Args:
      manifests: folder -> the manifest of the data set, of those that can be read here.
      tuned: names of options that each trial of a search sets.
    """
    is_cropped = train.data.crop_size is not None or "crop_size" in tuned
    is_class_uniform = train.data.sampling == "class_uniform"
    if manifests:
        with _refusals():
            data.check_together(manifests, is_cropped=is_cropped, is_class_uniform=is_class_uniform)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns what the trainer would refuse into a LaunchError."""
    try:
        yield
    except (DatasetError, ManifestError) as error:
        raise LaunchError(str(error)) from error
