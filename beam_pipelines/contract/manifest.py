"""`dataset.json`: everything that reading a data set takes. It is written last; the data set exists when it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.record import RAW_DTYPES

FILE_NAME = "dataset.json"
FORMAT_VERSION = 1


class ManifestError(ValueError):
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

    def examples(self, split: str) -> int:
        return sum(shard.examples for shard in self.splits[split])

    def bytes(self, split: str) -> int:
        return sum(shard.bytes for shard in self.splits[split])

    def to_json(self) -> str:
        value = {
            "format_version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "recipe": dict(self.recipe),
            "pixels": asdict(self.pixels) | {"channels": 3, "normalized": self.pixels.normalized},
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
        return _render(value) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = FILE_NAME) -> Manifest:
        """Raises ManifestError, which calls the manifest `name`."""
        try:
            value = json.loads(text)
            version = value["format_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise ManifestError(f"{name} is not the manifest of a data set ({error!r}); build the data set") from error
        if version != FORMAT_VERSION:
            raise ManifestError(
                f"{name} has format version {version!r} and this code reads {FORMAT_VERSION}: "
                "use the version of this project that wrote it, or build the data set again"
            )
        try:
            return cls._from_value(value)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ManifestError(f"{name} is damaged ({error!r}); build the data set again") from error

    @classmethod
    def _from_value(cls, value: dict[str, Any]) -> Manifest:
        pixels = {key: value["pixels"][key] for key in ("height", "width", "image_format", "mask_format")}
        return cls(
            fingerprint=value["fingerprint"],
            recipe=value["recipe"],
            pixels=PixelFormat(**pixels),
            labels=LabelTable.from_json(value["labels"]),
            moments_split=value["moments"]["split"],
            moments=Moments(np.array(value["moments"]["histogram"], np.int64)),
            class_pixels={split: tuple(counts) for split, counts in value["class_pixels"].items()},
            ignored_pixels=value["ignored_pixels"],
            splits={
                name: tuple(Shard(**shard) for shard in split["shards"]) for name, split in value["splits"].items()
            },
            rejected=value["rejected"]["by_reason"],
            timing=value["timing"],
        )


def not_built(folder: str) -> str:
    """What to tell a user whose `folder` has no manifest."""
    return (
        f"{folder} has no {FILE_NAME}: there is no data set, or its build did not finish. "
        "Start the same `python -m beam_pipelines.build` command again; it goes on where it stopped"
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
