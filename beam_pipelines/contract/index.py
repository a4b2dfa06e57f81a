"""`index/SHARD.jsonl`: what is in a shard, so that nobody has to decode its examples to know it.

The first line has the sums over all examples, each line after it describes an example, in the order of the records, and
the last line is the checksum of those before it. Everything is an integer or follows from integers, so that indexes
merge exactly.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from beam_pipelines.contract import schema
from beam_pipelines.contract.manifest_parts import Row
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import LEVELS
from beam_pipelines.contract.schema import Count, SchemaError, Size
from beam_pipelines.contract.seal import sealed, unsealed

FOLDER = "index"
GRID = (4, 8)  # rows and columns of the grid of an example
HEAT_MAP = (16, 32)  # of the sums over a shard


@dataclass(frozen=True)
class ClassPlace:
    """Where an example has a class. `grid`: 4 x 8 bytes, row by row: the share of each cell, 0 if the cell has no pixel
    of the class, else 1 to 255, rounded up.
    """

    pixels: int
    grid: bytes


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example of a shard.

    Attributes:
      key: unique in the data set.
      filename: the `image/filename` of the record.
      source_size: (height, width) of the image file.
      size: (height, width) of the record.
      levels: the sum, and the sum of the squares, of all 3 * height * width values 0..255 of the record's image,
        before normalization.
      classes: train id -> where it is; IGNORE is one of them.
      pixels_digest: 128 bits, in hex, equal for images whose decoded pixels are equal.
      hashes: the perceptual hashes of the image and of its mirror image, 64 bits each, in hex.
      minus_ones, repairs: as in the manifest, of this mask file.
    """

    key: str
    filename: str
    source_size: tuple[int, int]
    size: tuple[int, int]
    levels: tuple[int, int]
    classes: Mapping[int, ClassPlace]
    pixels_digest: str
    hashes: tuple[str, str]
    minus_ones: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Index:
    """The index of a shard.

    Attributes:
      moments: of all pixels, before normalization.
      heat_maps: train id -> int64[16, 32], the pixels of a class in each cell of the picture.
      examples: in the order of the records.
    """

    split: str
    moments: Moments
    heat_maps: Mapping[int, np.ndarray]
    examples: Sequence[Example]

    @property
    def class_pixels(self) -> np.ndarray:
        """int64[256], the pixels of each train id."""
        pixels = np.zeros(LEVELS, np.int64)
        for train_id, cells in self.heat_maps.items():
            pixels[train_id] = cells.sum()
        return pixels

    @property
    def minus_ones(self) -> int:
        return sum(example.minus_ones for example in self.examples)

    @property
    def repairs(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for example in self.examples:
            total.update(example.repairs)
        return total

    def to_bytes(self) -> bytes:
        sums = {
            "split": self.split,
            "examples": len(self.examples),
            "histogram": self.moments.histogram.tolist(),
            "heat_maps": {str(id): self.heat_maps[id].reshape(-1).tolist() for id in sorted(self.heat_maps)},
        }
        lines = (json.dumps(value, ensure_ascii=False) for value in (sums, *map(_json_of, self.examples)))
        return sealed("".join(f"{line}\n" for line in lines))

    @classmethod
    def from_bytes(cls, data: bytes | None, name: str) -> Index:
        """Raises SchemaError, which calls the file `name`, if it is missing, damaged, or contradicts itself."""
        text = unsealed(data)
        if not text:
            raise SchemaError(name, "", "is damaged" if data else "does not exist")
        first, *lines = text.split("\n")[:-1]
        sums = schema.decode(_Sums, first, f"{name}, line 1")
        try:
            found = [_LINE.decode(line) for line in lines]
        except (msgspec.DecodeError, RecursionError) as error:
            raise SchemaError(name, "", f"has a line that describes no example: {error}") from error
        _check_sums(sums, found, name)
        return cls(
            split=sums.split,
            moments=Moments(np.array(sums.histogram, np.int64)),
            heat_maps={int(id): np.array(cells, np.int64).reshape(HEAT_MAP) for id, cells in sums.heat_maps.items()},
            examples=[line.example() for line in found],
        )


def file_name(shard: str) -> str:
    """The name of the index of the shard file `shard`, below the data set's folder."""
    return f"{FOLDER}/{shard.removesuffix('.tfrecord')}.jsonl"


def _check_sums(sums: _Sums, lines: Sequence[_Line], name: str) -> None:
    """Raises SchemaError if the sums are not those of the lines."""
    if sums.examples != len(lines):
        raise SchemaError(name, "examples", f"is {sums.examples:,}, and {len(lines):,} lines follow")
    of_lines: Counter[str] = Counter()
    for line in lines:
        of_lines.update({train_id: pixels for train_id, (pixels, _) in line.classes.items()})
    of_maps = {train_id: sum(cells) for train_id, cells in sums.heat_maps.items()}
    if of_maps != dict(of_lines):
        raise SchemaError(name, "heat_maps", "do not count the pixels that the lines count")
    pixels = sum(of_maps.values())
    if any(sum(row) != pixels for row in sums.histogram):
        raise SchemaError(name, "histogram", f"each channel counts every pixel once, and the masks have {pixels:,}")


def _json_of(example: Example) -> dict[str, Any]:
    value = {name: getattr(example, name) for name in Example.__dataclass_fields__}
    value = {name: each for name, each in value.items() if each or name not in ("minus_ones", "repairs")}
    places = sorted(example.classes.items())
    return value | {"classes": {str(id): [place.pixels, base64.b64encode(place.grid).decode()] for id, place in places}}


_Cells = Annotated[tuple[Count, ...], msgspec.Meta(min_length=HEAT_MAP[0] * HEAT_MAP[1], max_length=512)]
_TrainId = Annotated[str, msgspec.Meta(pattern=r"\A(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\Z")]  # a key: 0 to 255
_Grid = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z+/]{43}=\Z")]  # 32 bytes
_Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class _Sums(msgspec.Struct, forbid_unknown_fields=True):
    split: str
    examples: Count
    histogram: tuple[Row, Row, Row]
    heat_maps: dict[_TrainId, _Cells]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    filename: str
    source_size: tuple[Size, Size]
    size: tuple[Size, Size]
    levels: tuple[Count, Count]
    classes: dict[_TrainId, tuple[Count, _Grid]]
    pixels_digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    hashes: tuple[_Hash, _Hash]
    minus_ones: Count = 0
    repairs: dict[str, Count] = msgspec.field(default_factory=dict)

    def example(self) -> Example:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        places = {int(id): ClassPlace(pixels, base64.b64decode(grid)) for id, (pixels, grid) in self.classes.items()}
        return Example(**values | {"classes": places})


_LINE = msgspec.json.Decoder(_Line)
