"""Which built-in tables the ids or colors of masks are those of, and what else they look like, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, UNKNOWN, LabelTable
from beam_pipelines.label_drafts.colors import apart, are_blurred, main_colors
from beam_pipelines.label_drafts.contents import GRAY_STEP, color_code, rgb_of
from beam_pipelines.label_drafts.meanings import Meaning
from beam_pipelines.pixels import table_fit
from beam_pipelines.pixels.mask_readings import COLORS

BINARY = ({0, 1}, {0, IGNORE})
SOFT_SHARE = 0.8  # of the pixels of a smoothed binary mask are 0 or 255
_LEAST_BETWEEN = 3  # other levels below and above the middle
MIDDLE = 128
_MANY_IDS = 4
_LEAST_SHIFTED = 7  # ids that are all off by one; of a few anything is said
_MOST_SEEN = 0.8  # of a table's ids: that many are no coincidence
_TRACE = 8  # JPEG moves the color of an area by less
_LEAST_COLORS = 3  # of a table, not gray
_NEAR_SHARE = 0.9  # of the pixels of main colors
_MAX_LABEL = 1000  # instance ids of Cityscapes are 1000 x label id + number


@dataclass(frozen=True)
class Fit:
    """What was found: the built-in tables that the masks fit as they are, and all that is to be said."""

    tables: tuple[str, ...]
    sentences: tuple[str, ...]

    def ignores(self, source_id: int) -> str | None:
        """The table that fits, if all that do ignore this id."""
        tables = [BUILTIN_TABLES[name]() for name in self.tables]
        ignored = tables and all(table.train_id_of[source_id] == IGNORE for table in tables)
        return tables[0].name if ignored else None

    def name_of(self, source_id: int) -> str | None:
        """The name that the first table which fits has for an id."""
        for table in (BUILTIN_TABLES[name]() for name in self.tables):
            return next((row.name for row in table.labels if source_id in row.source_ids), None)
        return None


def fit_of(meaning: Meaning) -> Fit:
    """Compares the values with all built-in tables."""
    if meaning.way == COLORS:
        return _fit_of_colors(meaning)
    values = meaning.values
    pixels = {} if values is None else dict(zip(values.values.tolist(), values.pixels.tolist(), strict=True))
    if set(pixels) in BINARY:
        return Fit((), (f"0 and {max(pixels)}: a binary mask",))
    if is_soft_binary(meaning):
        levels = f"{len(pixels):,} levels, most pixels 0 or 255"
        return Fit((), (f"{levels}: a binary mask with soft edges, for `threshold: {MIDDLE}` in a label file",))
    return _fit_of_ids(pixels, meaning)


def is_soft_binary(meaning: Meaning) -> bool:
    """Whether the levels are those of a binary mask that was smoothed, resized, or saved as JPEG."""
    values = meaning.values
    if meaning.way == COLORS or values is None or values.values.max(initial=0) > IGNORE:
        return False
    ends = np.isin(values.values, [0, IGNORE])
    between = values.values[~ends]
    both_sides = min((between < MIDDLE).sum(), (between >= MIDDLE).sum()) >= _LEAST_BETWEEN
    return bool(both_sides and ends.sum() == 2 and values.pixels[ends].sum() >= SOFT_SHARE * meaning.pixels)


def _fit_of_ids(pixels: Mapping[int, int], meaning: Meaning) -> Fit:
    tables = _tables_with_palette(meaning.color_of)
    if tables:
        return Fit(tables, (f"the ids have the palette of {_named(tables)}",))
    tables = tuple(table_fit.fitting_tables(pixels))
    if tables:
        return Fit(tables, (f"the ids look like those of {_named(tables)}",))
    return Fit((), tuple(_sentences_on_ids(pixels)))


def _sentences_on_ids(pixels: Mapping[int, int]) -> Iterator[str]:
    for shift in (-1, 1) if len(pixels) >= _LEAST_SHIFTED else ():
        moved = {source_id + shift: count for source_id, count in pixels.items() if source_id + shift >= 0}
        if IGNORE in pixels:  # marks ignored pixels in either case
            moved = {source_id: count for source_id, count in moved.items() if source_id != IGNORE + shift}
        if fitting := table_fit.fitting_tables(moved):
            side = "above" if shift < 0 else "below"
            names = " or ".join(fitting)
            yield f"ids that are all {side} those of {names} by 1: its rows in a label file with `shift: {shift}`"
            return
    if max(pixels, default=0) >= _MAX_LABEL:
        labels = {source_id // _MAX_LABEL if source_id >= _MAX_LABEL else source_id for source_id in pixels}
        if found := table_fit.tables_that_name(labels):
            yield (
                f"ids up to {max(pixels)} that are 1000 x id + number: ids of instances, as of {found[0]}; take the "
                "masks of classes"
            )
        return
    for table in (make() for make in BUILTIN_TABLES.values()):
        ids = {source_id for row in table.labels for source_id in row.source_ids}
        if len(pixels) > _MANY_IDS and set(pixels) <= ids and len(pixels) >= _MOST_SEEN * len(ids):
            yield f"{len(pixels)} of the {len(ids)} ids of --labels={table.name}, which alone proves little"


def _tables_with_palette(color_of: Mapping[int, int]) -> tuple[str, ...]:
    """The tables that have every color of the palettes at the same id. Ignored ids may be any gray, such as black."""
    if sum(code % GRAY_STEP > 0 for code in color_of.values()) < _LEAST_COLORS:
        return ()
    tables = [make() for make in BUILTIN_TABLES.values()]
    return tuple(table.name for table in tables if all(_has(table, *entry) for entry in color_of.items()))


def _has(table: LabelTable, index: int, code: int) -> bool:
    train_id, found = table.train_id_of[index], table.source_id_of_color.get(rgb_of(code))
    if found is None:
        return code % GRAY_STEP == 0 and train_id in (IGNORE, UNKNOWN)
    return bool(table.train_id_of[found] == train_id)


def _fit_of_colors(meaning: Meaning) -> Fit:
    blurred = are_blurred(meaning)
    found = main_colors(meaning) if blurred or meaning.values is None else meaning.values
    near = [(table, *_agreement(found.values, found.pixels, table)) for table in _colored_tables()]
    exact = tuple(table.name for table, equal, _ in near if equal == 1)
    if exact and not blurred:
        return Fit(exact, (f"the colors are those of {_named(exact)}",))
    if exact:
        return Fit((), (f"the main colors are those of {' or '.join(exact)}, and others lie between them",))
    alike = [table.name for table, _, close in near if close >= _NEAR_SHARE]
    if alike:
        return Fit((), (f"the colors are near but not equal to those of {' or '.join(alike)}, as JPEG leaves them",))
    return Fit((), ())


def _colored_tables() -> list[LabelTable]:
    return [make() for make in BUILTIN_TABLES.values()]


def _agreement(codes: np.ndarray, pixels: np.ndarray, table: LabelTable) -> tuple[float, float]:
    """The shares of the pixels in colors that are in the table, and in colors within `_TRACE` of one. Both are 0 if too
    few colors of the table are among them to tell.
    """
    known = color_code(np.array([*table.source_id_of_color], np.int64).reshape(-1, 3))
    if not known.size or not codes.size:
        return 0.0, 0.0
    distance = apart(codes, known)
    close = distance.min(axis=1) <= _TRACE
    hit = known[np.unique(distance.argmin(axis=1)[close])]
    if (hit % GRAY_STEP > 0).sum() < _LEAST_COLORS:
        return 0.0, 0.0
    equal = distance.min(axis=1) == 0
    return float(pixels[equal].sum() / pixels.sum()), float(pixels[close].sum() / pixels.sum())


def _named(tables: tuple[str, ...]) -> str:
    """The tables and the options that give them."""
    return f"{' or '.join(tables)}: give {' or '.join(f'--labels={name}' for name in tables)}"
