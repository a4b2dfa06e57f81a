from __future__ import annotations

import pytest

from beam_pipelines.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ("pair",), "0 pairs"),
        (1, ("pair",), "1 pair"),
        (2000, ("pair",), "2,000 pairs"),
        (1, ("is no pair", "are no pair"), "1 is no pair"),
        (2, ("is no pair", "are no pair"), "2 are no pair"),
    ],
)
def test_numbers_agree_with_their_nouns(number: int, words: tuple[str, ...], told: str) -> None:
    assert counted(number, *words) == told
