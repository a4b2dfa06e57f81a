"""The recipe: everything that determines the bytes of a data set, besides the images and masks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.picture_rules import REJECT, Rules
from beam_pipelines.contract.record import is_normalized

SCENES = "(embedded scenes)"  # the input if none is given
MASKS_ARE = ("auto", "ids", "levels", "colors")  # see pixels/mask_readings.py


def input_paths(text: str) -> list[str]:
    """The paths in an --input, separated by commas; a path that exists is one path, even if it has commas."""
    return [text] if os.path.lexists(text) else text.split(",")


@dataclass(frozen=True, kw_only=True)
class BorrowedMoments:
    """Moments of another data set: of its split, at `dataset`."""

    dataset: str
    fingerprint: str
    split: str
    moments: Moments

    def to_json(self) -> dict[str, Any]:
        """Without the moments, which follow from the fingerprint and the pixels."""
        digest = hashlib.sha256(self.moments.histogram.tobytes()).hexdigest()
        return {"dataset": self.dataset, "fingerprint": self.fingerprint, "split": self.split, "sha256": digest}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines the bytes of a data set, besides the images and masks.

    `image_size` is (height, width), or None for native. `shards` and `split_fractions` are split -> number. `images`
    and `masks` are templates of names. The JSON has fields with a default only if they differ from it.
    """

    input: str
    annotations: str | None
    split_names: tuple[str, ...]
    split_fractions: Mapping[str, float]
    group_by: str | None
    labels: LabelTable
    image_size: tuple[int, int] | None
    resize: str
    aspect: str
    image_encoding: str
    mask_encoding: str
    shard_size_mb: float
    shards: Mapping[str, int]
    seed: int
    max_pairs: int | None
    max_image_pixels: int
    masks_are: str = MASKS_ARE[0]
    layout: str | None = None
    images: str | None = None
    masks: str | None = None
    pool_splits: bool = False
    moments_split: str = "train"
    moments_from: BorrowedMoments | None = None
    orient: str = REJECT
    alpha: str = REJECT
    deep: str = REJECT

    def to_json(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        value["labels"] = self.labels.name
        value["moments_from"] = self.moments_from and self.moments_from.to_json()
        value["split_fractions"], value["shards"] = dict(self.split_fractions), dict(self.shards)
        # Without what is as by default: the same recipe as before the option existed.
        return {name: each for name, each in value.items() if name not in DEFAULTS or each != DEFAULTS[name]}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recipe with its whole label table, in hex."""
        value = json.dumps(self.to_json() | {"labels": self.labels.to_json()}, sort_keys=True)
        return hashlib.sha256(value.encode()).hexdigest()

    @property
    def rules(self) -> Rules:
        """Which pictures are taken."""
        return Rules(orient=self.orient, alpha=self.alpha, deep=self.deep)

    @property
    def image_format(self) -> str:
        return _format_of(self.image_encoding)

    @property
    def mask_format(self) -> str:
        return _format_of(self.mask_encoding)

    @property
    def normalized(self) -> bool:
        return is_normalized(self.image_format)

    @property
    def staged_format(self) -> str:
        """The image format of staged shards, which are written before the moments are known."""
        return "raw_uint8" if self.normalized else self.image_format


DEFAULTS: Mapping[str, Any] = {
    each.name: each.default for each in dataclasses.fields(Recipe) if each.default is not dataclasses.MISSING
}


def _format_of(encoding: str) -> str:
    return "png" if encoding == "png" else f"raw_{encoding}"
