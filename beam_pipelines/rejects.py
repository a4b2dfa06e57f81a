"""Pairs that can't become a record: each has a stage, a reason and a detail, and is written to `rejected.jsonl`."""

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
    "unreadable": "the file is missing or can't be opened",
    "empty_file": "the file has no bytes",
    "bad_zip_member": "the archive's checksum or compression is broken",
    "not_an_image": "not a picture of a format that is read",
    "truncated": "the picture ends too early",
    "corrupt": "the picture's data is damaged",
    "animated": "more than one frame",
    "too_many_pixels": "larger than --max_image_pixels, perhaps a decompression bomb",
    "transparent": "pixels that are not opaque have no defined color",
    "deep_color": "more than 8 bits per channel that 8 bits can't hold",
    "unsupported_mode": "a pixel format that has no usual conversion to RGB",
    "rotated": "an EXIF orientation that the mask may or may not share",
    "mask_format": "a mask that is not a PNG of ids or of the table's colors",
    "ambiguous_mask": "a mask whose storage can be read as other classes too: --masks_are decides",
    "contradictory_mask": "a mask that is stored otherwise than the masks of its data set, and means something else so",
    "size_mismatch": "image and mask differ in size",
    "aspect": "another aspect ratio than --image_size, and --aspect=reject",
    "unknown_ids": "ids that the label table does not name",
    "unknown_colors": "colors that the label table does not name",
    "all_ignore": "a mask in which every pixel is ignored",
}


# Names that reasons had in data sets and receipts of earlier versions.
_RENAMED = {"deep_colour": "deep_color", "unknown_colours": "unknown_colors"}


def reason_of(name: str) -> str:
    """The reason that is called `name`, in this version or an earlier one."""
    return _RENAMED.get(name, name)


def meaning_of(name: str) -> str:
    """What the reason called `name` means, for people."""
    return REASONS.get(reason_of(name), "a reason that this version does not know")


class BadInputError(Exception):
    """Something is wrong with one pair. `stage` is pair, read, decode or conform; `reason` a key of `REASONS`."""

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise KeyError(reason)
        super().__init__(stage, reason, detail)
        self.stage, self.reason, self.detail = stage, reason, detail


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line of `rejected.jsonl`. `image` and `mask` are paths; None where that partner is missing."""

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


class RejectedFields(msgspec.Struct, forbid_unknown_fields=True):
    """What the JSON of a `Rejected` holds."""

    key: str
    split: str
    image: str | None
    mask: str | None
    stage: str
    reason: str
    detail: str
