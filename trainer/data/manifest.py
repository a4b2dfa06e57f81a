"""Reads `dataset.json` without TensorFlow, so that errors of a local data set are reported within a second."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping

from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.manifest import Manifest, Shard


class DatasetError(UserError, ValueError):
    """A data set that can't be read; the message says how to fix it."""


# Option that names a split -> what to do if the data set does not have it.
_OTHER_SPLIT = {
    "train_split": "name one of these with --train_split",
    "val_split": "name one of these with --val_split, or set --val_split='' to train without validation",
    "split": "name one of these with --split",
}


def check_local(folder: str, splits: Mapping[str, Iterable[str]]) -> Manifest | None:
    """Checks the manifest, the splits and the sizes of their shards, if `folder` is local. -> the manifest, if so.

    Args:
      splits: option -> the splits that it names.

    Raises:
      DatasetError, ManifestError: see `trainer.data.dataset.open_split`.
    """
    if "://" in folder:
        return None
    manifest = read_local(folder)
    for option, name in ((option, name) for option, names in splits.items() for name in names):
        for shard in shards_of(manifest, folder, name, option):
            path = f"{folder}/{shard.file}"
            check_size(path, shard, os.path.getsize(path) if os.path.exists(path) else None)
    return manifest


def read_local(folder: str) -> Manifest:
    """The manifest in a local folder. Raises DatasetError if there is none, ManifestError if it can't be used."""
    path = f"{folder}/{contract.FILE_NAME}"
    try:
        with open(path, "rb") as file:
            return Manifest.from_json(file.read(), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_dataset(folder, os.path.isdir(folder)) from error


def no_dataset(folder: str, is_there: bool) -> DatasetError:
    """The error for a folder that does not exist or has no `dataset.json`."""
    return DatasetError(contract.not_built(folder) if is_there else f"there is no folder {folder}")


def shards_of(manifest: Manifest, folder: str, split: str, option: str = "") -> tuple[Shard, ...]:
    """The shards of a split that have examples. Raises DatasetError if there are none.

    option: the option that names the split; empty if none does.
    """
    if split not in manifest.splits:
        cure = f": {_OTHER_SPLIT[option]}" if option else ""
        raise DatasetError(f"{folder} has no split {split!r}; it has {', '.join(manifest.splits)}{cure}")
    shards = tuple(shard for shard in manifest.splits[split] if shard.examples)
    if not shards:
        raise DatasetError(f"{folder}: split {split!r} has no examples, all pairs were rejected: rebuild the data set")
    return shards


def stored_size(manifest: Manifest, folder: str) -> tuple[int, int]:
    """(height, width) of all images, in pixels. Raises DatasetError if they have several sizes."""
    pixels = manifest.pixels
    if pixels.height is None or pixels.width is None:
        raise DatasetError(f"{folder} has images of several sizes: set the training size with --crop_size=HEIGHTxWIDTH")
    return pixels.height, pixels.width


def check_together(manifests: Mapping[str, Manifest], *, is_cropped: bool, is_class_uniform: bool) -> None:
    """Checks that a run can train on all these data sets at once.

    Args:
      manifests: folder -> the manifest of the data set; the first one is that of the model.
      is_cropped: whether all images are cropped to one size.
      is_class_uniform: whether crops are drawn by class, from the indexes of the shards.

    Raises:
      DatasetError: their classes differ, an index is missing, or the images have several sizes.
    """
    (first, reference), *others = manifests.items()
    for folder, manifest in others:
        _check_classes(manifest, folder, reference, first)
    if is_class_uniform:
        for folder, manifest in manifests.items():
            check_indexed(manifest, folder)
    if not is_cropped:
        common_size(manifests)


def _check_classes(manifest: Manifest, folder: str, reference: Manifest, first: str) -> None:
    """Raises DatasetError if a train id is another class than in the data set `first`, by its name."""
    theirs, ours = ([row.name for row in each.labels.classes] for each in (manifest, reference))
    for train_id, (found, expected) in enumerate(itertools.zip_longest(theirs, ours, fillvalue="no class")):
        if found != expected:
            raise DatasetError(
                f"{folder} has the label table {manifest.labels.name}, and {first} has {reference.labels.name}, with "
                f"other classes: train id {train_id} is {found}, not {expected}; build both with label tables "
                "of the same classes in the same order (--labels)"
            )


def check_indexed(manifest: Manifest, folder: str) -> None:
    """Raises DatasetError if the data set has no indexes, from which class-uniform sampling draws."""
    if not manifest.indexed:
        raise DatasetError(
            f"--sampling=class_uniform needs the index of {folder}, which was built by an earlier version: build it "
            "again"
        )


def common_size(manifests: Mapping[str, Manifest]) -> tuple[int, int]:
    """(height, width) of all images of all data sets, in pixels. Raises DatasetError if they have several sizes.

    manifests: folder -> the manifest of the data set.
    """
    sizes = {stored_size(manifest, folder): folder for folder, manifest in manifests.items()}
    if len(sizes) > 1:
        found = ", ".join(f"{folder} has {height}x{width}" for (height, width), folder in sizes.items())
        raise DatasetError(f"the data sets have images of several sizes: {found}; set --crop_size=HEIGHTxWIDTH")
    return next(iter(sizes))


def check_size(path: str, shard: Shard, size: int | None) -> None:
    """Raises DatasetError if a shard is missing (`size` None) or has another size in bytes than the manifest says."""
    if size is None:
        raise DatasetError(f"{path} is missing: restore it, or build the data set again")
    if size != shard.bytes:
        raise DatasetError(
            f"{path} has {size:,} bytes, but {contract.FILE_NAME} says {shard.bytes:,}: restore it (sha256 "
            f"{shard.sha256}), or build the data set again"
        )
