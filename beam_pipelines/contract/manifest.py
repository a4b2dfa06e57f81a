"""`dataset.json`: everything that reading a data set takes. It is written last; the data set exists when it does.

Reading is strict: a field that is missing, unknown, or of another type, range or form is refused, and so are numbers
that contradict each other.

A field is declared once, in `Manifest`: its type there is its type in JSON, and the JSON has the fields in the order
of their declaration. A field with a default is written only if it differs from the default, and may be missing. Earlier
versions of this code read a data set without it, and refuse one with it by the field's name. If they may ignore the
field instead, `field(default=..., metadata=ADDITION)` puts it into the object `additions`, in which a reader keeps what
it does not know. A field whose JSON differs from its value has a row in `manifest_parts.FORMS`. A relation between
fields goes into `_contradictions`; a number of the JSON that follows from others goes into `_differences`.

`FORMAT_VERSION` rises when the type or the meaning of a field or of a record changes, or when a field without a default
is added.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from beam_pipelines.contract import readable_json, record, schema
from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest_parts import FORMS, INSIDE
from beam_pipelines.contract.manifest_parts import PixelFormat as PixelFormat
from beam_pipelines.contract.manifest_parts import Shard as Shard
from beam_pipelines.contract.manifest_parts import Update as Update
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.schema import Count, Digest, PlainName, SchemaError

FILE_NAME = "dataset.json"
FORMAT_VERSION = 1
ADDITION: Mapping[str, Any] = {"addition": True}  # of a field that earlier versions may ignore
Encoded = bytes  # `Manifest.bytes` hides the type in the class


class ManifestError(UserError, ValueError):
    """A manifest that does not exist, is damaged, or has a version that this code does not know."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `dataset.json`.

    Attributes:
      fingerprint: of the recipe with its label table.
      moments: of the pixels of `moments_split` as they were written, before normalization.
      class_pixels: split -> pixels of each train id.
      ignored_pixels: split -> pixels that belong to no class.
      rejected: reason -> pairs left out.
      timing: the only part that differs between two builds of the same inputs and recipe.
      additions: what a later version added and this one does not know.
      minus_one_pixels: pixels of 65535 in mask files, -1 in 16 bits, that `ignore: rest` ignored.
      repairs: repair of the label table -> pixels of mask files that it changed.
      indexed: whether each shard has an index, see `contract/index.py`.
      duplicates: split, or two of them as `train/val` -> kind -> pairs of examples that show the same picture, which
        are listed in `duplicates.jsonl`; see `shards/duplicate_search.py`.
      leaks: examples with a duplicate in another split.
      updates: of each update, how many pairs it added, changed, removed and tried again, and the shards that it wrote.
      superseded: shards of the data set before the last update, which a reader may still have open.
      moments_from: the data set whose moments these are, if not this one; then `moments_split` is a split of that one.
    """

    fingerprint: Digest
    recipe: Mapping[str, Any]
    pixels: PixelFormat
    labels: LabelTable
    moments_split: str
    moments: Moments
    class_pixels: Mapping[str, tuple[Count, ...]]
    ignored_pixels: Mapping[str, Count]
    splits: Mapping[str, tuple[Shard, ...]]
    rejected: Mapping[str, Count]
    timing: Mapping[str, Any]
    additions: Mapping[str, Any] = field(default_factory=dict)
    minus_one_pixels: Count = field(default=0, metadata=ADDITION)
    repairs: Mapping[str, Count] = field(default_factory=dict, metadata=ADDITION)
    indexed: bool = field(default=False, metadata=ADDITION)
    duplicates: Mapping[str, Mapping[str, Count]] = field(default_factory=dict, metadata=ADDITION)
    leaks: Count = field(default=0, metadata=ADDITION)
    updates: tuple[Update, ...] = field(default=(), metadata=ADDITION)
    superseded: tuple[PlainName, ...] = field(default=(), metadata=ADDITION)
    moments_from: str | None = None

    @property
    def identity(self) -> str:
        """What data sets of the same inputs and recipe share: the fingerprint, or a digest of an updated one."""
        if not self.updates:
            return self.fingerprint
        shards = [shard.sha256 for split in sorted(self.splits) for shard in self.splits[split]]
        return hashlib.sha256("".join([self.fingerprint, *shards]).encode()).hexdigest()

    @property
    def main_split(self) -> str:
        """The split that stands for all: that of the moments, if it is of this data set."""
        return self.moments_split if self.moments_from is None else next(iter(self.splits))

    def examples(self, split: str) -> int:
        return sum(shard.examples for shard in self.splits[split])

    def bytes(self, split: str) -> int:
        return sum(shard.bytes for shard in self.splits[split])

    def to_json(self) -> str:
        return readable_json.render({"format_version": FORMAT_VERSION, **_json_of(self)}) + "\n"

    @classmethod
    def from_json(cls, text: str | Encoded, name: str = FILE_NAME) -> Manifest:
        """Raises ManifestError, in which the manifest is called `name`, if it can't be read or contradicts itself."""
        found, contradictions = read(text, name)
        if contradictions:
            more = f" (and {len(contradictions) - 1} more)" if len(contradictions) > 1 else ""
            raise ManifestError(f"{name}: {contradictions[0]}{more}; {_CURE}")
        return found


# What the JSON holds, derived from the fields of `Manifest`.

_FIELDS = {each.name: each for each in dataclasses.fields(Manifest)}
_KINDS = typing.get_type_hints(Manifest, include_extras=True)
_ADDITIONS = [name for name, each in _FIELDS.items() if each.metadata == ADDITION]
_PARTS = [name for name in _FIELDS if name not in (*INSIDE, *_ADDITIONS)]  # in the order of the JSON


def _default_of(name: str) -> Any:
    """The default of a field of `Manifest`; msgspec.NODEFAULT if it has none."""
    each = _FIELDS[name]
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return msgspec.NODEFAULT if each.default is dataclasses.MISSING else each.default


def _struct(name: str, fields: Iterable[str], **options: Any) -> Any:
    kinds = [(field, FORMS[field].kind if field in FORMS else _KINDS[field], _default_of(field)) for field in fields]
    return msgspec.defstruct(name, kinds, frozen=True, kw_only=True, **options)


class _Version(msgspec.Struct):
    format_version: Any


_Parts = _struct("_Parts", _PARTS, bases=(_Version,), forbid_unknown_fields=True)
_Additions = _struct("_Additions", _ADDITIONS)
_WithAdditions: Any = msgspec.defstruct("_WithAdditions", [("additions", _Additions)])


def _json_of(manifest: Manifest) -> dict[str, Any]:
    """The JSON of all values that differ from their defaults."""
    values = {name: getattr(manifest, name) for name in (*_PARTS, *_ADDITIONS)}
    values |= {name: form.json_of(manifest) for name, form in FORMS.items()}
    values = {name: value for name, value in values.items() if value != _default_of(name)}
    added = {name: msgspec.to_builtins(values.pop(name)) for name in _ADDITIONS if name in values}
    return values | ({"additions": {**manifest.additions, **added}} if added else {})


_CURE = "restore the file or build the data set again"


def read(text: str | bytes, name: str = FILE_NAME) -> tuple[Manifest, list[str]]:
    """-> the manifest, and the places where its numbers contradict each other. `verify` prints these; other readers
    refuse such a manifest.

    Raises:
      ManifestError: it has another version, a field of another type, range or form, or one that refers to nothing.
    """
    try:
        _check_version(schema.decode(_Version, text, name).format_version, name)
        parts = schema.decode(_Parts, text, name)
        _check_references(parts, name)
        found = _manifest_of(parts, name)
    except SchemaError as error:
        raise ManifestError(f"{error}; {_CURE}") from error
    return found, [*_contradictions(found), *_differences(parts, found)]


def _check_version(version: object, name: str) -> None:
    if type(version) is not int or version != FORMAT_VERSION:
        raise ManifestError(
            f"{name} has format version {schema.shown(version)} and this code reads {FORMAT_VERSION}: "
            "use the version of this project that wrote it, or build the data set again"
        )


def _check_references(parts: Any, name: str) -> None:
    """Raises SchemaError if a part names something that another part does not have, or if there are no moments."""
    splits = parts.splits.keys()
    for path, named in (
        ("moments.split", {parts.moments.split} if parts.moments_from is None else set()),
        ("class_pixels", parts.class_pixels.keys() ^ splits),
        ("ignored_pixels", parts.ignored_pixels.keys() ^ splits),
    ):
        wrong = sorted(named - splits if path == "moments.split" else named)
        if wrong:
            raise SchemaError(name, path, f"names {schema.shown(wrong[0])} and `splits` has {_listed(splits)}")
    files = Counter(shard.file for split in parts.splits.values() for shard in split.shards)
    file, times = next(iter(files.most_common(1)), ("", 0))
    if times > 1:
        raise SchemaError(name, "splits", f"the shard {file} occurs {times} times")
    if not any(parts.moments.histogram[0]):
        raise SchemaError(name, "moments.histogram", "no pixel was counted")
    sums = [sum(row) for row in parts.moments.histogram]
    if len(set(sums)) > 1:
        raise SchemaError(name, "moments.histogram", f"each channel counts every pixel once, and the sums are {sums}")


def _listed(names: Iterable[str]) -> str:
    return schema.shown(", ".join(names))


def _manifest_of(parts: Any, name: str) -> Manifest:
    """Raises SchemaError."""
    values = {part: getattr(parts, part) for part in _PARTS if part not in FORMS}
    for part, form in FORMS.items():
        values |= form.values_of(getattr(parts, part), name)
    known = schema.convert(_WithAdditions, {"additions": parts.additions}, name).additions
    values["additions"] = {key: value for key, value in parts.additions.items() if key not in _ADDITIONS}
    return Manifest(**values, **msgspec.structs.asdict(known))


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Violated relations between fields: every pixel of an example belongs to a class or is ignored, and so on."""
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
        if split == manifest.moments_split and manifest.moments_from is None and counted != moments.pixels:
            yield f"moments.histogram: counts {moments.pixels:,} pixels, and the masks of {split} have {counted:,}"
        yield from (f"splits.{split}: {problem}" for shard in shards for problem in _problems_of_shard(shard, pixels))


def _problems_of_shard(shard: Shard, pixels: PixelFormat) -> Iterator[str]:
    least = shard.examples * record.least_bytes(pixels.image_format, pixels.mask_format, pixels.height, pixels.width)
    if shard.bytes < least:
        yield f"{shard.file} has {shard.bytes:,} bytes, and its {shard.examples:,} examples take {least:,} or more"
    if shard.bytes and not shard.examples:
        yield f"{shard.file} has {shard.bytes:,} bytes and no examples"


def _differences(parts: Any, manifest: Manifest) -> Iterator[str]:
    """Numbers that differ from what follows from other fields."""
    moments = ("pixels", "sums", "sums_of_squares", "mean", "std")
    compared = {
        "pixels.normalized": (parts.pixels.normalized, manifest.pixels.normalized),
        **{f"moments.{name}": (getattr(parts.moments, name), getattr(manifest.moments, name)) for name in moments},
        **{
            f"splits.{name}.examples": (split.examples, manifest.examples(name)) for name, split in parts.splits.items()
        },
        "rejected.pairs": (parts.rejected.pairs, sum(manifest.rejected.values())),
    }
    for path, (found, derived) in compared.items():
        if found != derived:
            yield f"{path} is {schema.shown(found)}, and the rest of the file says {schema.shown(derived)}"


def not_built(folder: str) -> str:
    """The message for a `folder` without a manifest."""
    return (
        f"{folder} has no {FILE_NAME}: there is no data set, or its build did not finish. "
        "Run the same `python -m beam_pipelines.build` command again; it resumes where it stopped"
    )
