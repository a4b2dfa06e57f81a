"""What the page says about images: open bins say so, and so does a chart that is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from beam_pipelines.card.distributions import image_charts, normalization_chart
from beam_pipelines.card.statistics import DISTRIBUTIONS, Statistics
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pages.charts import Chart


def charts(name: str, bins: Mapping[int, int]) -> list[Chart]:
    counts = np.zeros(DISTRIBUTIONS[name].count, np.int64)
    counts[[*bins]] = [*bins.values()]
    zero = Statistics.zero(1)
    distributions = {**zero.distributions, name: counts}
    return image_charts({"train": replace(zero, examples=sum(bins.values()), distributions=distributions)})


@pytest.mark.parametrize(
    ("name", "last"), [("aspect_ratio", "3.95 or more"), ("long_side", "8,128 or more"), ("brightness", "252")]
)
def test_the_last_bin_says_whether_it_has_all_larger_values(name: str, last: str) -> None:
    number = DISTRIBUTIONS[name].count - 1
    (chart,) = charts(name, {number - 3: 1, number: 3})
    assert chart.config["data"]["labels"][-1] == last
    assert chart.table.rows[-1] == [last, "75.0%"]
    assert chart.note == (f"The last bar: {last}." if DISTRIBUTIONS[name].open else "")


def test_a_chart_without_the_last_bin_has_no_open_bar() -> None:
    (chart,) = charts("aspect_ratio", {20: 1, 30: 1})
    assert not any("or more" in text for text in (*chart.config["data"]["labels"], chart.note))


@pytest.mark.parametrize(
    ("white", "note"),
    [
        (512, "The chart ends at 0.30%. The highest value above it is 66.8%, of green at 255."),
        (1, ""),
    ],
)
def test_a_histogram_that_is_cut_tells_the_highest_value(white: int, note: str) -> None:
    histogram = np.ones((3, 256), np.int64)
    histogram[1, 255] = white
    histogram[[0, 2]] = histogram[1].sum() // 256  # channels count equally many pixels
    histogram[[0, 2], 0] += histogram[1].sum() % 256
    chart = normalization_chart(Moments(histogram))
    assert chart.note == note
