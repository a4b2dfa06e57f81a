"""`card/statistics.json`: the statistics of each split, from which the page is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import google_crc32c
import msgspec
import numpy as np

from beam_pipelines.card.statistics import DISTRIBUTIONS, Place, Statistics
from beam_pipelines.contract import readable_json, schema
from beam_pipelines.contract.index import HEAT_MAP
from beam_pipelines.contract.manifest_parts import Row
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.schema import Count, Crc, PlainName, SchemaError, Size

FORMAT_VERSION = 1
_END = "\n}"
_CHECKSUM = ',\n  "crc32c": '  # the last field; it is of all the text before
_EMPTY = (0,) * (HEAT_MAP[0] * HEAT_MAP[1])
_Row = Annotated[str, msgspec.Meta(pattern=r"\A\d{1,3}\Z")]  # a train id; the one behind the last is of ignored pixels
_Place = tuple[PlainName, Count, str]  # shard, number, key


def to_json(splits: Mapping[str, Statistics]) -> str:
    """split -> its statistics, as the text of the file."""
    bins = {name: {"width": each.width, "count": each.count} for name, each in DISTRIBUTIONS.items()}
    value = {"format_version": FORMAT_VERSION, "bins": bins}
    value["splits"] = {name: _json_of(splits[name]) for name in sorted(splits)}
    body = readable_json.render(value).removesuffix(_END)
    return f"{body}{_CHECKSUM}{google_crc32c.value(body.encode())}{_END}\n"


def from_json(text: str, classes: int, name: str) -> dict[str, Statistics]:
    """The inverse, of a data set of `classes` classes. Raises SchemaError, which calls the file `name`."""
    fields = schema.decode(_File, text, name)
    if fields.format_version != FORMAT_VERSION:
        raise SchemaError(name, "format_version", f"is {fields.format_version}, and this code reads {FORMAT_VERSION}")
    if google_crc32c.value(text.rpartition(_CHECKSUM)[0].encode()) != fields.crc32c:
        raise SchemaError(name, "crc32c", "is not the checksum of what stands before it")
    return {split: _statistics_of(each, classes, f"{name}, {split}") for split, each in fields.splits.items()}


def _json_of(statistics: Statistics) -> dict[str, Any]:
    sizes = statistics.sizes
    return {
        "examples": statistics.examples,
        "class_pixels": statistics.class_pixels[:-1].tolist(),
        "ignored_pixels": int(statistics.class_pixels[-1]),
        "class_examples": statistics.class_examples[:-1].tolist(),
        "ignored_examples": int(statistics.class_examples[-1]),
        "together": statistics.together.tolist(),
        "heat_maps": _heat_maps(statistics),
        "histogram": statistics.moments.histogram.tolist(),
        "distributions": {name: counts.tolist() for name, counts in statistics.distributions.items()},
        "sizes": None if sizes is None else [[*size, count] for size, count in sizes.items()],
        "first": [[place.shard, place.number, place.key] for place in statistics.first],
        "most": {
            str(row): [[-pixels, [place.shard, place.number, place.key]] for pixels, place in ranked]
            for row, ranked in statistics.most.items()
        },
    }


def _heat_maps(statistics: Statistics) -> dict[str, list[int]]:
    """Without those of zeros: of a large label table most are."""
    return {str(row): cells.reshape(-1).tolist() for row, cells in enumerate(statistics.heat_maps) if cells.any()}


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    examples: Count
    class_pixels: tuple[Count, ...]
    ignored_pixels: Count
    class_examples: tuple[Count, ...]
    ignored_examples: Count
    together: tuple[tuple[Count, ...], ...]
    heat_maps: dict[_Row, tuple[Count, ...]]
    histogram: tuple[Row, Row, Row]
    distributions: dict[str, tuple[Count, ...]]
    sizes: tuple[tuple[Size, Size, Count], ...] | None
    first: tuple[_Place, ...]
    most: dict[_Row, tuple[tuple[Count, _Place], ...]]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format_version: int
    bins: dict[str, dict[str, float]]
    splits: dict[str, _Split]
    crc32c: Crc


def _statistics_of(fields: _Split, classes: int, name: str) -> Statistics:
    """Raises SchemaError if an array has another shape."""

    def array(values: Any, field: str, *shape: int) -> np.ndarray:
        try:
            return np.array(values, np.int64).reshape(shape)
        except ValueError as error:
            raise SchemaError(name, field, f"does not hold {'x'.join(map(str, shape))} numbers") from error

    rows = classes + 1
    return Statistics(
        examples=fields.examples,
        moments=Moments(array(fields.histogram, "histogram", 3, 256)),
        class_pixels=array([*fields.class_pixels, fields.ignored_pixels], "class_pixels", rows),
        class_examples=array([*fields.class_examples, fields.ignored_examples], "class_examples", rows),
        together=array(fields.together, "together", rows, rows),
        heat_maps=array([fields.heat_maps.get(str(row), _EMPTY) for row in range(rows)], "heat_maps", rows, *HEAT_MAP),
        distributions={
            each: array(fields.distributions.get(each, ()), f"distributions.{each}", bins.count)
            for each, bins in DISTRIBUTIONS.items()
        },
        sizes=None if fields.sizes is None else {(height, width): count for height, width, count in fields.sizes},
        first=tuple(Place(*place) for place in fields.first),
        most={int(row): tuple((-pixels, Place(*place)) for pixels, place in each) for row, each in fields.most.items()},
    )
