"""How far two splits differ: against NumPy, and the laws of a distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.card.drift import is_notable, shares, total_variation

counts = st.lists(st.integers(0, 2**40), min_size=4, max_size=4).filter(any)


@given(counts, counts, counts)
def test_the_distance_is_the_most_that_any_event_differs_by(one, other, third) -> None:
    """That is the definition, in proposition 4.2 of the source: the event of the classes that are more frequent."""
    first, second = np.array(one) / sum(one), np.array(other) / sum(other)
    distance = total_variation(one, other)
    assert distance == pytest.approx((first - second)[first > second].sum())
    assert distance == pytest.approx(total_variation(other, one))
    assert 0 <= distance <= 1 + 1e-12
    assert distance <= total_variation(one, third) + total_variation(third, other) + 1e-12
    assert total_variation(one, [2 * count for count in one]) == pytest.approx(0)


def test_what_has_nothing_in_common_is_one_apart() -> None:
    assert total_variation([3, 0], [0, 7]) == 1
    assert shares([0, 0]) == [0, 0]


@pytest.mark.parametrize(
    ("pixels", "images", "examples", "notable"),
    [
        ((0.2, 0.1), (1.0, 1.0), 100, False),
        ((0.21, 0.1), (1.0, 1.0), 100, True),
        ((0.1, 0.21), (1.0, 1.0), 100, True),
        ((0.1, 0.0), (0.0, 0.05), 100, True),
        ((0.1, 0.0), (0.0, 0.05), 99, False),
        ((0.0, 0.0), (0.0, 0.0), 100, False),
    ],
)
def test_a_class_is_notable_by_a_factor_and_if_chance_does_not_explain_it(
    pixels: tuple[float, float], images: tuple[float, float], examples: int, notable: bool
) -> None:
    assert is_notable(pixels, images, examples) is notable
