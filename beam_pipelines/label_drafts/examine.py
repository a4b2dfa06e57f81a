"""One mask file -> what it holds, and what of it a label table does not take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import IGNORE, UNKNOWN, LabelTable
from beam_pipelines.contract.picture_errors import PictureError
from beam_pipelines.contract.picture_rules import STRICT, Rules
from beam_pipelines.contract.pictures import open_header
from beam_pipelines.label_drafts.contents import (
    GRAY_8,
    GRAY_16,
    PALETTE,
    RGB,
    SHALLOW,
    Contents,
    Group,
    Values,
    coarse_code,
    color_code,
    entry_code,
)
from beam_pipelines.label_drafts.tallies import EMPTY, Tally, bounded, tally_of
from beam_pipelines.pixels import stored_masks
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.pixels.masks import ids_of_values
from beam_pipelines.pixels.polygons import draw, is_document, names_in, train_ids_of
from beam_pipelines.pixels.stored_masks import StoredMask, open_mask, stored_mask
from beam_pipelines.rejects import BadInputError, meaning_of

REGIONS = "annotations of regions"
MAIN_PART = 256  # a color that fills so small a part of a mask is no mixture at the edge of two others
_ALPHA = (4, 6)  # color types of a PNG
_INTERLACED = 28  # the place in a PNG's header


@dataclass(frozen=True)
class Check:
    """The label table that the masks should fit, and how they are read."""

    table: LabelTable
    reading: MaskReading


def examine(
    data: bytes,
    index: int,
    max_pixels: int,
    check: Check | None = None,
    size: tuple[int, int] | None = None,
    rules: Rules = STRICT,
) -> Contents:
    """The contents of the mask file `data`, the `index`-th of the input; `size`: height and width of its image."""
    if is_document(data):
        return _regions(data, index, check, size)
    try:
        image, pixels, orientation = open_mask(data, max_pixels, rules)
        stored = stored_mask(data, image, pixels, orientation)
    except BadInputError as error:
        return unreadable(_other_kind(data, error.reason, max_pixels), error.reason, index)
    values = {_storage(stored, data): _values(stored, index)}
    found = Contents({_kind(stored, data, image): Group(1, (index,))}, values, _repeated(stored, index))
    if check is not None:
        found += _checked(stored, data[24], index, check)
    return found if size in (None, stored.samples.shape) else found + _problem("size_mismatch", index)


def unreadable(kind: str, reason: str, index: int) -> Contents:
    """A file of which nothing is known but why it can't be read."""
    return _problem(reason, index) + Contents(kinds={kind: Group(1, (index,))})


def _regions(document: bytes, index: int, check: Check | None, size: tuple[int, int] | None) -> Contents:
    try:
        counts = Counter(names_in(document))
    except BadInputError as error:
        return unreadable(unreadable_kind(error.reason), error.reason, index)
    group = Group(1, (index,))
    found = Contents(kinds={REGIONS: group}, names=dict.fromkeys(counts, group), regions=dict(counts))
    problem = None if check is None else _problem_of_regions(document, [*counts], check.table, size)
    return found + _problem(problem, index) if problem else found


def _problem_of_regions(
    document: bytes, names: Sequence[str], table: LabelTable, size: tuple[int, int] | None
) -> str | None:
    """Why a build would reject the image; without its size only what the labels tell."""
    try:
        if size is None:
            train_ids_of(names, table)
            return None
        return "all_ignore" if (draw(document, table, size) == IGNORE).all() else None
    except BadInputError as error:
        return error.reason


def unreadable_kind(reason: str) -> str:
    """The kind of a file that can't be read for this reason."""
    return f"unreadable: {meaning_of(reason)}"


def _other_kind(data: bytes, reason: str, max_pixels: int) -> str:
    try:
        other = open_header(data, max_pixels).format
    except PictureError:
        return unreadable_kind(reason)
    return unreadable_kind(reason) if other == "PNG" else f"{other} file"


def _storage(stored: StoredMask, data: bytes) -> str:
    if stored.kind == stored_masks.GRAY:
        return GRAY_16 if data[24] == 16 else GRAY_8
    if stored.kind == stored_masks.SHALLOW:
        return SHALLOW[data[24]]
    return PALETTE if stored.kind == stored_masks.PALETTE else RGB


def _kind(stored: StoredMask, data: bytes, image: Image.Image) -> str:
    marks = [_storage(stored, data)]
    marks += ["alpha channel"] if data[25] in _ALPHA else []
    marks += ["transparent color"] if "transparency" in image.info else []
    marks += ["interlaced"] if data[_INTERLACED] else []
    return ", ".join(marks)


def _values(stored: StoredMask, index: int) -> Values:
    pixels = int(stored.counts.sum())
    if stored.kind in (stored_masks.GRAY, stored_masks.SHALLOW):
        return Values(1, pixels, tally_of(stored.numbers, stored.counts, index))
    codes = color_code(stored.colors)
    colors = tally_of(codes, stored.counts, index)
    exact = colors
    if stored.kind == stored_masks.PALETTE:
        exact = tally_of(entry_code(stored.numbers, codes), stored.counts, index)
    main = colors.of(colors.pixels * MAIN_PART >= pixels)
    coarse = tally_of(coarse_code(codes), stored.counts, index)
    return Values(1, pixels, bounded(exact), bounded(colors), main, coarse)


def _repeated(stored: StoredMask, index: int) -> Tally:
    if stored.kind != stored_masks.PALETTE:
        return EMPTY
    codes, times = np.unique(color_code(stored.colors), return_counts=True)
    return tally_of(codes[times > 1], times[times > 1], index)


def _problem(reason: str, index: int) -> Contents:
    return Contents(problems={reason: Group(1, (index,))})


def _checked(stored: StoredMask, bits: int, index: int, check: Check) -> Contents:
    """The ids of the mask by the label table, and what is wrong with them."""
    try:
        ids = ids_of_values(stored, bits, check.table, check.reading)
    except BadInputError as error:
        if error.reason != "unknown_colors":
            return _problem(error.reason, index)
        if stored.kind in (stored_masks.PALETTE, stored_masks.RGB):
            return _problem(error.reason, index) + Contents(strange=bounded(_strange(stored, check.table, index)))
        ids = stored.numbers  # of a gray mask nobody would call them colors
    train_ids = check.table.train_id_of[ids]
    problem = "unknown_ids" if (train_ids == UNKNOWN).any() else "all_ignore" if (train_ids == IGNORE).all() else None
    counted = Contents(ids=tally_of(ids, stored.counts, index))
    return counted + _problem(problem, index) if problem else counted


def _strange(stored: StoredMask, table: LabelTable, index: int) -> Tally:
    known = color_code(np.array([*table.source_id_of_color], np.int64).reshape(-1, 3))
    codes = color_code(stored.colors)
    unknown = ~np.isin(codes, known)
    return tally_of(codes[unknown], stored.counts[unknown], index)
