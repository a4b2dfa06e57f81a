"""Mask files -> ids, by the one way to read them that fits the data set; what can be read in two ways is refused.

The same ids can be stored in many ways: lossless optimizers and image editors turn RGB into a palette in any order, a
grey mask of 0 and 255 into one bit, and ids into RGB. So a mask is read by one of these ways:

  ids     the numbers in the file are the ids: grey samples and palette indices as they are stored
  levels  the grey levels that a viewer shows are the ids: 1, 2 and 4 bits are stretched to 8, palettes looked up
  colors  the colors that a viewer shows are those of the label table

A survey of the first masks in the plan's order (`survey.py`) decides which ways fit the data set; every worker then
reads each mask by all that do, and takes it if they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import UNKNOWN, LabelTable
from beam_pipelines.contract.pictures import is_turned, load, opaque, open_header, png_pixels
from beam_pipelines.pixels.decode import bad, refused_at_decode

IDS, LEVELS, COLORS = "ids", "levels", "colors"
DEEP = "deep"  # like levels, of 16 bits: a mask of 0 and 65535 is stored in as little as 1 bit
GREY, SHALLOW, PALETTE, RGB = "grey", "shallow grey", "palette", "RGB"
KINDS = {
    GREY: "grey of 8 or 16 bits",
    SHALLOW: "grey of 1, 2 or 4 bits",
    PALETTE: "palette",
    RGB: "RGB",
}
OPTION = "--masks_are"
CURE = f"say what the masks are: {OPTION}=ids (numbers as stored), levels (grey levels as shown) or colors"
_PNG_GREY = 0  # a color type; bit depth and color type are the bytes 24 and 25 of a PNG
_MANY_ELSEWHERE = 2  # colors of the table at other indices: one can be by chance, as in the palette of Pascal VOC
_NONE = -1  # in `StoredMask`: a sample that has no such number
_RGB_CODE = np.array([1 << 16, 1 << 8, 1], np.uint32)


@dataclass(frozen=True)
class MaskReading:
    """How the masks of a data set are read: by all of `ways`, which must agree. Kinds of storage that the survey did
    not see (`kinds` names those it saw) are read by every way. `palette` has (index, red, green, blue) as seen by the
    survey, where indices are ids: a mask with one of these colors at another index was re-stored.
    """

    ways: tuple[str, ...]
    kinds: tuple[str, ...]
    palette: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it is that of a data set of which all masks are grey, of 8 or 16 bits, and hold ids."""
        return self.kinds == (GREY,) and COLORS not in self.ways and DEEP not in self.ways and IDS in self.ways

    @property
    def is_given(self) -> bool:
        """Whether the user said what the masks are."""
        return len(self.ways) == 1 and self.kinds == tuple(KINDS) and not self.palette

    def ways_of(self, kind: str, table: LabelTable) -> tuple[str, ...]:
        """Colors are what every lossless storage keeps; all else is certain only for the kinds that were seen."""
        known = all_ways(table)
        if kind in self.kinds or self.ways == (COLORS,):
            return tuple(way for way in self.ways if way in known)
        return known


def reading_of(masks_are: str) -> MaskReading:
    """What --masks_are says, if it is not `auto`."""
    return MaskReading((LEVELS, DEEP) if masks_are == LEVELS else (masks_are,), tuple(KINDS))


PLAIN = MaskReading((IDS, LEVELS), (GREY,))


def all_ways(table: LabelTable) -> tuple[str, ...]:
    """Every way; `DEEP` only with a table that has such ids."""
    return (IDS, LEVELS, COLORS, DEEP) if _has_deep_ids(table) else (IDS, LEVELS, COLORS)


def _has_deep_ids(table: LabelTable) -> bool:
    return any(source_id > 255 and source_id % 257 == 0 for row in table.labels for source_id in row.source_ids)


@dataclass(frozen=True)
class StoredMask:
    """A mask as its file has it: `samples` [H, W], and the n `values` that occur there. For each of these: the stored
    number and the grey level of 8 and of 16 bits, int64[n] (-1: it has none), and the color of 8 bits, int64[n, 3]
    (-1: it has none, or is not opaque). `counts`, int64[n], are the pixels of each, or None if they were not counted.
    """

    kind: str
    samples: np.ndarray
    values: np.ndarray
    numbers: np.ndarray
    levels: np.ndarray
    deep: np.ndarray
    colors: np.ndarray
    counts: np.ndarray | None = None

    def without_pixels(self) -> StoredMask:
        """The mask with its pixels counted, but not kept."""
        if self.kind == RGB:
            counts = np.unique(self.samples, return_counts=True)[1]
        else:
            counts = np.bincount(self.samples.reshape(-1))[self.values]
        return replace(self, samples=self.samples[:0], counts=counts)


def decode_mask(data: bytes, table: LabelTable, max_pixels: int, reading: MaskReading) -> np.ndarray:
    """-> ids, uint8[H, W] or uint16[H, W], read as `reading` says. An RGB color gives the first source id of its row.

    Ids that the table does not name are returned as well, where no way to read the mask fits the table.

    Raises:
      BadInputError: of stage `decode`; `ambiguous_mask` and `contradictory_mask` name the option that decides.
    """
    image, pixels = open_mask(data, max_pixels)
    if pixels is not None and _are_ids(data[24], reading):
        _check_depth(pixels, table)
        return pixels
    stored = stored_mask(data, image, pixels)
    return spread(_agreed(stored, table, reading), stored)


def _are_ids(bits: int, reading: MaskReading) -> bool:
    """Whether the samples of a grey mask are its ids, whatever they are: as in most data sets."""
    if GREY not in reading.kinds or not {*reading.ways} <= {IDS, LEVELS}:
        return False
    return bits == 8 or (bits == 16 and reading.ways == (IDS,))


def _check_depth(pixels: np.ndarray, table: LabelTable) -> None:
    """Raises BadInputError where 16 bits hold ids of 8 bits times 257, which `ignore: rest` would ignore in silence."""
    if pixels.dtype == np.uint8 or not table.ignore_rest:
        return
    values = _occurring(pixels)
    foreign = [int(value) for value in values if not table.names(int(value))]
    if foreign and not (values % 257).any() and all(table.names(int(value) // 257) for value in values):
        raise bad(
            "ambiguous_mask",
            f"16 bits with the values {', '.join(map(str, values[:8]))}: ids of 8 bits that were converted to 16? "
            f"`ignore: rest` ignores {foreign[0]}; {CURE}, or store this mask like the others",
        )


def spread(of_values: np.ndarray, stored: StoredMask) -> np.ndarray:
    """What is known of each of the mask's values -> the same for each pixel, [H, W]."""
    if stored.kind == RGB:
        return np.asarray(of_values[np.searchsorted(stored.values, stored.samples)])
    table = np.zeros(int(stored.values[-1]) + 1, of_values.dtype)
    table[stored.values] = of_values
    return np.asarray(table[stored.samples])


@refused_at_decode()
def open_mask(data: bytes, max_pixels: int) -> tuple[Image.Image, np.ndarray | None]:
    """-> the header, and the pixels of a grey mask without alpha: samples as stored, or stretched below 8 bits."""
    header = open_header(data, max_pixels)
    if header.format != "PNG":
        raise bad("mask_format", f"the mask is a {header.format} file: only PNG keeps ids exactly")
    if is_turned(header, data):
        raise bad("rotated", "the EXIF orientation of the mask is not 1: turn the mask upright (and check its image)")
    if data[25] != _PNG_GREY:
        return header, None
    pixels = png_pixels(data)
    # An id that is marked as transparent (tRNS) gives a second channel: it is an id all the same.
    return header, pixels[..., 0] if pixels.ndim == 3 else pixels


@refused_at_decode()
def stored_mask(data: bytes, image: Image.Image, pixels: np.ndarray | None) -> StoredMask:
    """What the file holds, whatever it may mean."""
    bits = data[24]
    if pixels is not None:
        return _grey(pixels, bits)
    load(image, data)
    if image.mode == "P":
        return _palette(image)
    if image.mode == "LA" and bits == 8:
        return _grey(opaque(image)[..., 0], bits)
    if image.mode in ("RGB", "RGBA") and bits == 8:
        return _rgb(opaque(image))
    raise bad("mask_format", f"the mask has mode {image.mode} with {bits} bits: ids or colors were expected")


def ids_by(way: str, stored: StoredMask) -> np.ndarray | None:
    """int64[n]: the id of each value by `IDS`, `LEVELS` or `DEEP`; None where the mask can't be read that way."""
    ids = {IDS: stored.numbers, LEVELS: stored.levels, DEEP: stored.deep}[way]
    return None if (ids == _NONE).any() else ids


def named_ids(way: str, stored: StoredMask, table: LabelTable) -> np.ndarray | None:
    """The same for every way; None also where the table does not name an id or a color."""
    if way == COLORS:
        ids = np.array([table.source_id_of_color.get(tuple(color), _NONE) for color in stored.colors.tolist()])
        return None if (ids == _NONE).any() else ids
    found = ids_by(way, stored)
    return None if found is None or (table.train_id_of[found] == UNKNOWN).any() else found


def readings(stored: StoredMask, table: LabelTable, ways: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Way -> the id of each value, of the ways that fit the mask and the table."""
    found = {way: named_ids(way, stored, table) for way in ways}
    return {way: ids for way, ids in found.items() if ids is not None}


def contradiction(stored: StoredMask, table: LabelTable, alone: bool = True) -> str | None:
    """Why the indices of a palette can't be ids; None where nothing speaks against it.

    alone: nothing else is known of the palette, as its entries in other masks.
    """
    if stored.kind != PALETTE:
        return None
    if (stored.colors[:, 0] == _NONE).any():
        return "an entry that is used is not opaque"
    of_index, of_color = table.train_id_of[stored.numbers], _train_ids_of_colors(stored, table)
    is_gray, is_known = _are_gray(stored.colors), of_color != UNKNOWN
    elsewhere = int((~is_gray & is_known & (of_color != of_index)).sum())
    for_ids = (~is_gray & ((of_color == of_index) | ~is_known)).any()
    if elsewhere >= _MANY_ELSEWHERE or (elsewhere and alone and not for_ids):
        return f"{elsewhere} colors of table {table.name} stand at other indices than their ids"
    if is_gray.all() and (np.diff(stored.colors[:, 0]) <= 0).any() and (of_color != of_index).any():
        return "its gray levels do not rise with their indices"
    return None


def _train_ids_of_colors(stored: StoredMask, table: LabelTable) -> np.ndarray:
    """int16[n]: by the colors of the table; UNKNOWN where it has no such color."""
    ids = [table.source_id_of_color.get(tuple(color)) for color in stored.colors.tolist()]
    return np.array([UNKNOWN if source_id is None else table.train_id_of[source_id] for source_id in ids], np.int16)


def credible(stored: StoredMask, table: LabelTable, ways: tuple[str, ...], alone: bool = True) -> dict[str, np.ndarray]:
    """`readings`, without indices of a palette that can't be ids."""
    found = readings(stored, table, ways)
    if IDS in found and contradiction(stored, table, alone):
        del found[IDS]
    return found


def together(masks: Sequence[StoredMask]) -> StoredMask:
    """One mask, without pixels, with all entries of the palettes of `masks`."""
    entries = sorted({entry for mask in masks for entry in zip(*map(np.ndarray.tolist, _entries(mask)), strict=True)})
    numbers, levels, *colors = (np.array(column, np.int64) for column in zip(*entries, strict=True))
    none = np.empty(0, np.int64)
    return StoredMask(PALETTE, none, numbers, numbers, levels, _deepened(levels), np.stack(colors, axis=-1))


def _entries(mask: StoredMask) -> tuple[np.ndarray, ...]:
    return mask.numbers, mask.levels, *mask.colors.T


def agree(found: Mapping[str, np.ndarray], table: LabelTable) -> bool:
    """Whether all give the same train ids."""
    return len({table.train_id_of[ids].tobytes() for ids in found.values()}) < 2


def _agreed(stored: StoredMask, table: LabelTable, reading: MaskReading) -> np.ndarray:
    ways = reading.ways_of(stored.kind, table)
    alone = not reading.palette
    found = readings(stored, table, ways) if reading.is_given else credible(stored, table, ways, alone)
    if not found and IDS in ways and not reading.is_given and (why := contradiction(stored, table, alone)):
        raise bad("contradictory_mask", f"{described(stored)}, but {why}: its indices are no ids; {CURE}")
    if not found:
        return _unnamed(stored, table, reading)
    if not agree(found, table):
        raise bad("ambiguous_mask", f"{described(stored)} can be read as {' or as '.join(found)}; {CURE}")
    if stored.kind == PALETTE and tuple(found) == (IDS,):
        _check_palette(stored, reading)
    ids = next(iter(found.values()))
    return ids.astype(np.uint16 if ids.max(initial=0) > 255 else np.uint8)


def _unnamed(stored: StoredMask, table: LabelTable, reading: MaskReading) -> np.ndarray:
    """No way fits: the ids as they are, for `check_ids` to name them. Raises BadInputError where there are none."""
    other = readings(stored, table, all_ways(table))
    if other:
        raise bad(
            "contradictory_mask",
            f"{described(stored)} fits table {table.name} as {' or as '.join(other)}, and the masks of this data set "
            f"are read as {' and '.join(reading.ways)}; {CURE}, or store this mask like the others",
        )
    usual = next((ids for way in (IDS, LEVELS) if (ids := ids_by(way, stored)) is not None), None)
    if COLORS not in reading.ways and usual is not None and stored.kind != RGB:
        return usual.astype(np.uint16 if usual.max(initial=0) > 255 else np.uint8)
    colors = [tuple(color) for color in stored.colors.tolist()]
    if stored.kind == PALETTE and any(color[0] == _NONE for color in colors):
        raise bad("transparent", "a color of the palette that is used is not opaque, or is missing")
    unknown = [color for color in colors if color not in table.source_id_of_color]
    if not unknown or unknown[0][0] == _NONE:
        raise bad("unknown_colors", f"{described(stored)} has no color of table {table.name}")
    shown = ", ".join(map(str, unknown[:20]))
    raise bad("unknown_colors", f"{len(unknown)} colors are not in table {table.name}: {shown}")


def _check_palette(stored: StoredMask, reading: MaskReading) -> None:
    """Raises BadInputError where nothing speaks for it that the indices of a palette are ids."""
    if PALETTE not in reading.kinds:
        raise bad(
            "contradictory_mask",
            f"{described(stored)}, and none of the masks looked at was: nothing says whether its indices are ids or in "
            f"an order that a tool made up; store this mask like the others, or give {OPTION}=ids if they are",
        )
    at_index = {index: tuple(rgb) for index, *rgb in reading.palette}
    of_color: dict[tuple[int, ...], set[int]] = {}
    for index, color in at_index.items():
        of_color.setdefault(color, set()).add(index)
    for index, color in palette_of(stored):
        if at_index.get(index, color) != color or index not in of_color.get(color, {index}):
            raise bad(
                "contradictory_mask",
                f"index {index} of the palette has the color {color}, which other masks have elsewhere or otherwise: "
                f"the palette's order was changed when the mask was stored again, so its indices are no ids. Store "
                f"it as before, or give {OPTION}=ids if they are",
            )


def palette_of(stored: StoredMask) -> list[tuple[int, tuple[int, ...]]]:
    """(index, RGB) of the entries that are used."""
    return list(zip(stored.numbers.tolist(), map(tuple, stored.colors.tolist()), strict=True))


def described(stored: StoredMask) -> str:
    """The mask in a few words: its kind and its values."""
    numbers = stored.numbers if stored.kind != RGB else stored.levels
    shown = ", ".join(map(str, numbers[:8].tolist())) + (", ..." if numbers.size > 8 else "")
    return f"a mask stored as {KINDS[stored.kind]}" + ("" if (numbers == _NONE).any() else f" with the values {shown}")


def _grey(pixels: np.ndarray, bits: int) -> StoredMask:
    values = _occurring(pixels)
    shown = values.astype(np.int64)
    if bits < 8:  # decoders stretch 1, 2 and 4 bits to 0..255; the division gives back what was stored
        numbers, levels, deep = shown // (255 // (2**bits - 1)), shown, shown * 257
    elif bits == 8:
        numbers, levels, deep = shown, shown, shown * 257
    else:
        numbers, deep = shown, shown
        levels = shown // 257 if not (shown % 257).any() else np.full_like(shown, _NONE)
    colors = np.repeat(levels[:, None], 3, axis=1)
    return StoredMask(SHALLOW if bits < 8 else GREY, pixels, values, numbers, levels, deep, colors)


def _palette(image: Image.Image) -> StoredMask:
    pixels = np.asarray(image)
    values = _occurring(pixels)
    entries = np.full((256, 3), _NONE, np.int64)
    listed = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)[:256]
    entries[: len(listed)] = listed
    numbers, colors = values.astype(np.int64), entries[values]
    opaque_colors = np.where(_opaque_entries(image)[values][:, None], colors, _NONE)
    levels = np.where(_are_gray(opaque_colors), opaque_colors[:, 0], _NONE)
    return StoredMask(PALETTE, pixels, values, numbers, levels, _deepened(levels), opaque_colors)


def _opaque_entries(image: Image.Image) -> np.ndarray:
    """bool[256]: whether a palette's entry is opaque (its tRNS chunk: alpha by index, or one transparent index)."""
    marked, opaque = image.info.get("transparency"), np.ones(256, bool)
    if isinstance(marked, bytes):
        opaque[: len(marked)] = np.frombuffer(marked, np.uint8)[:256] == 255
    elif marked is not None:
        opaque[marked] = False
    return opaque


def _are_gray(colors: np.ndarray) -> np.ndarray:
    """bool[n], of int64[n, 3]."""
    return np.asarray((colors == colors[:, :1]).all(axis=1))


def _rgb(pixels: np.ndarray) -> StoredMask:
    codes = pixels.astype(np.uint32) @ _RGB_CODE
    values = np.unique(codes)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1).astype(np.int64)
    levels = np.where(_are_gray(colors), colors[:, 0], _NONE)
    return StoredMask(RGB, codes, values, levels, levels, _deepened(levels), colors)


def _occurring(pixels: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.bincount(pixels.reshape(-1)))


def _deepened(levels: np.ndarray) -> np.ndarray:
    return np.where(levels == _NONE, _NONE, levels * 257)
