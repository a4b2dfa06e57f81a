"""What a label table repairs in stored masks: `shift`, `threshold` and `nearest_color`.

All work on the values that occur in a mask, and change neither its file nor its pixels: a repaired value has other ids
or another color.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from beam_pipelines.contract.labels import IGNORE, MAX_SOURCE_ID, LabelTable
from beam_pipelines.pixels.stored_masks import NONE, PALETTE, RGB, StoredMask, are_gray

_CHUNK = 1 << 14  # values whose distances to all colors are computed at once


@dataclass(frozen=True)
class Repaired:
    """A mask after its repairs, and which of its values, bool[n], each repair of ids and of colors changed."""

    mask: StoredMask
    of_ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    of_colors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def pixels(self, by_ids: bool, by_colors: bool) -> dict[str, int]:
        """Repair -> its pixels, of a mask that is read by its ids, its colors or both."""
        used = {**(self.of_ids if by_ids else {}), **(self.of_colors if by_colors else {})}
        counted = {name: int(self.mask.counts[changed].sum()) for name, changed in used.items()}
        return {name: pixels for name, pixels in counted.items() if pixels}


def repaired(stored: StoredMask, table: LabelTable, are_colors: bool) -> Repaired:
    """`are_colors`: the user said so. Otherwise a mask in which all is gray may hold ids, and keeps its colors."""
    ids: dict[str, np.ndarray] = {}
    colors: dict[str, np.ndarray] = {}
    if table.threshold:
        stored, ids["threshold"] = _binary(stored, table.threshold)
    if table.shift:
        stored, ids["shift"] = _shifted(stored, table.shift)
    if table.nearest_color and stored.kind in (PALETTE, RGB) and (are_colors or not are_gray(stored.colors).all()):
        found, colors["nearest_color"] = nearest_colors(stored.colors, table)
        stored = replace(stored, colors=found)
    return Repaired(stored, ids, colors)


def nearest_colors(colors: np.ndarray, table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """int64[n, 3] -> the same with the nearest color of the table, and which were replaced, bool[n].

    A color is replaced if the Euclidean distance in RGB is at most `nearest_color`. Where colors of two classes are at
    the same distance, it becomes the color of an ignored row, as nothing tells which class it is; without such a row it
    is not replaced.
    """
    ignored = [color for color, source_id in table.source_id_of_color.items() if table.train_id_of[source_id] == IGNORE]
    known = np.array(list(table.source_id_of_color), np.int32).reshape(-1, 3)
    train_ids = table.train_id_of[list(table.source_id_of_color.values())]
    found, replaced = colors.copy(), np.zeros(len(colors), bool)
    for start in range(0, len(colors) if len(known) else 0, _CHUNK):
        part = colors[start : start + _CHUNK].astype(np.int32)
        distances = _squared_distances(part, known)
        nearest = distances.argmin(axis=1)
        least = distances[np.arange(len(part)), nearest]
        same = distances == least[:, None]
        agrees = (np.where(same, train_ids, train_ids[nearest][:, None]) == train_ids[nearest][:, None]).all(axis=1)
        change = (part[:, 0] != NONE) & (least > 0) & (least <= table.nearest_color**2)
        change &= agrees | bool(ignored)
        found[start : start + _CHUNK][change] = known[nearest[change]]
        if ignored:
            found[start : start + _CHUNK][change & ~agrees] = ignored[0]
        replaced[start : start + _CHUNK] = change
    return found, replaced


def _squared_distances(colors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """int32[n, 3], int32[k, 3] -> int32[n, k]; exact."""
    return sum((colors[:, None, channel] - known[None, :, channel]) ** 2 for channel in range(3))  # type: ignore[no-any-return]


def _binary(stored: StoredMask, threshold: int) -> tuple[StoredMask, np.ndarray]:
    """Gray levels below `threshold`, of 8 bits, are the id 0, the others 1."""
    gray = stored.deep != NONE
    ids = np.where(gray, stored.deep >= threshold * 257, NONE).astype(np.int64)
    soft = gray & (stored.deep != 0) & (stored.deep != MAX_SOURCE_ID)
    return replace(stored, numbers=ids, levels=ids, deep=ids), soft


def _shifted(stored: StoredMask, shift: int) -> tuple[StoredMask, np.ndarray]:
    """Every id plus `shift`: -1 becomes 255, and other negative ids 65536 more than they are, which no table names."""

    def moved(ids: np.ndarray) -> np.ndarray:
        found = np.where(ids + shift == -1, IGNORE, (ids + shift) % (MAX_SOURCE_ID + 1))
        return np.where((ids == NONE) | (ids + shift > MAX_SOURCE_ID), NONE, found)

    ids = replace(stored, numbers=moved(stored.numbers), levels=moved(stored.levels), deep=moved(stored.deep))
    return ids, np.ones(len(stored.values), bool)


def distinct(stored: StoredMask) -> StoredMask:
    """Without pixels, and with one entry for all values that mean the same: an anti-aliased mask has many colors."""
    columns = np.column_stack([stored.numbers, stored.levels, stored.deep, stored.colors])
    _, first, place = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    counts = np.zeros(len(first), np.int64)
    np.add.at(counts, place.reshape(-1), stored.counts)
    order = np.argsort(first)  # of the values, as contradictions are found by it
    kept = first[order]
    return replace(
        stored.without_pixels(),
        values=stored.values[kept],
        counts=counts[order],
        numbers=stored.numbers[kept],
        levels=stored.levels[kept],
        deep=stored.deep[kept],
        colors=stored.colors[kept],
    )
