"""How far two splits differ in what they hold."""

from __future__ import annotations

from collections.abc import Sequence

NOTABLE = 0.1  # of the total variation distance: a tenth of the pixels would have to change their class
NOTABLE_FACTOR = 2.0  # between the shares of a class in two splits


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


def is_notable(share: float, other: float) -> bool:
    """Whether a class has more than twice the share in one split than in the other; also if only one has it."""
    least, most = sorted((share, other))
    return most > NOTABLE_FACTOR * least
