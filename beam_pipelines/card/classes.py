"""What the page says about classes: how many pixels and images have them, where splits differ, which occur together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.card import drift
from beam_pipelines.card.statistics import Statistics
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.pages.charts import Chart, bars
from beam_pipelines.contract.pages.pictures import colors_of, css

CHARTED = 40  # classes in a chart; the table has all
TOGETHER = 24  # classes in the table of what occurs together


@dataclass(frozen=True)
class InSplit:
    """A class in a split. Shares are of all pixels that belong to a class, and of all examples."""

    pixels: int
    pixel_share: float
    examples: int
    example_share: float
    notable: bool


@dataclass(frozen=True)
class ClassRow:
    """A class, by splits."""

    train_id: int
    name: str
    color: str
    splits: Mapping[str, InSplit]

    @property
    def pixels(self) -> int:
        return sum(each.pixels for each in self.splits.values())

    @property
    def examples(self) -> int:
        return sum(each.examples for each in self.splits.values())

    @property
    def notable(self) -> bool:
        return any(each.notable for each in self.splits.values())


@dataclass(frozen=True)
class Drift:
    """How far `split` is from the split that stands for all."""

    split: str
    distance: float
    notable: bool
    furthest: str
    difference: float

    @property
    def distance_words(self) -> str:
        return f"{self.distance:.3f}" if self.distance >= 0.0005 else "below 0.001"

    @property
    def difference_words(self) -> str:
        """Without its sign."""
        points = 100 * abs(self.difference)
        return f"{points:.1f} points" if points >= 0.05 else "less than 0.1 points"


@dataclass(frozen=True)
class Together:
    """Names, and for each its row: the share of the examples with it that also have each other class."""

    names: Sequence[str]
    rows: Sequence[Sequence[float]]
    of: int


def class_rows(labels: LabelTable, splits: Mapping[str, Statistics], main: str) -> list[ClassRow]:
    """The classes, those with most pixels first. What is notable differs from the split `main`."""
    shares = {split: drift.shares(each.class_pixels[:-1].tolist()) for split, each in splits.items()}
    having = {
        split: [int(count) / max(1, each.examples) for count in each.class_examples] for split, each in splits.items()
    }

    def in_split(split: str, train_id: int) -> InSplit:
        pixels, examples = ((of[split][train_id], of[main][train_id]) for of in (shares, having))
        return InSplit(
            pixels=int(splits[split].class_pixels[train_id]),
            pixel_share=shares[split][train_id],
            examples=int(splits[split].class_examples[train_id]),
            example_share=having[split][train_id],
            notable=drift.is_notable(pixels, examples, min(splits[split].examples, splits[main].examples)),
        )

    rows = [
        ClassRow(row.train_id, row.name, css(color), {split: in_split(split, row.train_id) for split in splits})
        for row, color in zip(labels.classes, colors_of(labels), strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.pixels, row.train_id))


def drifts(rows: Sequence[ClassRow], splits: Mapping[str, Statistics], main: str) -> list[Drift]:
    """How far each other split is from `main`; not of those without a pixel that belongs to a class."""
    found = []
    for split, each in splits.items():
        if split == main or not each.class_pixels[:-1].any() or not splits[main].class_pixels[:-1].any():
            continue
        distance = drift.total_variation(each.class_pixels[:-1].tolist(), splits[main].class_pixels[:-1].tolist())
        gaps = {row.name: row.splits[split].pixel_share - row.splits[main].pixel_share for row in rows}
        furthest = max(gaps, key=lambda name: abs(gaps[name]))
        enough = min(each.examples, splits[main].examples) >= drift.FEW_EXAMPLES
        found.append(Drift(split, distance, distance > drift.NOTABLE and enough, furthest, gaps[furthest]))
    return found


def class_charts(rows: Sequence[ClassRow], splits: Iterable[str]) -> list[Chart]:
    """Classes by pixels and by examples, splits side by side."""
    shown = [row for row in rows if row.pixels][:CHARTED]
    names = [row.name for row in shown]
    pixels = {split: [row.splits[split].pixel_share for row in shown] for split in splits}
    examples = {split: [row.splits[split].example_share for row in shown] for split in splits}
    return [
        bars("Share of the pixels", names, pixels, what="class", horizontal=True),
        bars("Share of the images that have the class", names, examples, what="class", horizontal=True),
    ]


def together(rows: Sequence[ClassRow], splits: Mapping[str, Statistics]) -> Together:
    """The classes that most examples have, over all splits."""
    counts = np.sum([each.together for each in splits.values()], axis=0)
    shown = sorted((row for row in rows if row.examples), key=lambda row: (-row.examples, row.train_id))[:TOGETHER]
    ids = [row.train_id for row in shown]
    shares = [[int(counts[one, other]) / int(counts[one, one]) for other in ids] for one in ids]
    return Together([row.name for row in shown], shares, sum(1 for row in rows if row.examples))
