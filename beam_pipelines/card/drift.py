"""How far two splits differ in what they hold."""

from __future__ import annotations

from collections.abc import Sequence

NOTABLE = 0.1  # of the total variation distance: a tenth of the pixels would have to change their class
NOTABLE_FACTOR = 2  # between the shares of a class in two splits
FEW_EXAMPLES = 20  # in a split: with fewer, chance alone makes two splits differ
EXPECTED = 5  # examples with a class in the smaller split: as few may be missing by chance


def shares(counts: Sequence[int]) -> list[float]:
    """Each of the counts as a share of their sum; zeros if there are none."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def total_variation(one: Sequence[int], other: Sequence[int]) -> float:
    """Half the sum of the absolute differences between two distributions, given as counts: 0 if they are the same, 1 if
    they have nothing in common. Levin, Peres and Wilmer, Markov Chains and Mixing Times, proposition 4.2.
    """
    pairs = zip(shares(one), shares(other), strict=True)
    return sum(abs(ours - theirs) for ours, theirs in pairs) / 2


def is_notable(pixel_shares: tuple[float, float], example_shares: tuple[float, float], examples: int) -> bool:
    """Whether a class has more than twice the share of the pixels in one of two splits than in the other, or only one
    has it; not if it would be expected in fewer than 5 of the `examples` of the smaller split.
    """
    least, most = sorted(pixel_shares)
    return most > NOTABLE_FACTOR * least and max(example_shares) * examples >= EXPECTED
