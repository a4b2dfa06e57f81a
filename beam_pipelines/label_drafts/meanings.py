"""What the values of masks stand for: numbers as stored, gray levels as shown, or colors, as `--masks_are` has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from beam_pipelines.errors import BuildError
from beam_pipelines.label_drafts.contents import (
    GRAY_8,
    GRAY_16,
    GRAY_STEP,
    PALETTE,
    SHALLOW,
    Contents,
    Values,
    entries_of,
)
from beam_pipelines.label_drafts.tallies import EMPTY, Tally, bounded, joined
from beam_pipelines.pixels.mask_readings import COLORS, IDS, LEVELS, OPTION
from beam_pipelines.recipe import MASKS_ARE

AUTO = MASKS_ARE[0]
_FACTORS = {GRAY_8: 1, **{storage: 255 // (2**bits - 1) for bits, storage in SHALLOW.items()}}  # number -> level
_DEEP = 257  # the 16-bit levels of a gray level of 8 bits
_Ways = Mapping[str, Tally | None]  # way of reading -> ids or color codes; None if there are more than a tally takes


@dataclass(frozen=True)
class Meaning:
    """Masks that are read in one way.

    Attributes:
      way: IDS, LEVELS or COLORS.
      values: ids, or color codes if the way is COLORS; None if there are more than a tally takes.
      main: color codes that fill a good part of a mask, counted only there; None likewise; none of ids.
      coarse: all pixels by the coarse codes of their colors; none of ids.
      color_of: id -> color code, of palettes whose indices are ids.
      masks: the number of masks.
      pixels: their pixels.
      left_out: the ways of storage whose masks can't be read so.
    """

    way: str
    values: Tally | None
    main: Tally | None
    coarse: Tally
    color_of: Mapping[int, int]
    masks: int
    pixels: int
    left_out: tuple[str, ...] = ()


def meaning_of(contents: Contents, masks_are: str = AUTO) -> Meaning:
    """All masks, read as the user says, or in the one way that fits them all; otherwise those that are stored like most
    of them.

    Raises:
      BuildError: no mask can be read in any way, or as the user says.
    """
    found = contents.values
    ways = {storage: _ways_of(storage, found[storage], contents.repeated) for storage in found}
    if masks_are != AUTO:
        ways = {storage: _only(masks_are, storage, found[storage], ways[storage]) for storage in found}
    able = [storage for storage in found if ways[storage]]
    if not able:
        raise BuildError(f"no mask can be read: {_reasons(contents, masks_are)}")
    common = _common([ways[storage] for storage in found])
    if common:
        return _meaning(_best(common), common, [*found.values()], found.get(PALETTE))
    usual = max(able, key=lambda storage: (found[storage].masks, storage))
    alone = replace(contents, values={usual: found[usual]})
    return replace(meaning_of(alone, masks_are), left_out=tuple(sorted(found.keys() - {usual})))


def _meaning(way: str, ways: _Ways, found: Sequence[Values], palettes: Values | None) -> Meaning:
    colored = found if way == COLORS else ()
    return Meaning(
        way=way,
        values=ways[way],
        main=_sum(values.main for values in colored),
        coarse=sum((values.coarse for values in colored), EMPTY),
        color_of=_colors_of_ids(palettes) if way == IDS and palettes else {},
        masks=sum(values.masks for values in found),
        pixels=sum(values.pixels for values in found),
    )


def _only(way: str, storage: str, values: Values, ways: _Ways) -> _Ways:
    """One of the ways. Indices of palettes are ids if the user says so, whatever their colors."""
    if way == IDS and storage == PALETTE and values.exact is not None:
        indices, _ = entries_of(values.exact.values)
        return {IDS: joined([replace(values.exact, values=indices)])}
    return {each: tally for each, tally in ways.items() if each == way}


def _reasons(contents: Contents, masks_are: str) -> str:
    reasons = [f"{reason} {group.masks:,}" for reason, group in sorted(contents.problems.items())]
    if PALETTE in contents.values and masks_are == AUTO:
        reasons.append("entries of palettes that are used are not opaque")
    elif contents.values:
        reasons.append(f"{OPTION}={masks_are}, and they are stored as {', '.join(sorted(contents.values))}")
    return "; ".join(reasons)


def _ways_of(storage: str, values: Values, repeated: Tally | None) -> _Ways:
    """The ways in which masks that are stored like that can be read."""
    if storage == PALETTE:
        return _ways_of_palettes(values, repeated)
    if values.exact is None or not storage.startswith("gray"):
        return _ways_of_colors(values.colors)
    numbers = values.exact
    if storage == GRAY_16:
        if (numbers.values % _DEEP).any():
            return {IDS: numbers}
        levels = replace(numbers, values=numbers.values // _DEEP)
    else:
        levels = replace(numbers, values=numbers.values * _FACTORS[storage])
    return {IDS: numbers, LEVELS: levels, COLORS: replace(levels, values=levels.values * GRAY_STEP)}


def _ways_of_palettes(values: Values, repeated: Tally | None) -> _Ways:
    """Indices are ids unless the colors contradict that, as in `mask_readings.contradiction`."""
    if -1 in values.coarse.values:
        return {}
    ways = {way: tally for way, tally in _ways_of_colors(values.colors).items() if way != IDS}
    if values.exact is not None and repeated is not None and _orderly(values.exact, repeated):
        _, codes = entries_of(values.exact.values)
        if not (codes % GRAY_STEP).any() and (np.diff(codes) <= 0).any():
            return ways
        return {IDS: replace(values.exact, values=entries_of(values.exact.values)[0]), **ways}
    return ways


def _ways_of_colors(colors: Tally | None) -> _Ways:
    if colors is None or (colors.values % GRAY_STEP).any():
        return {COLORS: colors}
    levels = replace(colors, values=colors.values // GRAY_STEP)
    return {IDS: levels, LEVELS: levels, COLORS: colors}


def _orderly(entries: Tally, repeated: Tally) -> bool:
    """Whether no index has two colors, and no color two indices, unless one palette has both."""
    indices, codes = entries_of(entries.values)
    once = codes[~np.isin(codes, repeated.values)]
    return all(len(set(each.tolist())) == each.size for each in (indices, once))


def _common(of_storages: Iterable[_Ways]) -> _Ways:
    """The ways that all have, with the sums."""
    every = [*of_storages]
    shared = [way for way in (IDS, LEVELS, COLORS) if all(way in ways for ways in every)]
    return {way: _sum(ways[way] for ways in every) for way in shared}


def _sum(tallies: Iterable[Tally | None]) -> Tally | None:
    total: Tally | None = EMPTY
    for tally in tallies:
        total = bounded(total, tally)
    return total


def _best(ways: _Ways) -> str:
    """Numbers as stored; or gray levels, where fewer of these than of the numbers occur: 0 and 255 in 1 and in 8 bits
    are 0, 1 and 255 as stored.
    """
    ids, levels = ways.get(IDS), ways.get(LEVELS)
    if ids is not None and (levels is None or ids.values.size <= levels.values.size):
        return IDS
    return LEVELS if levels is not None else COLORS


def _colors_of_ids(palettes: Values) -> dict[int, int]:
    """Id -> color code; without colors that several ids have, ids that have several, and if all are gray."""
    if palettes.exact is None:
        return {}
    indices, codes = entries_of(palettes.exact.values)
    times, of_index = Counter(codes.tolist()), Counter(indices.tolist())
    if not (codes % GRAY_STEP).any():
        return {}
    entries = zip(indices.tolist(), codes.tolist(), strict=True)
    return {index: code for index, code in entries if code >= 0 and times[code] == of_index[index] == 1}
