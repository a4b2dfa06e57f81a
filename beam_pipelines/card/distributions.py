"""What the page says about images: their sizes, shapes, brightness and contrast, and how they are normalized."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.card.statistics import DISTRIBUTIONS, Statistics
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.pages import count, share
from beam_pipelines.contract.pages.charts import Chart, Table, bars, lines

_BY = "\N{MULTIPLICATION SIGN}"
_SIZES = 12  # rows of the table of sizes
_LEVELS = 16  # of a row in the table of a histogram
_CHANNELS = ("red", "green", "blue")
_TITLES = {
    "long_side": ("Longer side of the image files", "pixels, in steps of 64"),
    "aspect_ratio": ("Aspect ratio of the image files", "width / height, in steps of 0.05"),
    "brightness": ("Brightness: mean of the values of an image", "0 black, 255 white, in steps of 4"),
    "contrast": (
        "Contrast: standard deviation of the values of an image",
        "0 flat, 127 black and white, in steps of 2",
    ),
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of the image files. `only` is the one that all have; `table` has the most frequent ones."""

    only: str | None
    different: int | None
    table: Table | None


def sizes(splits: Mapping[str, Statistics]) -> Sizes:
    """Over all splits."""
    total: Counter[tuple[int, int]] = Counter()
    for each in splits.values():
        if each.sizes is None:
            return Sizes(None, None, None)
        total.update(each.sizes)
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) == 1:
        return Sizes(_size(*ranked[0][0]), 1, None)
    examples = sum(total.values())
    rows = [[_size(*size), count(times), share(times / examples)] for size, times in ranked[:_SIZES]]
    return Sizes(None, len(ranked), Table([f"width {_BY} height", "images", "share"], rows))


def _size(height: int, width: int) -> str:
    return f"{width:,} {_BY} {height:,}"


def image_charts(splits: Mapping[str, Statistics]) -> list[Chart]:
    """A histogram for each distribution in which the images differ, splits side by side."""
    return [chart for name in DISTRIBUTIONS if (chart := _histogram(name, splits))]


def _histogram(name: str, splits: Mapping[str, Statistics]) -> Chart | None:
    counts = {split: each.distributions[name] for split, each in splits.items() if each.examples}
    used = np.flatnonzero(np.sum([*counts.values()], axis=0)) if counts else np.zeros(0, np.int64)
    if not len(used) or (len(used) < 2 and name in ("long_side", "aspect_ratio")):
        return None
    first, last = max(0, int(used.min()) - 1), min(DISTRIBUTIONS[name].count - 1, int(used.max()) + 1)
    labels = [_from(name, number) for number in range(first, last + 1)]
    series = {
        split: [int(each) / splits[split].examples for each in counts[split][first : last + 1]] for split in counts
    }
    title, what = _TITLES[name]
    return bars(title, labels, series, what=what, touching=True)


def _from(name: str, number: int) -> str:
    """The least value of a bin."""
    return (
        f"{number * DISTRIBUTIONS[name].width:,.2f}"
        if name == "aspect_ratio"
        else count(int(number * DISTRIBUTIONS[name].width))
    )


def normalization_chart(manifest: Manifest) -> Chart:
    """How often each channel has each value, with a mark at its mean. Where pixels are clipped, 0 and 255 would make
    all the others flat: the chart ends above these.
    """
    histogram, pixels = manifest.moments.histogram, manifest.moments.pixels
    series = {name: [int(value) / pixels for value in row] for name, row in zip(_CHANNELS, histogram, strict=True)}
    inner = max(max(values[1:-1]) for values in series.values())
    coarse = histogram.reshape(len(_CHANNELS), -1, _LEVELS).sum(2).T
    rows = [
        [f"{_LEVELS * place} to {_LEVELS * place + _LEVELS - 1}", *(share(int(value) / pixels) for value in values)]
        for place, values in enumerate(coarse)
    ]
    return lines(
        "How often each channel has each value; the marks are the means",
        series,
        what="value before normalization",
        step=32,
        tones=_CHANNELS,
        marks=[round(255 * mean) for mean in manifest.moments.mean],
        most=_above(inner),
        table=Table(["values", *_CHANNELS], rows),
    )


def _above(value: float) -> float:
    """The next number that an axis can end with."""
    scale = 10 ** math.floor(math.log10(value)) if value else 1.0
    return scale * next(step for step in (1.2, 1.6, 2, 3, 4, 6, 8, 12) if step * scale > value)


def moments_table(manifest: Manifest) -> Table:
    """Mean and std of each channel, and how many of its values are at an end."""
    moments = manifest.moments
    columns = zip(_CHANNELS, moments.mean, moments.std, moments.histogram.tolist(), strict=True)
    rows: list[Sequence[str]] = [
        [
            name,
            f"{mean:.6f}",
            f"{std:.6f}",
            f"{255 * mean:.2f}",
            f"{255 * std:.2f}",
            *(share(row[end] / moments.pixels) for end in (0, -1)),
        ]
        for name, mean, std, row in columns
    ]
    head = ["channel", "mean of x / 255", "std of x / 255", "mean of x", "std of x", "x = 0", "x = 255"]
    return Table(head, rows)
