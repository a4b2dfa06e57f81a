"""Converts a decoded pair to the size and the train ids of the data set: one geometry, two interpolations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import IGNORE, MAX_SOURCE_ID, UNKNOWN, LabelTable
from beam_pipelines.contract.picture_rules import REJECT
from beam_pipelines.pixels.filters import FILTERS
from beam_pipelines.pixels.fingerprint import Fingerprint
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import BadInputError

ASPECT_TOLERANCE = 0.01  # aspect ratios that differ by less count as the same: the image is stretched
_ON_ITS_SIDE = {  # --orient -> what to do where one of the files lies on its side
    "apply": "if the mask has an EXIF orientation and was drawn upright, give --orient=image; if it has none and was "
    "drawn on its side, turn it",
    "image": "if the mask has an EXIF orientation and was drawn on its side, give --orient=apply; if it has none, turn "
    "it",
}


@dataclass(frozen=True)
class Sample:
    """A pair as it is written: `image` uint8[H, W, 3] RGB, `mask` uint8[H, W] of train ids. For `minus_ones` see
    `count_minus_ones`; `repairs` are those of `DecodedMask`. `source_size` (height, width) and `fingerprint` are of the
    image as decoded.
    """

    filename: str
    image: np.ndarray
    mask: np.ndarray
    minus_ones: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    source_size: tuple[int, int] = (0, 0)
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True)
class Geometry:
    """The geometry of a pair: crop it to `box` (left, top, right, bottom), resize that to `inner` (height, width), and
    pad it on all sides to `size` (height, width).
    """

    box: tuple[int, int, int, int]
    inner: tuple[int, int]
    size: tuple[int, int]

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """((above, below), (left, right))."""
        above, left = ((outer - inner) // 2 for outer, inner in zip(self.size, self.inner, strict=True))
        return (above, self.size[0] - self.inner[0] - above), (left, self.size[1] - self.inner[1] - left)


def conform(
    filename: str, image: np.ndarray, ids: np.ndarray, recipe: Recipe, table: LabelTable | None = None
) -> Sample:
    """`table` is that of the ids, by default the recipe's.

    Raises:
      BadInputError: of stage `conform`: wrong sizes, unknown ids, or only ignored pixels.
    """
    table = table or recipe.labels
    check_sizes(image.shape[:2], ids.shape, recipe.orient)
    check_ids(ids, table)
    geometry = fit(ids.shape, recipe.image_size, recipe.aspect)
    mask = conform_mask(ids, table, geometry)
    if mask.min() == IGNORE:
        raise _bad("all_ignore", "every pixel of the mask is ignored")
    return Sample(filename, conform_image(image, geometry, recipe.resize), mask, count_minus_ones(ids, table))


def check_sizes(image: tuple[int, ...], mask: tuple[int, ...], orient: str = REJECT) -> None:
    """Raises BadInputError if an image and its mask differ in (height, width)."""
    if image != mask:
        raise _bad("size_mismatch", _mismatch(image, mask, orient))


def fit(source: tuple[int, int], target: tuple[int, int] | None, aspect: str) -> Geometry:
    """The geometry from a (height, width) to another; None is native. Raises BadInputError with aspect `reject`."""
    height, width = source
    whole = (0, 0, width, height)
    if target is None:
        return Geometry(whole, source, source)
    ratio = (width * target[0]) / (height * target[1])  # above 1: the image is wider than the target
    if aspect == "stretch" or abs(ratio - 1) <= ASPECT_TOLERANCE:
        return Geometry(whole, target, target)
    if aspect == "reject":
        raise _bad(
            "aspect", f"{_size(source)} (height x width) has another aspect ratio than {_size(target)}: give --aspect"
        )
    if aspect == "pad":
        inner = (target[0], round(target[1] * ratio)) if ratio < 1 else (round(target[0] / ratio), target[1])
        return Geometry(whole, (max(1, inner[0]), max(1, inner[1])), target)
    kept = (height, max(1, round(width / ratio))) if ratio > 1 else (max(1, round(height * ratio)), width)
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    return Geometry((left, top, left + kept[1], top + kept[0]), target, target)


def conform_image(image: np.ndarray, geometry: Geometry, resize: str) -> np.ndarray:
    """uint8[H, W, 3] -> uint8[h, w, 3]; the padding repeats the edge, so that it does not shift the moments much."""
    if image.shape[:2] == geometry.inner == geometry.size:
        return image
    inner = _resize_image(image, geometry, resize)
    return inner if geometry.inner == geometry.size else np.pad(inner, (*geometry.padding, (0, 0)), mode="edge")


def conform_mask(ids: np.ndarray, table: LabelTable, geometry: Geometry) -> np.ndarray:
    """Ids, uint8[H, W] or uint16[H, W] -> uint8[h, w] of train ids, each taken from the source pixel that contains its
    center.
    """
    left, top, right, bottom = geometry.box
    rows = top + _nearest(bottom - top, geometry.inner[0])
    columns = left + _nearest(right - left, geometry.inner[1])
    mask = table.train_id_of[ids.take(rows, axis=0).take(columns, axis=1)].astype(np.uint8)
    return mask if geometry.inner == geometry.size else np.pad(mask, geometry.padding, constant_values=IGNORE)


def count_minus_ones(ids: np.ndarray, table: LabelTable) -> int:
    """Pixels of 65535, -1 in 16 bits, that are ignored only by `ignore: rest`, as the table does not name the id."""
    if ids.dtype == np.uint8 or not table.ignore_rest or table.names(MAX_SOURCE_ID):
        return 0
    return int(np.count_nonzero(ids == MAX_SOURCE_ID))


def check_ids(ids: np.ndarray, table: LabelTable) -> None:
    """Raises BadInputError, with the ids, if `ids` (uint8 or uint16) has ids that the table does not name."""
    if ids.dtype != np.uint8:
        present = ids[table.train_id_of[ids] == UNKNOWN]
    elif _are_in_first_run(ids, table):
        return
    else:
        present = np.frombuffer(ids.tobytes().translate(None, _known_bytes(table)), np.uint8)
    if present.size:
        unknown, counts = np.unique(present, return_counts=True)
        shown = ", ".join(f"{value} ({count:,} px)" for value, count in list(zip(unknown, counts, strict=True))[:20])
        after = f" after `shift: {table.shift}`" if table.shift else ""
        cure = _cure(unknown, table)
        raise _bad("unknown_ids", f"{unknown.size} ids are not in table {table.name}{after}: {shown}{cure}")


def _cure(unknown: np.ndarray, table: LabelTable) -> str:
    """What ids like these usually mean."""
    if MAX_SOURCE_ID in unknown:
        return f"; {MAX_SOURCE_ID} is -1 in 16 bits: list it under `ignore`"
    if unknown.tolist() == [max(table.source_ids, default=0) + 1] and not table.shift:
        return "; if the ids count from 1, give the label table `shift: -1`"
    if unknown.max() == IGNORE and table.source_ids == {0, 1}:
        return "; if 255, or all above 127, means 1, give the label table `threshold: 128`"
    return ""


def _resize_image(image: np.ndarray, geometry: Geometry, resize: str) -> np.ndarray:
    left, top, right, bottom = geometry.box
    height, width = geometry.inner
    down, left_over_rows = divmod(bottom - top, height)
    across, left_over_columns = divmod(right - left, width)
    if resize == "area" and not left_over_rows and not left_over_columns:
        return _mean_of_blocks(image[top:bottom, left:right], down, across)
    enlarges = not down or not across
    # A box filter does not interpolate: enlarging with it would only repeat pixels.
    name = FILTERS["bilinear" if resize == "area" and enlarges else resize].pillow
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[name], geometry.box))


def _mean_of_blocks(image: np.ndarray, down: int, across: int) -> np.ndarray:
    """The exact mean of each `down` x `across` pixels, rounded once, half up."""
    count = down * across
    if count & (count - 1) == 0:  # Pillow multiplies by a rounded 1 / count: exact for powers of two, and fast
        return np.asarray(Image.fromarray(image).reduce((across, down)))
    total = np.zeros((image.shape[0] // down, image.shape[1] // across, 3), np.uint64)
    for row in range(down):
        for column in range(across):
            total += image[row::down, column::across]
    return ((2 * total + np.uint64(count)) // np.uint64(2 * count)).astype(np.uint8)


def _nearest(source: int, target: int) -> np.ndarray:
    """The index of the source pixel that contains the center of each target pixel; exact, in integers."""
    return (2 * np.arange(target) + 1) * source // (2 * target)


def _are_in_first_run(ids: np.ndarray, table: LabelTable) -> bool:
    """Whether all ids, uint8, are known by what is cheap to find, the largest: most tables name 0 to n, and maybe 255,
    after which 0 follows.
    """
    known = table.train_id_of[:256] != UNKNOWN
    first = np.uint8(known[IGNORE])
    run = 256 if known.all() else int(np.argmin(np.roll(known, first)))
    return bool((ids + first if first else ids).max(initial=0) < run)


def _known_bytes(table: LabelTable) -> bytes:
    return np.flatnonzero(table.train_id_of[:256] != UNKNOWN).astype(np.uint8).tobytes()


def _mismatch(image: tuple[int, ...], mask: tuple[int, ...], orient: str) -> str:
    detail = f"the image is {_size(image)} and the mask {_size(mask)} (height x width)"
    if image != mask[::-1] or orient not in _ON_ITS_SIDE:
        return detail
    return f"{detail}: one of them lies on its side; {_ON_ITS_SIDE[orient]}"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _bad(reason: str, detail: str) -> BadInputError:
    return BadInputError("conform", reason, detail)
