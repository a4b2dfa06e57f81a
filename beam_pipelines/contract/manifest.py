"""`dataset.json`: everything that reading a data set takes. It is written last; the data set exists when it does.

Reading is strict: a field that is missing, unknown, or of another type, range or form is refused, and so are numbers
that contradict each other.

`FORMAT_VERSION` rises when a reader of the version before would misread the data set or must refuse it: a field is
added that a reader has to know, or the type or the meaning of a field or of a record changes. It does not rise for what
a reader may ignore: that goes into the object `additions`, which readers keep and do not interpret. A field of its own
takes a line each in `Manifest`, `Manifest.to_json`, `_ManifestFields` and `_manifest_of`; a relation to other fields
goes into `_contradictions`, a value that follows from others into `_differences`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from beam_pipelines.contract import record, schema
from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable, LabelTableError, TableFields
from beam_pipelines.contract.moments import CHANNELS, LEVELS, Moments
from beam_pipelines.contract.record import RAW_DTYPES
from beam_pipelines.contract.schema import Count, Digest, PlainName, SchemaError, Size

FILE_NAME = "dataset.json"
FORMAT_VERSION = 1
MINUS_ONES = "minus_one_pixels"  # in `additions`: pixels of 65535, -1 in 16 bits, that `ignore: rest` ignored
Encoded = bytes  # `Manifest.bytes` hides the type in the class


class ManifestError(UserError, ValueError):
    """A manifest that is missing, damaged, or of a version that this code does not know."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How the records hold pixels. A `height` or `width` of None varies from record to record."""

    height: int | None
    width: int | None
    image_format: str
    mask_format: str

    @property
    def normalized(self) -> bool:
        """Whether records hold (pixel / 255 - mean) / std; otherwise the reader normalizes."""
        return self.image_format in ("raw_float32", "raw_float16")

    @property
    def uniform(self) -> bool:
        """Whether all records have one size."""
        return self.height is not None and self.width is not None

    @property
    def dtype(self) -> str:
        return RAW_DTYPES.get(self.image_format, "uint8")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of the data set, by its name in the data set's folder."""

    file: str
    examples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `dataset.json`.

    `moments` are of the pixels of `moments_split` as they were written, before normalization. `class_pixels` counts
    for each split the pixels of each train id, `ignored_pixels` those that no class has. `rejected` counts the pairs
    left out, by reason. `timing` is the only part that differs between two builds of the same inputs and recipe.
    `additions` are of a later version; they are written where there are any.
    """

    fingerprint: str
    recipe: Mapping[str, Any]
    pixels: PixelFormat
    labels: LabelTable
    moments_split: str
    moments: Moments
    class_pixels: Mapping[str, tuple[int, ...]]
    ignored_pixels: Mapping[str, int]
    splits: Mapping[str, tuple[Shard, ...]]
    rejected: Mapping[str, int]
    timing: Mapping[str, Any]
    additions: Mapping[str, Any] = field(default_factory=dict)

    def examples(self, split: str) -> int:
        return sum(shard.examples for shard in self.splits[split])

    def bytes(self, split: str) -> int:
        return sum(shard.bytes for shard in self.splits[split])

    def to_json(self) -> str:
        value = {
            "format_version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "recipe": dict(self.recipe),
            "pixels": asdict(self.pixels) | {"channels": CHANNELS, "normalized": self.pixels.normalized},
            "labels": self.labels.to_json(),
            "moments": _moments_to_json(self.moments_split, self.moments),
            "class_pixels": {split: list(counts) for split, counts in self.class_pixels.items()},
            "ignored_pixels": dict(self.ignored_pixels),
            "splits": {
                split: {"examples": self.examples(split), "shards": [asdict(shard) for shard in shards]}
                for split, shards in self.splits.items()
            },
            "rejected": {"pairs": sum(self.rejected.values()), "by_reason": dict(self.rejected)},
            "timing": dict(self.timing),
        }
        return _render(value | ({"additions": dict(self.additions)} if self.additions else {})) + "\n"

    @classmethod
    def from_json(cls, text: str | Encoded, name: str = FILE_NAME) -> Manifest:
        """Raises ManifestError, which calls the manifest `name`, where it can't be read or contradicts itself."""
        found, contradictions = read(text, name)
        if contradictions:
            more = f" (and {len(contradictions) - 1} more)" if len(contradictions) > 1 else ""
            raise ManifestError(f"{name}: {contradictions[0]}{more}; {_CURE}")
        return found


# What the JSON holds, as `Manifest.to_json` writes it.


class _Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class _PixelFields(_Fields, frozen=True, kw_only=True):
    height: Size | None
    width: Size | None
    image_format: Literal["raw_float32", "raw_float16", "raw_uint8", "png"]
    mask_format: Literal["raw_uint8", "png"]
    channels: Literal[3]
    normalized: bool


_Row = Annotated[tuple[Count, ...], msgspec.Meta(min_length=LEVELS, max_length=LEVELS)]


class _MomentsFields(_Fields, frozen=True, kw_only=True):
    split: str
    pixels: Count
    sums: tuple[int, int, int]
    sums_of_squares: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    histogram: tuple[_Row, _Row, _Row]


class _ShardFields(_Fields, frozen=True, kw_only=True):
    file: PlainName
    examples: Count
    bytes: Count
    sha256: Digest


class _SplitFields(_Fields, frozen=True, kw_only=True):
    examples: Count
    shards: tuple[_ShardFields, ...]


class _RejectedFields(_Fields, frozen=True, kw_only=True):
    pairs: Count
    by_reason: dict[str, Count]


class _ManifestFields(_Fields, frozen=True, kw_only=True):
    format_version: Literal[1]
    fingerprint: Digest
    recipe: dict[str, Any]
    pixels: _PixelFields
    labels: TableFields
    moments: _MomentsFields
    class_pixels: dict[str, tuple[Count, ...]]
    ignored_pixels: dict[str, Count]
    splits: dict[PlainName, _SplitFields]
    rejected: _RejectedFields
    timing: dict[str, Any]
    additions: dict[str, Any] = {}


class _Version(msgspec.Struct):
    format_version: Any


_CURE = "restore the file or build the data set again"


def read(text: str | bytes, name: str = FILE_NAME) -> tuple[Manifest, list[str]]:
    """-> the manifest, and where its numbers contradict each other: nobody should trust them, but to `verify` they
    tell what is wrong.

    Raises:
      ManifestError: it has another version, a field of another type, range or form, or one that leads nowhere.
    """
    try:
        _check_version(schema.decode(_Version, text, name).format_version, name)
        fields = schema.decode(_ManifestFields, text, name)
        _check_references(fields, name)
        found = _manifest_of(fields, name)
    except SchemaError as error:
        raise ManifestError(f"{error}; {_CURE}") from error
    return found, [*_contradictions(found), *_differences(fields, found)]


def _check_version(version: object, name: str) -> None:
    if type(version) is not int or version != FORMAT_VERSION:
        raise ManifestError(
            f"{name} has format version {schema.shown(version)} and this code reads {FORMAT_VERSION}: "
            "use the version of this project that wrote it, or build the data set again"
        )


def _check_references(fields: _ManifestFields, name: str) -> None:
    """Raises SchemaError where one part names what another one does not have, or the moments are of nothing."""
    splits = fields.splits.keys()
    for path, named in (
        ("moments.split", {fields.moments.split}),
        ("class_pixels", fields.class_pixels.keys() ^ splits),
        ("ignored_pixels", fields.ignored_pixels.keys() ^ splits),
    ):
        wrong = sorted(named - splits if path == "moments.split" else named)
        if wrong:
            raise SchemaError(name, path, f"names {schema.shown(wrong[0])} and `splits` has {_listed(splits)}")
    files = Counter(shard.file for split in fields.splits.values() for shard in split.shards)
    file, times = next(iter(files.most_common(1)), ("", 0))
    if times > 1:
        raise SchemaError(name, "splits", f"the shard {file} is there {times} times")
    if not any(fields.moments.histogram[0]):
        raise SchemaError(name, "moments.histogram", "mean and std are of no pixels")
    sums = [sum(row) for row in fields.moments.histogram]
    if len(set(sums)) > 1:
        raise SchemaError(name, "moments.histogram", f"each channel counts every pixel once, and the sums are {sums}")


def _listed(names: Iterable[str]) -> str:
    return schema.shown(", ".join(names))


def _manifest_of(fields: _ManifestFields, name: str) -> Manifest:
    pixels = fields.pixels
    try:
        labels = LabelTable.of(fields.labels)
    except LabelTableError as error:
        raise SchemaError(name, "labels", str(error)) from error
    return Manifest(
        fingerprint=fields.fingerprint,
        recipe=fields.recipe,
        pixels=PixelFormat(
            height=pixels.height, width=pixels.width, image_format=pixels.image_format, mask_format=pixels.mask_format
        ),
        labels=labels,
        moments_split=fields.moments.split,
        moments=Moments(np.array(fields.moments.histogram, np.int64)),
        class_pixels=fields.class_pixels,
        ignored_pixels=fields.ignored_pixels,
        splits={
            split: tuple(Shard(**msgspec.structs.asdict(shard)) for shard in found.shards)
            for split, found in fields.splits.items()
        },
        rejected=fields.rejected.by_reason,
        timing=fields.timing,
        additions=fields.additions,
    )


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """The laws between the fields: every pixel of an example is of a class or ignored, and so on."""
    pixels, moments = manifest.pixels, manifest.moments
    for split, shards in manifest.splits.items():
        classes = manifest.class_pixels[split]
        if len(classes) != manifest.labels.num_classes:
            yield f"class_pixels.{split}: has {len(classes)} numbers for {manifest.labels.num_classes} classes"
        counted = sum(classes) + manifest.ignored_pixels[split]
        if pixels.height is not None and pixels.width is not None:
            held = manifest.examples(split) * pixels.height * pixels.width
            if counted != held:
                yield f"class_pixels.{split}: {counted:,} pixels with the ignored ones, and the examples have {held:,}"
        if split == manifest.moments_split and counted != moments.pixels:
            yield f"moments.histogram: counts {moments.pixels:,} pixels, and the masks of {split} have {counted:,}"
        yield from (f"splits.{split}: {problem}" for shard in shards for problem in _problems_of_shard(shard, pixels))


def _problems_of_shard(shard: Shard, pixels: PixelFormat) -> Iterator[str]:
    least = shard.examples * record.least_bytes(pixels.image_format, pixels.mask_format, pixels.height, pixels.width)
    if shard.bytes < least:
        yield f"{shard.file} has {shard.bytes:,} bytes, and its {shard.examples:,} examples take {least:,} or more"
    if shard.bytes and not shard.examples:
        yield f"{shard.file} has {shard.bytes:,} bytes and no examples"


def _differences(fields: _ManifestFields, manifest: Manifest) -> Iterator[str]:
    """Where numbers that follow from others are not what follows."""
    moments = ("pixels", "sums", "sums_of_squares", "mean", "std")
    compared = {
        "pixels.normalized": (fields.pixels.normalized, manifest.pixels.normalized),
        **{f"moments.{name}": (getattr(fields.moments, name), getattr(manifest.moments, name)) for name in moments},
        **{
            f"splits.{name}.examples": (split.examples, manifest.examples(name))
            for name, split in fields.splits.items()
        },
        "rejected.pairs": (fields.rejected.pairs, sum(manifest.rejected.values())),
    }
    for path, (found, derived) in compared.items():
        if found != derived:
            yield f"{path} is {schema.shown(found)}, and the rest of the file says {schema.shown(derived)}"


def not_built(folder: str) -> str:
    """What to tell a user whose `folder` has no manifest."""
    return (
        f"{folder} has no {FILE_NAME}: there is no data set, or its build did not finish. "
        "Run the same `python -m beam_pipelines.build` command again; it resumes where it stopped"
    )


def _moments_to_json(split: str, moments: Moments) -> dict[str, Any]:
    return {
        "split": split,
        "pixels": moments.pixels,
        "sums": list(moments.sums),
        "sums_of_squares": list(moments.sums_of_squares),
        "mean": list(moments.mean),
        "std": list(moments.std),
        "histogram": moments.histogram.tolist(),
    }


def _render(value: Any, indent: str = "") -> str:
    """JSON with one line for each list of plain values, so that a person can read it."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{json.dumps(key)}: {_render(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [json.dumps(item, ensure_ascii=False) if _is_flat(item) else _render(item, deeper) for item in value]
        return "[\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _is_flat(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, dict) for item in items)
