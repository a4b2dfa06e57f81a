"""Pairs of an image and its mask, packed: a list of millions of them takes about 300 bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

_SEPARATOR = "\0"  # no path and no key has it
_WHOLE, _BELOW = "=", "+"  # before a path: it is there as a whole, or without the folder of the image


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask. `key` is unique in the data set; `filename` is the image's path below the input."""

    key: str
    split: str
    filename: str
    image: str
    mask: str
    bytes: int
    modified: int = 0  # of both files, if the file system tells; a resumed build notices a change by it


class PairList(Sequence[Pair]):
    """A sequence of pairs, each packed into one bytes object. Slices share these."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._rows = [_pack(pair) for pair in pairs]

    def append(self, pair: Pair) -> None:
        self._rows.append(_pack(pair))

    def sorted_by_key(self) -> PairList:
        """The key comes first in a row, and UTF-8 has the order of its characters."""
        return self._of(sorted(self._rows))

    def reordered(self, order: Iterable[int]) -> PairList:
        """The pairs at the places `order`."""
        return self._of([self._rows[place] for place in order])

    @overload
    def __getitem__(self, place: int) -> Pair: ...
    @overload
    def __getitem__(self, place: slice) -> PairList: ...
    def __getitem__(self, place: int | slice) -> Pair | PairList:
        return self._of(self._rows[place]) if isinstance(place, slice) else _unpack(self._rows[place])

    def __iter__(self) -> Iterator[Pair]:
        return map(_unpack, self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairList) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def _of(cls, rows: list[bytes]) -> PairList:
        made = cls()
        made._rows = rows
        return made


def _pack(pair: Pair) -> bytes:
    """The folder that most images and masks share is there once."""
    is_below = pair.image.endswith(pair.filename)
    folder = pair.image.removesuffix(pair.filename) if is_below else ""
    image = _BELOW + folder if is_below else _WHOLE + pair.image
    shares = folder and pair.mask.startswith(folder)
    mask = _BELOW + pair.mask.removeprefix(folder) if shares else _WHOLE + pair.mask
    row = (pair.key, pair.split, pair.filename, image, mask, str(pair.bytes), str(pair.modified))
    return _SEPARATOR.join(row).encode()


def _unpack(row: bytes) -> Pair:
    key, split, filename, image, mask, size, modified = row.decode().split(_SEPARATOR)
    folder = image[1:]
    whole_image = folder + filename if image[0] == _BELOW else folder
    whole_mask = folder + mask[1:] if mask[0] == _BELOW else mask[1:]
    return Pair(key, split, filename, whole_image, whole_mask, int(size), int(modified))
