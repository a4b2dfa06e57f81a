"""Finds duplicates: examples whose images have equal pixels, or are the same picture by their perceptual hashes.

Hashes are near if at most 4 of their 64 bits differ. Then one at least of five bands of bits is equal, so only examples
that share a band are compared. A band that very many share, as the frames of a camera that stands still do, does not
become quadratic: there each example is compared with the next 4,096 in the order of their keys, and in each band paired
with the 8 nearest of them, those of other splits first.

A hash with fewer than 8 ones, or fewer than 8 zeros, says nothing: those of blank, black and fogged pictures, and of
plain gradients, are all alike. Such examples are compared by their pixels alone. (The hashes of street scenes have 14
to 46 ones.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards.index_files import read_index

Kind = Literal["exact", "near", "mirrored"]
KINDS: Sequence[Kind] = ("exact", "near", "mirrored")
DISTANCE = 4  # most bits in which near hashes differ
BANDS = (13, 13, 13, 13, 12)  # bits; one more than DISTANCE, so that one of them is equal
LEAST_BITS = 8  # ones, and zeros, of a hash that tells something
COMPARED = 4096  # next entries of a bucket with which one is compared
PARTNERS = 8  # most of them with which it is paired
LISTED = 20_000  # lines of the file
_BLOCK = 256  # entries that are compared at a time: with COMPARED others, some 10 MB
_ONES = np.array([number.bit_count() for number in range(2**16)], np.uint8)


class Picture(msgspec.Struct, frozen=True, order=True, array_like=True):
    """What the search knows of an example. `hash` and `mirror` are those of the image and of its mirror image. `copies`
    counts the examples with equal pixels in the same split, itself included.
    """

    key: str
    split: str
    filename: str
    shard: str
    digest: str
    hash: int
    mirror: int
    copies: int = 1


# Of a bucket: a packed Picture, and whether it is there by the hash of its mirror image. Each is shuffled ten times;
# packed, a runner in this process takes half of the memory for that.
Entry = tuple[bytes, bool]
_UNPACKER = msgspec.msgpack.Decoder(Picture)


@dataclass(frozen=True)
class Duplicate:
    """Two examples, in the order of their keys, that show the same picture. `distance`: bits in which their hashes
    differ, of `mirrored` ones the hash of one and that of the other's mirror image.
    """

    kind: Kind
    distance: int
    one: Picture
    other: Picture

    @property
    def leaks(self) -> bool:
        """Whether it crosses splits."""
        return self.one.split != self.other.split

    @property
    def place(self) -> str:
        """Its split, or both as `train/val`: the name of a split has no slash."""
        return "/".join(sorted({self.one.split, self.other.split}))

    @property
    def rank(self) -> tuple[bool, int, int, str, str]:
        """Its place in the list: leaks first, then by kind, distance and keys."""
        return not self.leaks, KINDS.index(self.kind), self.distance, self.one.key, self.other.key


@dataclass(frozen=True)
class Findings:
    """What was found: place -> kind -> number of pairs, the number of examples with a duplicate in another split, and
    the first pairs, at most LISTED, in their order.
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    leaks: int = 0
    listed: Sequence[Duplicate] = ()

    @classmethod
    def of(cls, pairs: Mapping[tuple[str, str], int], leaks: int, listed: Iterable[Duplicate]) -> Findings:
        """`pairs`: (place, kind) -> number."""
        places = sorted({place for place, _ in pairs})
        counts: dict[str, dict[str, int]] = {
            place: {kind: pairs[place, kind] for kind in KINDS if (place, kind) in pairs} for place in places
        }
        return cls(counts, leaks, sorted(listed, key=lambda duplicate: duplicate.rank))


def read_pictures(shard: str, workspace: Workspace) -> Iterator[Picture]:
    """Yields the examples of the shard file `shard`, from its index. Raises BuildError if that is not whole."""
    index, _ = read_index(shard, workspace)
    for example in index.examples:
        hashes = (int(text, 16) for text in example.hashes)
        yield Picture(example.key, index.split, example.filename, shard, example.pixels_digest, *hashes)


def equal_pairs(pictures: Iterable[Picture]) -> Iterator[Duplicate]:
    """Pairs the first of pictures with equal pixels, in the order of their keys, with each of the others."""
    ordered = sorted(pictures)
    copies = Counter(picture.split for picture in ordered)
    first, *others = (replace(picture, copies=copies[picture.split]) for picture in ordered)
    return (Duplicate("exact", 0, first, other) for other in others)


def representatives(pictures: Iterable[Picture]) -> list[Picture]:
    """The first of pictures with equal pixels in each split: what is near to one is near to all."""
    found: dict[str, Picture] = {}
    for picture in sorted(pictures):
        before = found.setdefault(picture.split, replace(picture, copies=0))
        found[picture.split] = replace(before, copies=before.copies + 1)
    return list(found.values())


def buckets_of(picture: Picture) -> Iterator[tuple[tuple[int, int], Entry]]:
    """Yields ((band, its bits), entry) for each band of both hashes; nothing if the hash says nothing."""
    if not LEAST_BITS <= picture.hash.bit_count() <= 64 - LEAST_BITS:
        return
    packed = msgspec.msgpack.encode(picture)
    for mirrored, bits in enumerate((picture.hash, picture.mirror)):
        for band, width in enumerate(BANDS):
            yield (band, bits & (1 << width) - 1), (packed, bool(mirrored))
            bits >>= width


def near_pairs(band: int, bucket: Iterable[Entry]) -> Iterator[Duplicate]:
    """Pairs the near entries of a bucket, but for those that a lower band pairs. Pictures with equal pixels are no near
    pair.
    """
    entries = sorted((_UNPACKER.decode(packed), flag) for packed, flag in bucket)
    pictures = [picture for picture, _ in entries]
    mirrored = np.array([flag for _, flag in entries])
    hashes = np.array([picture.mirror if flag else picture.hash for picture, flag in entries], np.uint64)
    digests, splits = (_numbered(getattr(picture, name) for picture in pictures) for name in ("digest", "split"))
    for start in range(0, len(entries), _BLOCK):
        rows, columns, distances = _close(hashes, start)
        pairable = (digests[rows] != digests[columns]) & ~(mirrored[rows] & mirrored[columns])
        pairable &= ~_share_lower_band(hashes[rows] ^ hashes[columns], band)
        rows, columns, distances = rows[pairable], columns[pairable], distances[pairable]
        best = _best(rows, columns, distances, splits[rows] == splits[columns])
        for row, column, distance in zip(rows[best], columns[best], distances[best], strict=True):
            kind: Kind = "mirrored" if mirrored[row] != mirrored[column] else "near"
            yield Duplicate(kind, int(distance), pictures[row], pictures[column])


def closest(duplicates: Iterable[Duplicate]) -> Duplicate:
    """Of the same two examples, found in several buckets."""
    return min(duplicates, key=lambda duplicate: (duplicate.distance, KINDS.index(duplicate.kind)))


def leaked_examples(duplicate: Duplicate) -> Iterator[tuple[tuple[str, str], int]]:
    """Yields ((digest, split), examples) of both, if they are in different splits."""
    if duplicate.leaks:
        for picture in (duplicate.one, duplicate.other):
            yield (picture.digest, picture.split), picture.copies


def _numbered(values: Iterable[str]) -> np.ndarray:
    """Equal numbers for equal values."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _close(hashes: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the entries from `start` on, a block, and the COMPARED next ones of each: (entry, later entry, distance) of
    those that are near, an array each.
    """
    block, others = hashes[start : start + _BLOCK], hashes[start + 1 : start + _BLOCK + COMPARED]
    different = block[:, None] ^ others[None, :]
    distances = _ONES[different.view(np.uint16)].reshape(*different.shape, 4).sum(-1, dtype=np.uint8)
    rows, columns = np.nonzero(distances <= DISTANCE)
    later = (columns >= rows) & (columns < rows + COMPARED)
    rows, columns = rows[later], columns[later]
    return rows + start, columns + start + 1, distances[rows, columns]


def _share_lower_band(different: np.ndarray, band: int) -> np.ndarray:
    """bool[n]: whether the hashes whose different bits are `different`, uint64[n], agree in a band before `band`."""
    shared = np.zeros(len(different), bool)
    for width in BANDS[:band]:
        shared |= (different & np.uint64((1 << width) - 1)) == 0
        different = different >> np.uint64(width)
    return shared


def _best(rows: np.ndarray, columns: np.ndarray, distances: np.ndarray, same_split: np.ndarray) -> np.ndarray:
    """The places of the PARTNERS best pairs of each row: of other splits first, then the nearest, then the first."""
    order = np.lexsort((columns, distances, same_split, rows))
    ordered = rows[order]
    best: np.ndarray = order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < PARTNERS]
    return best
