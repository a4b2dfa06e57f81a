"""The pictures of the page that come from the data set: samples of each split, and those of the rarest classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.card.classes import ClassRow
from beam_pipelines.card.pictures import Picture, read_pictures
from beam_pipelines.card.statistics import MOST, Place, Statistics
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.pages import share
from beam_pipelines.contract.pages.pictures import colors_of, mask_picture, photo, spotlight, words_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.wording import counted

RAREST = 3  # classes


@dataclass(frozen=True)
class Shown:
    """A picture with what lies over it: addresses of both, and what they show, in words."""

    filename: str
    image: str
    mask: str
    words: str
    note: str = ""


@dataclass(frozen=True)
class RareClass:
    """A class with few pixels, and the examples with the most of it, those with the most first."""

    row: ClassRow
    shown: Sequence[Shown]


@dataclass(frozen=True)
class Samples:
    """split -> the pictures that stand for it; and the rarest classes."""

    splits: Mapping[str, Sequence[Shown]]
    rarest: Sequence[RareClass]


def samples(
    manifest: Manifest, statistics: Mapping[str, Statistics], rows: Sequence[ClassRow], workspace: Workspace
) -> Samples:
    """Reads the pictures back from the shards, and keeps none longer than it takes to encode it.

    Raises:
      BuildError: a shard is damaged or gone.
    """
    labels = manifest.labels
    rare = [row for row in reversed(rows) if row.pixels][:RAREST]
    ranked = {row.train_id: _ranked(row.train_id, statistics.values()) for row in rare}
    first = {place for each in statistics.values() for place in each.first}
    of_classes = {place: train_id for train_id, places in ranked.items() for place in places}
    whole: dict[Place, Shown] = {}
    spots: dict[tuple[int, Place], Shown] = {}
    for place, picture in read_pictures({*first, *of_classes}, manifest, workspace):
        if place in first:
            whole[place] = _whole(picture, labels)
        for train_id, places in ranked.items():
            if place in places:
                spots[train_id, place] = _spot(picture, train_id, labels)
    return Samples(
        {split: [whole[place] for place in each.first] for split, each in statistics.items()},
        [RareClass(row, [spots[row.train_id, place] for place in ranked[row.train_id]]) for row in rare],
    )


def _ranked(train_id: int, splits: Iterable[Statistics]) -> list[Place]:
    """The examples with the most pixels of a class, over all splits."""
    found = sorted(ranked for each in splits for ranked in each.most.get(train_id, ()))
    return [place for _, place in found[:MOST]]


def _whole(picture: Picture, labels: LabelTable) -> Shown:
    mask = mask_picture(picture.mask, colors_of(labels))
    return Shown(picture.filename, photo(picture.image), mask, words_of(picture.mask, labels))


def _spot(picture: Picture, train_id: int, labels: LabelTable) -> Shown:
    color = colors_of(labels)[train_id]
    pixels = int(np.count_nonzero(picture.mask == train_id))
    note = f"{counted(pixels, 'pixel')}, {share(pixels / picture.mask.size)} of the image"
    words = f"{labels.classes[train_id].name}: {note}"
    return Shown(picture.filename, photo(picture.image), spotlight(picture.mask == train_id, color), words, note)
