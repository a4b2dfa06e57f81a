"""Scores of parts of a split: where a model is good, and where it is not.

A new kind of slice is a row of `KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from trainer.evaluation.metrics import bootstrap_of_counts, counts_of, iou_of_counts, mean_over_classes, plain
from trainer.evaluation.results import ImageResults

# What in a file name tells where it was taken: its folder, or what the name in it begins with.
_GROUPS = (re.compile(r"(.+)/"), re.compile(r"(?:.*/)?([^/_-]+)[_-]"))
_MOST_GROUPS = 30
_LEAST_IMAGES = 6  # fewer can't be divided into thirds
_THIRDS = 3


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A score of some of the images, or of some of their pixels.

    Attributes:
      kind: the name of a row of `KINDS`.
      name: what the images or pixels have in common.
      of_class: the class whose IoU it is; None if it is the mean over the classes.
      images: how many of them.
      pixels: valid pixels, or those that are true for the class.
      iou: a fraction from 0 to 1; NaN if there is none.
      interval: its 95 % limits, over images.
    """

    kind: str
    name: str
    of_class: str | None = None
    images: int
    pixels: int
    iou: float
    interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        return vars(self) | {"iou": plain(self.iou), "interval": [plain(limit) for limit in self.interval]}


def slices_of(images: ImageResults, labels: LabelTable) -> list[Slice]:
    """All slices, in the order of `KINDS`."""
    return [each for kind in KINDS.values() for each in kind.find(images, labels)]


def groups_of(filenames: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Name of a group (a city, a drive) -> the places of its files; none if the names tell no groups.

    Groups are the folders, or else what stands before the first `_` or `-` of the name in its folder: 2 to 30 of them,
    with at least two files on average.
    """
    for pattern in _GROUPS:
        found = [match.group(1) if (match := pattern.match(name)) else "" for name in filenames]
        names = sorted(set(found))
        if 2 <= len(names) <= min(_MOST_GROUPS, len(filenames) // 2):
            of_file = np.array(found)
            return {name or "(none)": np.flatnonzero(of_file == name) for name in names}
    return {}


def _by_group(images: ImageResults, labels: LabelTable) -> Iterator[Slice]:
    for name, chosen in groups_of(images.filenames).items():
        yield _of_confusions("group", name, images.confusions[chosen])


def _by_brightness(images: ImageResults, labels: LabelTable) -> Iterator[Slice]:
    if len(images.filenames) < _LEAST_IMAGES:
        return
    order = np.argsort(images.brightness, kind="stable")
    for word, chosen in zip(("dark", "medium", "bright"), np.array_split(order, _THIRDS), strict=True):
        least, most = images.brightness[chosen[0]], images.brightness[chosen[-1]]
        yield _of_confusions("brightness", f"{word}: {least:.0f} to {most:.0f}", images.confusions[chosen])


def _by_class_size(images: ImageResults, labels: LabelTable) -> Iterator[Slice]:
    hits, truth, shown = counts_of(images.confusions)
    shares = truth / np.maximum(1, truth.sum(axis=1, keepdims=True))
    for row in labels.classes:
        column = row.train_id
        order = np.argsort(shares[:, column], kind="stable")
        order = order[truth[order, column] > 0]
        if len(order) < _LEAST_IMAGES:
            continue
        for word, chosen in zip(("small", "medium", "large"), np.array_split(order, _THIRDS), strict=True):
            most = 100 * shares[chosen[-1], column]
            counts = [part[chosen][:, [column]] for part in (hits, truth, shown)]
            yield _of_counts("class size", f"{word}: up to {most:.3g} % of the valid pixels", counts, row.name)


def _by_boundary(images: ImageResults, labels: LabelTable) -> Iterator[Slice]:
    yield _of_confusions("boundary", "near", images.near)
    yield _of_confusions("boundary", "far", images.confusions - images.near)


@dataclass(frozen=True)
class Kind:
    """A row of the table: what it tells, and the function that finds the slices."""

    about: str
    find: Callable[[ImageResults, LabelTable], Iterator[Slice]]


KINDS: Mapping[str, Kind] = {
    "group": Kind("images by the folder or the beginning of their names", _by_group),
    "brightness": Kind("thirds of the images by mean luma, 0 to 255", _by_brightness),
    "boundary": Kind(
        "pixels that have another true class within 2 % of the image's diagonal, and the others", _by_boundary
    ),
    "class size": Kind("thirds of the images with a class, by its share of the valid pixels", _by_class_size),
}


def _of_confusions(kind: str, name: str, confusions: np.ndarray) -> Slice:
    return _of_counts(kind, name, counts_of(confusions))


def _of_counts(kind: str, name: str, counts: Sequence[np.ndarray], of_class: str | None = None) -> Slice:
    """Of the correct, true and predicted pixels, integer[N, C] each."""
    hits, truth, shown = counts
    limits = bootstrap_of_counts(hits, truth, shown, seed=0)
    return Slice(
        kind=kind,
        name=name,
        of_class=of_class,
        images=len(hits),
        pixels=int(truth.sum()),
        iou=mean_over_classes(iou_of_counts(*(part.sum(axis=0) for part in counts))),
        interval=(float(limits.mean_iou[0]), float(limits.mean_iou[1])),
    )
