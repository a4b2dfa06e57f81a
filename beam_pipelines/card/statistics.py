"""What the examples of a split hold, as integers: `+` is exact, and any grouping and order gives the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from beam_pipelines.contract.index import HEAT_MAP, Example, Index
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import CHANNELS

FIRST = 8  # examples that stand for a split
MOST = 4  # examples with the most pixels of a class
MAX_SIZES = 1000  # different sizes of images that are told apart


@dataclass(frozen=True)
class Bins:
    """A histogram of `count` bins, the first from 0, each `width` wide; the last one also has whatever is larger."""

    width: float
    count: int


# Distribution -> its bins: the longer side of the image file in pixels; its width divided by its height; mean and
# standard deviation of all values 0..255 of a record's image.
DISTRIBUTIONS: Mapping[str, Bins] = {
    "long_side": Bins(64, 128),
    "aspect_ratio": Bins(0.05, 80),
    "brightness": Bins(4, 64),
    "contrast": Bins(2, 64),
}


@dataclass(frozen=True, order=True)
class Place:
    """Where a record is: the shard's file, and its number there, from 0. It identifies the example `key`."""

    shard: str
    number: int
    key: str


Ranked = tuple[int, Place]  # minus an example's pixels of a class, and where it is: the least is the largest


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """The sums over the examples of a split. Arrays are int64; those of n classes have a last row for ignored pixels.

    Attributes:
      examples: how many there are.
      moments: of all pixels, before normalization.
      class_pixels, class_examples: [n + 1], the pixels of each class, and the examples that have it.
      together: [n + 1, n + 1], the examples that have both classes.
      heat_maps: [n + 1, 16, 32], the pixels of each class in each cell of the picture.
      distributions: name -> counts, by the bins of `DISTRIBUTIONS`.
      sizes: (height, width) of an image file -> examples; None if there are more than `MAX_SIZES`.
      first: the first examples, by the names of their shards.
      most: class -> the examples with the most pixels of it.
    """

    examples: int
    moments: Moments
    class_pixels: np.ndarray
    class_examples: np.ndarray
    together: np.ndarray
    heat_maps: np.ndarray
    distributions: Mapping[str, np.ndarray]
    sizes: Mapping[tuple[int, int], int] | None
    first: tuple[Place, ...]
    most: Mapping[int, tuple[Ranked, ...]]

    @classmethod
    def zero(cls, classes: int) -> Statistics:
        rows = classes + 1
        return cls(
            examples=0,
            moments=Moments.zero(),
            class_pixels=np.zeros(rows, np.int64),
            class_examples=np.zeros(rows, np.int64),
            together=np.zeros((rows, rows), np.int64),
            heat_maps=np.zeros((rows, *HEAT_MAP), np.int64),
            distributions={name: np.zeros(bins.count, np.int64) for name, bins in DISTRIBUTIONS.items()},
            sizes={},
            first=(),
            most={},
        )

    @classmethod
    def of(cls, index: Index, shard: str, classes: int) -> Statistics:
        """The statistics of the file `shard`, whose train ids are below `classes`, or IGNORE."""
        pixels = np.array([_pixels_of(example, classes) for example in index.examples], np.int64)
        pixels = pixels.reshape(len(index.examples), classes + 1)
        has = (pixels > 0).astype(np.int64)
        heat_maps = np.zeros((classes + 1, *HEAT_MAP), np.int64)
        for train_id, cells in index.heat_maps.items():
            heat_maps[_row(train_id, classes)] = cells
        return cls(
            examples=len(index.examples),
            moments=index.moments,
            class_pixels=pixels.sum(0),
            class_examples=has.sum(0),
            together=has.T @ has,
            heat_maps=heat_maps,
            distributions=_distributions_of(index.examples),
            sizes=_few(Counter(example.source_size for example in index.examples)),
            first=tuple(Place(shard, number, each.key) for number, each in enumerate(index.examples[:FIRST])),
            most=_most_of(index.examples, shard, classes),
        )

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            examples=self.examples + other.examples,
            moments=self.moments + other.moments,
            **{name: getattr(self, name) + getattr(other, name) for name in _ARRAYS},
            distributions={name: self.distributions[name] + other.distributions[name] for name in DISTRIBUTIONS},
            sizes=_sum_of_sizes(self.sizes, other.sizes),
            first=tuple(sorted({*self.first, *other.first})[:FIRST]),
            most={
                row: tuple(sorted({*self.most.get(row, ()), *other.most.get(row, ())})[:MOST])
                for row in sorted({*self.most, *other.most})
            },
        )

    @property
    def classes(self) -> int:
        return len(self.class_pixels) - 1

    @property
    def places(self) -> set[Place]:
        """Of all examples that were chosen."""
        return {*self.first, *(place for ranked in self.most.values() for _, place in ranked)}


_ARRAYS = ("class_pixels", "class_examples", "together", "heat_maps")


def _row(train_id: int, classes: int) -> int:
    return classes if train_id == IGNORE else train_id


def _pixels_of(example: Example, classes: int) -> list[int]:
    row = [0] * (classes + 1)
    for train_id, place in example.classes.items():
        row[_row(train_id, classes)] = place.pixels
    return row


def _most_of(examples: Iterable[Example], shard: str, classes: int) -> dict[int, tuple[Ranked, ...]]:
    ranked: dict[int, list[Ranked]] = {}
    for number, example in enumerate(examples):
        for train_id, place in example.classes.items():
            if train_id < classes:
                ranked.setdefault(train_id, []).append((-place.pixels, Place(shard, number, example.key)))
    return {train_id: tuple(sorted(found)[:MOST]) for train_id, found in sorted(ranked.items())}


def _distributions_of(examples: Iterable[Example]) -> dict[str, np.ndarray]:
    counts = {name: np.zeros(bins.count, np.int64) for name, bins in DISTRIBUTIONS.items()}
    for example in examples:
        for name, index in bins_of(example).items():
            counts[name][min(index, DISTRIBUTIONS[name].count - 1)] += 1
    return counts


def bins_of(example: Example) -> dict[str, int]:
    """The number of the bin of each distribution, computed with integers; it may be behind the last one."""
    height, width = example.source_size
    total, squares = example.levels
    values = CHANNELS * example.size[0] * example.size[1]
    deviations = math.isqrt(values * squares - total * total)  # values * std, rounded down
    return {
        "long_side": max(height, width) // 64,
        "aspect_ratio": 20 * width // height,
        "brightness": total // (4 * values),
        "contrast": deviations // (2 * values),
    }


def _few(sizes: Mapping[tuple[int, int], int]) -> Mapping[tuple[int, int], int] | None:
    return dict(sorted(sizes.items())) if len(sizes) <= MAX_SIZES else None


def _sum_of_sizes(
    ours: Mapping[tuple[int, int], int] | None, theirs: Mapping[tuple[int, int], int] | None
) -> Mapping[tuple[int, int], int] | None:
    return None if ours is None or theirs is None else _few(Counter(ours) + Counter(theirs))


class CombineStatisticsFn(beam.CombineFn):
    """Sums Statistics of `classes` classes."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def create_accumulator(self) -> Statistics:
        return Statistics.zero(self._classes)

    def add_input(self, total: Statistics, statistics: Statistics) -> Statistics:
        return total + statistics

    def merge_accumulators(self, totals: Iterable[Statistics]) -> Statistics:
        return sum(totals, self.create_accumulator())

    def extract_output(self, total: Statistics) -> Statistics:
        return total
