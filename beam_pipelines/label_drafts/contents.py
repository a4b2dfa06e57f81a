"""What the masks of an input hold, as a value with an exact `+`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from beam_pipelines.label_drafts.tallies import EMPTY, Tally, bounded

SHOWN_FILES = 3  # of each kind and of each problem
GRAY_8, GRAY_16, PALETTE, RGB = "gray, 8 bits", "gray, 16 bits", "palette", "RGB"
SHALLOW = {1: "gray, 1 bit", 2: "gray, 2 bits", 4: "gray, 4 bits"}
GRAY_STEP = 0x010101  # the color codes of grays are its multiples
STORAGES = (GRAY_8, GRAY_16, *SHALLOW.values(), PALETTE, RGB)


@dataclass(frozen=True)
class Group:
    """Masks that have something in common: their number, and the indices of the first ones."""

    masks: int
    first: tuple[int, ...]

    def __add__(self, other: Group) -> Group:
        return Group(self.masks + other.masks, tuple(sorted(self.first + other.first))[:SHOWN_FILES])


@dataclass(frozen=True)
class Values:
    """The values of all masks that are stored in one way. They are numbers as stored, of a palette `entry_code`s, and
    of RGB `color_code`s.

    Attributes:
      masks: the number of masks.
      pixels: their pixels.
      exact: every value; None if there are more than a tally takes.
      colors: of palettes and RGB every color by its `color_code`; None likewise.
      main: those that fill a good part of a mask, counted only in such masks; None likewise.
      coarse: all pixels by the `coarse_code` of their color, of which there are few.
    """

    masks: int
    pixels: int
    exact: Tally | None
    colors: Tally | None = EMPTY
    main: Tally | None = EMPTY
    coarse: Tally = EMPTY

    def __add__(self, other: Values) -> Values:
        return Values(
            self.masks + other.masks,
            self.pixels + other.pixels,
            bounded(self.exact, other.exact),
            bounded(self.colors, other.colors),
            bounded(self.main, other.main),
            self.coarse + other.coarse,
        )


@dataclass(frozen=True)
class Contents:
    """Everything that is counted.

    Attributes:
      kinds: kind of file, for people -> the masks of that kind.
      values: a key of STORAGES -> the values of the masks that are stored so.
      repeated: color codes that one palette has at several indices that are used; None if they are too many.
      problems: reason -> the masks that can't be read, or that the label table does not fit.
      ids: with a label table, the ids of all masks that it reads.
      strange: with a label table, the color codes that it does not name; None if they are too many.
      names: of annotations of regions, label -> the images that have such a region.
      regions: label -> the number of its regions.
    """

    kinds: Mapping[str, Group] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)
    repeated: Tally | None = EMPTY
    problems: Mapping[str, Group] = field(default_factory=dict)
    ids: Tally | None = EMPTY
    strange: Tally | None = EMPTY
    names: Mapping[str, Group] = field(default_factory=dict)
    regions: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Contents) -> Contents:
        return Contents(
            _merged(self.kinds, other.kinds),
            _merged(self.values, other.values),
            bounded(self.repeated, other.repeated),
            _merged(self.problems, other.problems),
            bounded(self.ids, other.ids),
            bounded(self.strange, other.strange),
            _merged(self.names, other.names),
            _merged(self.regions, other.regions),
        )

    @property
    def readable(self) -> int:
        """The number of masks whose values were counted."""
        return sum(values.masks for values in self.values.values())

    @property
    def masks(self) -> int:
        return sum(group.masks for group in self.kinds.values())

    def to_json(self) -> bytes:
        """The same bytes for the same contents."""
        return msgspec.json.encode(self, enc_hook=_plain, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> Contents:
        return msgspec.json.decode(data, type=cls, dec_hook=_array)


def total_of(parts: Iterable[Contents]) -> Contents:
    """The sum of the parts."""
    return sum(parts, Contents())


def color_code(colors: np.ndarray) -> np.ndarray:
    """int64[n, 3] RGB -> int64[n]; -1 for a color that is none."""
    codes = colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    return np.asarray(np.where((colors < 0).any(axis=1), -1, codes))


def colors_of(codes: np.ndarray) -> np.ndarray:
    """The colors of `color_code`s, int64[n] -> int64[n, 3]; -1 for none."""
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    return np.asarray(np.where(codes[:, None] < 0, -1, colors))


def rgb_of(code: int) -> tuple[int, int, int]:
    """The color of a `color_code`."""
    return code >> 16, code >> 8 & 255, code & 255


def entry_code(indices: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Entries of palettes, their index and `color_code` int64[n] -> int64[n]."""
    return np.asarray(indices << 25 | codes + 1)


def entries_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices and the color codes of `entry_code`s."""
    return values >> 25, (values & (1 << 25) - 1) - 1


def coarse_code(codes: np.ndarray) -> np.ndarray:
    """The code of the color in the middle of the cell of 8x8x8 colors; -1 for none."""
    return np.asarray(np.where(codes < 0, -1, codes & 0xF8F8F8 | 0x040404))


def _merged(mine: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The sums by key."""
    added = {key: mine[key] + value if key in mine else value for key, value in others.items()}
    return {**mine, **added}


def _plain(value: Any) -> Any:
    return value.tolist()


def _array(kind: type, value: Any) -> np.ndarray:
    return np.array(value, np.int64)
