"""What the page says about classes: splits that are equal, and differences that are too small for a decimal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from beam_pipelines.card.classes import Drift, class_rows, drifts
from beam_pipelines.card.statistics import Statistics
from beam_pipelines.contract.labels.table import Label, LabelTable

LABELS = LabelTable(
    name="mine",
    labels=tuple(
        Label(name=name, source_ids=(number,), train_id=number, color=None, category="")
        for number, name in enumerate(("road", "building"))
    ),
)


def drift_of(train: tuple[int, int], val: tuple[int, int]) -> list[Drift]:
    splits = {
        name: replace(Statistics.zero(2), examples=30, class_pixels=np.array([*pixels, 5]))
        for name, pixels in (("train", train), ("val", val))
    }
    return drifts(class_rows(LABELS, splits, "train"), splits, "train")


def test_splits_with_equal_shares_are_exactly_equal() -> None:
    (found,) = drift_of((1, 2), (30, 60))
    assert found.distance == 0


@pytest.mark.parametrize(
    ("val", "distance", "difference"),
    [((700, 300), "0.200", "20.0 points"), ((500_001, 499_999), "below 0.001", "less than 0.1 points")],
)
def test_a_difference_is_never_shown_as_none(val: tuple[int, int], distance: str, difference: str) -> None:
    (found,) = drift_of((1, 1), val)
    assert (found.distance_words, found.difference_words) == (distance, difference)


def test_a_split_without_pixels_of_a_class_is_not_compared() -> None:
    assert drift_of((1, 1), (0, 0)) == []
