"""Examines the first masks of a data set, in the plan's order, and decides how all masks are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, MAX_SOURCE_ID, LabelTable
from beam_pipelines.errors import BuildError
from beam_pipelines.files.spool import reference_of
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.pixels import table_fit
from beam_pipelines.pixels.mask_readings import (
    COLORS,
    CURE,
    DEEP,
    IDS,
    LEVELS,
    OPTION,
    MaskReading,
    agree,
    all_ways,
    contradiction,
    credible,
    reading_of,
)
from beam_pipelines.pixels.mask_repairs import distinct, repaired
from beam_pipelines.pixels.polygons import is_document
from beam_pipelines.pixels.stored_masks import (
    GRAY,
    KINDS,
    PALETTE,
    RGB,
    StoredMask,
    described,
    open_mask,
    palette_of,
    stored_mask,
    together,
)
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import BadInputError
from beam_pipelines.shards.stage import file_reader

LOOKED_AT = 48  # masks, divided among the splits in proportion to their sizes ...
LEAST_OF_SPLIT = 8  # ... but at least so many of each split
THREADS = 4
SURE = 16  # in so many masks of street scenes, none of the commonest ids is missing by chance
_MANY_COLORS = 2  # of the table, not gray; no palette has so many by chance
_MANY_IDS = 4
_LABEL_IDS, _TRAIN_IDS = set(range(34)), {*range(19), IGNORE}  # of Cityscapes
_OF_LABEL_IDS = [name for name, make in BUILTIN_TABLES.items() if make().source_ids == _LABEL_IDS]
_NOT_LARGER = {name for name, make in BUILTIN_TABLES.items() if len(make().source_ids) <= len(_TRAIN_IDS)}

Mask = tuple[str, StoredMask]  # key and mask


@dataclass(frozen=True)
class Surveyed:
    """How the masks are read, and what to print about it."""

    reading: MaskReading
    notes: tuple[str, ...]


def survey(chosen: Mapping[str, Sequence[Pair]], recipe: Recipe) -> Surveyed:
    """Raises BuildError if masks can be read in two ways, or can't hold what the label table expects."""
    masks = _look(_sample(chosen), recipe)
    if recipe.masks_are == "auto":
        surveyed = decide(masks, recipe.labels)
    else:
        notes = (f"masks: {OPTION}={recipe.masks_are}",) if masks else ()  # it means nothing for regions
        surveyed = Surveyed(reading_of(recipe.masks_are), notes)
    if COLORS in surveyed.reading.ways:
        return surveyed
    split_of = {pair.key: split for split, pairs in chosen.items() for pair in pairs}
    of_splits = [
        f"{split}: {note}"
        for split in chosen
        for note in check_table([mask for key, mask in masks if split_of[key] == split], recipe.labels)
    ]
    return Surveyed(surveyed.reading, (*surveyed.notes, *of_splits))


def decide(masks: Sequence[Mask], table: LabelTable) -> Surveyed:
    """Keeps the ways of reading that fit every mask; if these disagree, drops those that the evidence contradicts."""
    palettes = [mask for _, mask in masks if mask.kind == PALETTE]
    alone = not palettes or _reordered(palettes) or contradiction(together(palettes), table) is not None
    found = [(key, mask, credible(mask, table, all_ways(table), alone)) for key, mask in masks]
    found = [each for each in found if each[2]]  # a mask that can't be read in any way is rejected later
    contradicted = [(key, why) for key, mask in masks if (why := contradiction(mask, table, alone))]
    if contradicted and not found:
        key, why = contradicted[0]
        raise BuildError(
            f"{len(contradicted)} of {len(masks)} examined masks are palette images whose indices can't be ids, such "
            f"as {key}: {why}; {CURE}"
        )
    if not found:
        return Surveyed(MaskReading(all_ways(table), ()), ())
    usable = [mask for _, mask, _ in found]
    kinds = tuple(kind for kind in KINDS if any(mask.kind == kind for mask in usable))
    orderly = not _reordered(usable)
    ways = tuple(way for way in all_ways(table) if all(way in of_mask for _, _, of_mask in found))
    if not orderly and (ways == (IDS,) or (not ways and _some_only_ids(found))):
        raise BuildError(_reordered_palettes())
    entries = {(index, *color) for mask in usable if mask.kind == PALETTE for index, color in palette_of(mask)}
    if not ways:  # a mixture: each mask is read in the way that is certain for it
        palette = tuple(sorted(entries)) if orderly else ()
        return Surveyed(MaskReading(all_ways(table), kinds, palette), (_mixture(usable),))  # type: ignore[arg-type]
    split = [each for each in found if not agree({way: each[2][way] for way in ways}, table)]
    if split:
        ways = _by_evidence(ways, usable, orderly)
        split = [each for each in split if not agree({way: each[2][way] for way in ways}, table)]
    if split:
        raise BuildError(_ambiguous(split, len(found), ways))
    palette = tuple(sorted(entries)) if orderly and IDS in ways else ()
    return Surveyed(MaskReading(ways, kinds, palette), _notes(ways, usable))  # type: ignore[arg-type]


def check_table(masks: Sequence[StoredMask], table: LabelTable) -> tuple[str, ...]:
    """Notes on unexpected ids. Raises BuildError if the ids are certainly those of another table."""
    seen = {int(number) for mask in masks for number in mask.numbers} - {-1}
    notes = []
    if MAX_SOURCE_ID in seen and table.ignore_rest and not table.names(MAX_SOURCE_ID):
        notes.append(f"masks hold {MAX_SOURCE_ID}, which is -1 in 16 bits: `ignore: rest` ignores it")
    notes += _check_binary(masks, table)
    _check_threshold(masks, table)
    if table.name in _OF_LABEL_IDS and table_fit.is_builtin(table):
        notes += _check_label_ids(masks, seen, table)
    if table == BUILTIN_TABLES["cityscapes_train_ids"]():
        label_ids = [mask for mask in masks if ((mask.numbers > 18) & (mask.numbers < 34)).any()]
        if len(label_ids) * 2 > len(masks) and max(seen) < 34:
            raise BuildError(
                f"{len(label_ids)} of {len(masks)} examined masks hold ids from 19 to 33: they are label ids of "
                f"Cityscapes, not train ids; give {_options(_OF_LABEL_IDS)}"
            )
    return tuple(notes)


def _check_binary(masks: Sequence[StoredMask], table: LabelTable) -> list[str]:
    """Masks of 0 and 255 among masks of 0 and 1: is 255 another way to store 1, or does it mark ignored pixels?"""
    ids = {source_id for row in table.classes for source_id in row.source_ids}
    odd = [mask for mask in masks if set(mask.numbers.tolist()) == {0, IGNORE}]
    if ids != {0, 1} or not 0 < len(odd) < len(masks) or table.train_id_of[IGNORE] != IGNORE:
        return []
    return [
        f"warning: {len(odd)} of {len(masks)} examined masks hold 0 and 255, the others 0 and 1: 255 is read as "
        "ignored; if it means 1, store these masks like the others"
    ]


def _check_threshold(masks: Sequence[StoredMask], table: LabelTable) -> None:
    brightest = max((int(mask.colors.max(initial=0)) for mask in masks), default=0)
    if table.threshold > brightest == 1:
        raise BuildError(
            f"the {len(masks)} examined masks hold only 0 and 1, and `threshold: {table.threshold}` makes 0 of both: "
            "remove it from the label table"
        )


def _check_label_ids(masks: Sequence[StoredMask], seen: set[int], table: LabelTable) -> list[str]:
    if not seen or not seen <= _TRAIN_IDS:
        return []
    fitting = table_fit.fitting_tables(_pixels_of_ids(masks))
    others = [name for name in fitting if name not in _OF_LABEL_IDS]
    if fitting and not others:
        return []
    others = others or [name for name in table_fit.tables_that_name(seen) if name in _NOT_LARGER]
    ids = "0 to 18 and 255" if IGNORE in seen else f"ids up to {max(seen)}"
    message = (
        f"the {len(masks)} examined masks hold only {ids}: they fit {_options(others)}. {table.name} expects label ids "
        "of Cityscapes, 0 to 33, in which road is 7, vegetation 21, sky 23 and car 26"
    )
    if IGNORE in seen or (len(masks) >= SURE and len(seen) > _MANY_IDS):
        raise BuildError(f"{message}; if the masks really hold label ids, write the table as a YAML file")
    return [f"warning: {message}"]


def _options(tables: Sequence[str]) -> str:
    return " or ".join(f"--labels={name}" for name in tables)


def _pixels_of_ids(masks: Sequence[StoredMask]) -> Counter[int]:
    """Id as stored -> its pixels in all masks."""
    total: Counter[int] = Counter()
    for mask in masks:
        total.update(dict(zip(mask.numbers.tolist(), mask.counts.tolist(), strict=True)))
    return total


def _sample(chosen: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    total = sum(map(len, chosen.values()))
    shares = {split: max(LEAST_OF_SPLIT, LOOKED_AT * len(pairs) // total) for split, pairs in chosen.items()}
    return [pair for split, pairs in chosen.items() for pair in pairs[: shares[split]]]


def _look(pairs: Sequence[Pair], recipe: Recipe) -> list[Mask]:
    """The readable masks of `pairs` that are pixels, in their order: those that are drawn can't be misread."""
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(lambda start: list(_read(pairs[start::THREADS], recipe)), range(THREADS)))
    by_key = {(key, path): mask for part in parts for key, path, mask in part}
    return [(pair.key, by_key[pair.key, pair.mask]) for pair in pairs if (pair.key, pair.mask) in by_key]


def _read(pairs: Sequence[Pair], recipe: Recipe) -> Iterator[tuple[str, str, StoredMask]]:
    reader = file_reader(recipe)
    try:
        for pair in pairs:
            if reference_of(pair.mask):
                continue
            try:
                data = reader.read(pair.mask)
                if is_document(data):
                    continue
                stored = stored_mask(data, *open_mask(data, recipe.max_image_pixels, recipe.rules))
                mask = _repaired(stored, recipe)
            except BadInputError:
                continue  # the pair is rejected later
            yield pair.key, pair.mask, mask.without_pixels()
    finally:
        reader.close()


def _repaired(mask: StoredMask, recipe: Recipe) -> StoredMask:
    if not recipe.labels.repairs:
        return mask
    return distinct(repaired(mask, recipe.labels, are_colors=recipe.masks_are == COLORS).mask)


def _reordered(masks: Sequence[StoredMask]) -> bool:
    """Whether palettes disagree: an index with two colors, or a color at two indices (unless one palette has both)."""
    palettes = [palette_of(mask) for mask in masks if mask.kind == PALETTE]
    entries = {entry for palette in palettes for entry in palette}
    times = [Counter(color for _, color in palette) for palette in palettes]
    repeated = {color for of_palette in times for color, count in of_palette.items() if count > 1}
    of_index = Counter(index for index, _ in entries)
    of_color = Counter(color for _, color in entries if color not in repeated)
    return any(count > 1 for count in (*of_index.values(), *of_color.values()))


def _some_only_ids(found: Sequence[tuple[str, StoredMask, Mapping[str, np.ndarray]]]) -> bool:
    return any(mask.kind == PALETTE and tuple(of_mask) == (IDS,) for _, mask, of_mask in found)


def _by_evidence(ways: tuple[str, ...], masks: Sequence[StoredMask], orderly: bool) -> tuple[str, ...]:
    if COLORS in ways and len(_colors_of(masks)) >= _MANY_COLORS:
        return (COLORS,)
    without = tuple(way for way in ways if way != IDS)
    if IDS in ways and without and not orderly:
        return without
    return ways


def _colors_of(masks: Sequence[StoredMask]) -> set[tuple[int, ...]]:
    """The colors that occur and are not gray."""
    colors = {tuple(color) for mask in masks for color in mask.colors.tolist()}
    return {color for color in colors if len(set(color)) > 1}


def _ambiguous(
    split: Sequence[tuple[str, StoredMask, Mapping[str, np.ndarray]]], looked_at: int, ways: tuple[str, ...]
) -> str:
    key, mask, _ = split[0]
    names = " or as ".join(way for way in ways if way != DEEP)
    count = f"{len(split)} of {looked_at} examined masks"
    return f"{count} can be read as {names}, such as {key}: {described(mask)}; {CURE}"


def _reordered_palettes() -> str:
    return (
        "the palettes of the masks differ in their order: the same index has different colors, so the indices are not "
        f"ids, and the label table has no colors for them. Add the colors to the table, or give {OPTION}=ids"
    )


def _mixture(masks: Sequence[StoredMask]) -> str:
    return (
        f"masks: a mixture ({_counts(masks)}); a mask that fits the table in exactly one way is read in that way, any "
        "other is rejected"
    )


def _notes(ways: tuple[str, ...], masks: Sequence[StoredMask]) -> tuple[str, ...]:
    kinds = {mask.kind for mask in masks}
    if (kinds == {GRAY} and IDS in ways) or (kinds == {RGB} and ways == (COLORS,)):
        return ()
    how = {
        IDS: "the stored numbers are the ids",
        LEVELS: "the gray levels, as shown, are the ids",
        DEEP: "the 16-bit gray levels are the ids",
    }
    text = "the colors are those of the table" if COLORS in ways else how[ways[0]]
    return (f"masks: {_counts(masks)}: {text}; to read them in another way, give {OPTION}",)


def _counts(masks: Sequence[StoredMask]) -> str:
    count = Counter(mask.kind for mask in masks)
    return ", ".join(f"{count[kind]} {KINDS[kind]}" for kind in KINDS if count[kind])
