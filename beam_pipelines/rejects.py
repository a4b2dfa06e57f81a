"""Pairs that can't become records: each is written to `rejected.jsonl` with a stage, a reason and a detail."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import msgspec

from beam_pipelines.contract import schema

FILE_NAME = "rejected.jsonl"

# Reason -> what it means. A reason outside this table is a programming error.
REASONS = {
    "missing_image": "a mask without an image",
    "missing_mask": "an image without a mask",
    "duplicate_key": "two files claim the same key",
    "unreadable": "the file does not exist or can't be opened",
    "empty_file": "the file has no bytes",
    "bad_zip_member": "the archive's checksum or compression is broken",
    "not_an_image": "not an image of a supported format",
    "truncated": "the file ends too early",
    "corrupt": "the file's data is damaged",
    "animated": "more than one frame",
    "too_many_pixels": "larger than --max_image_pixels, perhaps a decompression bomb",
    "transparent": "pixels that are not opaque, so their color is not defined: give --alpha for images",
    "deep_color": "more than 8 bits per channel, with values that 8 bits can't hold: give --deep for 16 bits",
    "unsupported_mode": "a pixel format that has no usual conversion to RGB",
    "rotated": "an EXIF orientation that the other file may not share: give --orient",
    "mask_format": "a mask that is not a PNG file with ids or with the table's colors",
    "ambiguous_mask": "a mask that can be read in two ways, with different classes: give --masks_are",
    "contradictory_mask": "a mask that is stored differently than the others, so that it would be misread",
    "size_mismatch": "image and mask have different sizes",
    "aspect": "another aspect ratio than --image_size, and --aspect=reject",
    "unknown_ids": "ids that the label table does not name",
    "unknown_colors": "colors that the label table does not name",
    "bad_polygons": "polygons or other regions that are damaged or can't be drawn",
    "unknown_labels": "names of regions that the label table does not have",
    "all_ignore": "a mask in which every pixel is ignored",
}


# Names of reasons in data sets and receipts of earlier versions.
_RENAMED = {"deep_colour": "deep_color", "unknown_colours": "unknown_colors"}


def reason_of(name: str) -> str:
    """The present name of the reason `name`, which may be that of an earlier version."""
    return _RENAMED.get(name, name)


def meaning_of(name: str) -> str:
    """The explanation of the reason `name`, for messages."""
    return REASONS.get(reason_of(name), "a reason that this version does not know")


class BadInputError(Exception):
    """A fault of one pair. `stage` is pair, read, decode or conform; `reason` is a key of `REASONS`."""

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise KeyError(reason)
        super().__init__(stage, reason, detail)
        self.stage, self.reason, self.detail = stage, reason, detail


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line of `rejected.jsonl`. `image` and `mask` are paths; None if the partner is missing."""

    key: str
    split: str
    image: str | None
    mask: str | None
    stage: str
    reason: str
    detail: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes, name: str = FILE_NAME) -> Rejected:
        """Raises SchemaError, which calls the line `name`."""
        return cls.of(schema.decode(RejectedFields, line, name))

    @classmethod
    def of(cls, fields: RejectedFields) -> Rejected:
        return cls(**msgspec.structs.asdict(fields) | {"reason": reason_of(fields.reason)})


def rejected_pair(key: str, split: str, image: str | None, mask: str | None, reason: str, detail: str) -> Rejected:
    """A pairing problem."""
    return Rejected(key=key, split=split, image=image, mask=mask, stage="pair", reason=reason, detail=detail)


class RejectedFields(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of a `Rejected`."""

    key: str
    split: str
    image: str | None
    mask: str | None
    stage: str
    reason: str
    detail: str
