"""Values with their pixels and masks, added up exactly: any grouping of the masks gives the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_VALUES = 65_536  # of one tally: all that a gray mask can hold; RGB masks that were damaged have more


@dataclass(frozen=True)
class Tally:
    """int64[n] each: `values` in order, and of each value its pixels, the number of masks that hold it, and the index
    of the first of these.
    """

    values: np.ndarray
    pixels: np.ndarray
    masks: np.ndarray
    first: np.ndarray

    def __add__(self, other: Tally) -> Tally:
        return self if not other.values.size else other if not self.values.size else joined([self, other])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and all(map(np.array_equal, self.columns, other.columns))

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.values, self.pixels, self.masks, self.first

    def of(self, chosen: np.ndarray) -> Tally:
        """The values at these places: bool[n] or int[k]."""
        return Tally(*(column[chosen] for column in self.columns))

    def commonest(self, count: int) -> Tally:
        """At most `count` values, those with the most pixels first; of values with as many the smaller one."""
        return self.of(np.lexsort((self.values, -self.pixels))[:count])


def tally_of(values: np.ndarray, pixels: np.ndarray, mask: int) -> Tally:
    """The values of the mask with this index, int[n], and the pixels of each; a value may occur several times."""
    values = values.astype(np.int64)
    once = joined([Tally(values, pixels.astype(np.int64), np.ones_like(values), np.full_like(values, mask))])
    return Tally(once.values, once.pixels, np.ones_like(once.values), once.first)


def joined(tallies: Sequence[Tally]) -> Tally:
    """The sum of the tallies."""
    values, pixels, masks, first = (
        np.concatenate(column) for column in zip(*(t.columns for t in tallies), strict=True)
    )
    if not values.size:
        return EMPTY
    order = np.argsort(values, kind="stable")
    values = values[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return Tally(
        values[starts],
        np.add.reduceat(pixels[order], starts),
        np.add.reduceat(masks[order], starts),
        np.minimum.reduceat(first[order], starts),
    )


EMPTY = Tally(*(np.empty(0, np.int64) for _ in range(4)))


def bounded(tally: Tally | None, other: Tally | None = EMPTY) -> Tally | None:
    """The sum of both; None if it has more than MOST_VALUES, or if one of them had.

    A part never has more values than the whole, so the result is the same however the masks are grouped.
    """
    if tally is None or other is None:
        return None
    total = tally + other
    return total if total.values.size <= MOST_VALUES else None
