"""Mask files -> ids, read in the way that fits the data set; a mask that can be read in two ways is refused.

The same ids can be stored in many ways: lossless optimizers and image editors turn RGB into a palette in any order, a
gray mask of 0 and 255 into one bit, and ids into RGB. A mask is read in one of these ways:

  ids     the numbers in the file are the ids: gray samples and palette indices as stored
  levels  the gray levels that a viewer shows are the ids: 1, 2 and 4 bits are stretched to 8, palettes looked up
  colors  the colors that a viewer shows are those of the label table

A survey of the first masks in the plan's order (`survey.py`) decides which ways fit the data set. Every worker then
reads each mask in all of these ways, and accepts it if they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.picture_rules import STRICT, Rules
from beam_pipelines.pixels.decode import bad
from beam_pipelines.pixels.mask_readings import (
    COLORS,
    CURE,
    IDS,
    LEVELS,
    OPTION,
    MaskReading,
    agree,
    all_ways,
    contradiction,
    credible,
    ids_by,
    readings,
)
from beam_pipelines.pixels.mask_repairs import repaired
from beam_pipelines.pixels.stored_masks import (
    GRAY,
    NONE,
    PALETTE,
    RGB,
    SHALLOW,
    StoredMask,
    counted,
    described,
    open_mask,
    palette_of,
    stored_mask,
)

_MANY_UNKNOWN = 20  # colors, more than a table lacks


@dataclass(frozen=True)
class DecodedMask:
    """`ids`, uint8[H, W] or uint16[H, W]; `repairs` is repair of the table -> pixels that it changed, if any."""

    ids: np.ndarray
    repairs: Mapping[str, int] = field(default_factory=dict)


def read_mask(
    data: bytes, table: LabelTable, max_pixels: int, reading: MaskReading, rules: Rules = STRICT
) -> DecodedMask:
    """-> ids, read as `reading` says, after the table's repairs. An RGB color gives the first source id of its row.

    Ids that the table does not name are returned as well, where no way to read the mask fits the table.

    Raises:
      BadInputError: of stage `decode`; `ambiguous_mask` and `contradictory_mask` name the option that decides.
    """
    image, pixels, orientation = open_mask(data, max_pixels, rules)
    if pixels is not None and _are_ids(data[24], reading) and not (table.shift or table.threshold):
        _check_depth(pixels, table)
        return DecodedMask(pixels)
    stored = stored_mask(data, image, pixels, orientation)
    found = repaired(stored, table, are_colors=reading.ways == (COLORS,))
    ids, ways = _agreed(found.mask, table, reading)
    return DecodedMask(spread(ids, found.mask), found.pixels(bool({*ways} - {COLORS}), COLORS in ways))


def ids_of_values(stored: StoredMask, bits: int, table: LabelTable, reading: MaskReading) -> np.ndarray:
    """int[n]: the id of each of the mask's values, as `read_mask` reads them; `bits` are those of a sample.

    Raises:
      BadInputError: as `read_mask` does.
    """
    if stored.kind == GRAY and _are_ids(bits, reading) and not (table.shift or table.threshold):
        _check_depth(stored.samples, table)
        return stored.numbers
    return _agreed(repaired(stored, table, are_colors=reading.ways == (COLORS,)).mask, table, reading)[0]


def _are_ids(bits: int, reading: MaskReading) -> bool:
    """Whether the samples of a gray mask are its ids, whatever their values, as in most data sets."""
    if GRAY not in reading.kinds or not {*reading.ways} <= {IDS, LEVELS}:
        return False
    return bits == 8 or (bits == 16 and reading.ways == (IDS,))


def _check_depth(pixels: np.ndarray, table: LabelTable) -> None:
    """Raises BadInputError if 16 bits hold 8-bit ids times 257, which `ignore: rest` would ignore silently."""
    if pixels.dtype == np.uint8 or not table.ignore_rest:
        return
    values, _ = counted(pixels)
    foreign = [int(value) for value in values if not table.names(int(value))]
    if foreign and not (values % 257).any() and all(table.names(int(value) // 257) for value in values):
        raise bad(
            "ambiguous_mask",
            f"16 bits with the values {', '.join(map(str, values[:8]))}: were 8-bit ids converted to 16 bits? "
            f"`ignore: rest` ignores {foreign[0]}; {CURE}, or store this mask like the others",
        )


def spread(of_values: np.ndarray, stored: StoredMask) -> np.ndarray:
    """Any dtype[n], an entry for each of the mask's values -> the same dtype[H, W], the entry of each pixel."""
    if stored.kind == RGB:
        return np.asarray(of_values[np.searchsorted(stored.values, stored.samples)])
    table = np.zeros(int(stored.values[-1]) + 1, of_values.dtype)
    table[stored.values] = of_values
    return np.asarray(table[stored.samples])


def _agreed(stored: StoredMask, table: LabelTable, reading: MaskReading) -> tuple[np.ndarray, tuple[str, ...]]:
    """-> the id of each value, and the ways that give it."""
    ways = reading.ways_of(stored.kind, table)
    alone = not reading.palette
    found = readings(stored, table, ways) if reading.is_given else credible(stored, table, ways, alone)
    if not found and IDS in ways and not reading.is_given and (why := contradiction(stored, table, alone)):
        raise bad("contradictory_mask", f"{described(stored)}, but {why}: its indices are not ids; {CURE}")
    if not found:
        return _unnamed(stored, table, reading), ()
    if not agree(found, table):
        raise bad("ambiguous_mask", f"{described(stored)} can be read as {' or as '.join(found)}; {CURE}")
    if stored.kind == PALETTE and tuple(found) == (IDS,):
        _check_palette(stored, reading)
    ids = next(iter(found.values()))
    return ids.astype(np.uint16 if ids.max(initial=0) > 255 else np.uint8), tuple(found)


def _unnamed(stored: StoredMask, table: LabelTable, reading: MaskReading) -> np.ndarray:
    """If no way fits: the ids as they are, so that `check_ids` names them. Raises BadInputError if there are no ids."""
    other = readings(stored, table, all_ways(table))
    if other:
        raise bad(
            "contradictory_mask",
            f"{described(stored)} fits table {table.name} as {' or as '.join(other)}, and the masks of this data set "
            f"are read as {' and '.join(reading.ways)}; {CURE}, or store this mask like the others",
        )
    usable = [way for way in (IDS, LEVELS) if stored.kind != PALETTE or way in reading.ways]
    usual = next((ids for way in usable if (ids := ids_by(way, stored)) is not None), None)
    is_gray = stored.kind in (GRAY, SHALLOW) and reading.ways != (COLORS,)
    if usual is not None and (is_gray or (COLORS not in reading.ways and stored.kind != RGB)):
        return usual.astype(np.uint16 if usual.max(initial=0) > 255 else np.uint8)
    colors = [tuple(color) for color in stored.colors.tolist()]
    if stored.kind == PALETTE and any(color[0] == NONE for color in colors):
        raise bad("transparent", "a palette entry that is used is not opaque, or is missing")
    unknown = [color for color in colors if color not in table.source_id_of_color]
    if not unknown or unknown[0][0] == NONE:
        raise bad("unknown_colors", f"{described(stored)} has no color of table {table.name}")
    shown = ", ".join(map(str, unknown[:20]))
    cure = ""
    if table.nearest_color:
        cure = f"; the table's `nearest_color: {table.nearest_color}` does not reach them: raise it, or add the colors"
    elif len(unknown) > _MANY_UNKNOWN:
        cure = "; if they come from anti-aliasing or JPEG, give the table `nearest_color`"
    raise bad("unknown_colors", f"{len(unknown)} colors are not in table {table.name}: {shown}{cure}")


def _check_palette(stored: StoredMask, reading: MaskReading) -> None:
    """Raises BadInputError if there is no evidence that the indices of a palette are ids."""
    if PALETTE not in reading.kinds:
        raise bad(
            "contradictory_mask",
            f"{described(stored)}, unlike the masks that were examined: its indices may be ids, or the order in which "
            f"a tool listed the colors; store this mask like the others, or give {OPTION}=ids if they are ids",
        )
    at_index = {index: tuple(rgb) for index, *rgb in reading.palette}
    of_color: dict[tuple[int, ...], set[int]] = {}
    for index, color in at_index.items():
        of_color.setdefault(color, set()).add(index)
    for index, color in palette_of(stored):
        if at_index.get(index, color) != color or index not in of_color.get(color, {index}):
            raise bad(
                "contradictory_mask",
                f"index {index} of the palette has the color {color}, unlike in other masks: the palette was reordered "
                f"when the mask was saved, so its indices are not ids. Save it in the original order, or give "
                f"{OPTION}=ids if they are ids",
            )
