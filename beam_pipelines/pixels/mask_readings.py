"""The ways to read a mask: which of them fit a stored mask and a label table, and what contradicts one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.labels import UNKNOWN, LabelTable
from beam_pipelines.pixels.stored_masks import GRAY, KINDS, NONE, PALETTE, StoredMask, are_gray
from beam_pipelines.recipe import MASKS_ARE

_, IDS, LEVELS, COLORS = MASKS_ARE
DEEP = "deep"  # like levels, of 16 bits: a mask of 0 and 65535 is stored in as little as 1 bit
OPTION = "--masks_are"
CURE = f"say what the masks are: {OPTION}=ids (numbers as stored), levels (gray levels as shown) or colors"
_MANY_ELSEWHERE = 2  # colors of the table at other indices; one may be a coincidence, as in the palette of Pascal VOC


@dataclass(frozen=True)
class MaskReading:
    """How the masks of a data set are read: in all of `ways`, which must agree. `kinds` are the kinds of storage that
    the survey saw; other kinds are read in every way. If indices are ids, `palette` has the (index, red, green, blue)
    that the survey saw: a mask with one of these colors at another index was saved in another order.
    """

    ways: tuple[str, ...]
    kinds: tuple[str, ...]
    palette: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether all masks are gray with 8 or 16 bits, and hold ids."""
        return self.kinds == (GRAY,) and COLORS not in self.ways and DEEP not in self.ways and IDS in self.ways

    @property
    def is_given(self) -> bool:
        """Whether the user said what the masks are."""
        return len(self.ways) == 1 and self.kinds == tuple(KINDS) and not self.palette

    def ways_of(self, kind: str, table: LabelTable) -> tuple[str, ...]:
        """Every lossless storage keeps colors; anything else is certain only for the kinds that were seen."""
        known = all_ways(table)
        if kind in self.kinds or self.ways == (COLORS,):
            return tuple(way for way in self.ways if way in known)
        return known


def reading_of(masks_are: str) -> MaskReading:
    """The reading that --masks_are gives, if it is not `auto`."""
    return MaskReading((LEVELS, DEEP) if masks_are == LEVELS else (masks_are,), tuple(KINDS))


def all_ways(table: LabelTable) -> tuple[str, ...]:
    """Every way; `DEEP` only with a table that has such ids."""
    return (IDS, LEVELS, COLORS, DEEP) if _has_deep_ids(table) else (IDS, LEVELS, COLORS)


def _has_deep_ids(table: LabelTable) -> bool:
    return any(source_id > 255 and source_id % 257 == 0 for row in table.labels for source_id in row.source_ids)


def ids_by(way: str, stored: StoredMask) -> np.ndarray | None:
    """int64[n]: the id of each value by `IDS`, `LEVELS` or `DEEP`; None if the mask can't be read that way."""
    ids = {IDS: stored.numbers, LEVELS: stored.levels, DEEP: stored.deep}[way]
    return None if (ids == NONE).any() else ids


def named_ids(way: str, stored: StoredMask, table: LabelTable) -> np.ndarray | None:
    """The same for every way; None also if the table does not name an id or a color."""
    if way == COLORS:
        ids = np.array([table.source_id_of_color.get(tuple(color), NONE) for color in stored.colors.tolist()])
        return None if (ids == NONE).any() else ids
    found = ids_by(way, stored)
    return None if found is None or (table.train_id_of[found] == UNKNOWN).any() else found


def readings(stored: StoredMask, table: LabelTable, ways: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Way -> the id of each value, int64[n], of the ways that fit the mask and the table."""
    found = {way: named_ids(way, stored, table) for way in ways}
    return {way: ids for way, ids in found.items() if ids is not None}


def contradiction(stored: StoredMask, table: LabelTable, alone: bool = True) -> str | None:
    """Why the indices of a palette can't be ids; None if nothing contradicts that.

    alone: nothing else is known about the palette, such as its entries in other masks.
    """
    if stored.kind != PALETTE:
        return None
    if (stored.colors[:, 0] == NONE).any():
        return "an entry that is used is not opaque"
    of_index, of_color = table.train_id_of[stored.numbers], _train_ids_of_colors(stored, table)
    is_gray, is_known = are_gray(stored.colors), of_color != UNKNOWN
    elsewhere = int((~is_gray & is_known & (of_color != of_index)).sum())
    for_ids = (~is_gray & ((of_color == of_index) | ~is_known)).any()
    if elsewhere >= _MANY_ELSEWHERE or (elsewhere and alone and not for_ids):
        return f"{elsewhere} colors of table {table.name} are at other indices than their ids"
    if is_gray.all() and (np.diff(stored.colors[:, 0]) <= 0).any() and (of_color != of_index).any():
        return "its gray levels do not increase with the index"
    return None


def _train_ids_of_colors(stored: StoredMask, table: LabelTable) -> np.ndarray:
    """int16[n]: by the colors of the table; UNKNOWN if it has no such color."""
    ids = [table.source_id_of_color.get(tuple(color)) for color in stored.colors.tolist()]
    return np.array([UNKNOWN if source_id is None else table.train_id_of[source_id] for source_id in ids], np.int16)


def credible(stored: StoredMask, table: LabelTable, ways: tuple[str, ...], alone: bool = True) -> dict[str, np.ndarray]:
    """`readings`, without `IDS` if the indices of the palette can't be ids."""
    found = readings(stored, table, ways)
    if IDS in found and contradiction(stored, table, alone):
        del found[IDS]
    return found


def agree(found: Mapping[str, np.ndarray], table: LabelTable) -> bool:
    """Whether all readings give the same train ids."""
    return len({table.train_id_of[ids].tobytes() for ids in found.values()}) < 2


PLAIN = MaskReading((IDS, LEVELS), (GRAY,))
