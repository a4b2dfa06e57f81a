"""What the examples of a shard hold, counted while they are written: it becomes the shard's index."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from beam_pipelines.contract.index import Example, Index
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.pixel import LEVELS
from beam_pipelines.pixels.cells import heat_maps_of, places_of
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.measure import class_pixels_of, moments_of


@dataclass(frozen=True)
class _Measured:
    """What is counted of a record: `heat_maps` is int64[16, 32, n] of the n train ids `ids`."""

    moments: Moments
    ids: np.ndarray
    heat_maps: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, mask: np.ndarray) -> _Measured:
        ids = np.flatnonzero(class_pixels_of(mask))
        return cls(moments_of(image), ids, heat_maps_of(mask, ids))

    @property
    def levels(self) -> tuple[int, int]:
        """The sum of all values, and the sum of their squares."""
        counts, values = self.moments.histogram.sum(0), np.arange(LEVELS)
        return int(counts @ values), int(counts @ values**2)


@dataclass
class Contents:
    """The examples of a shard, in the order of its records, and the sums over them."""

    moments: Moments = field(default_factory=Moments.zero)
    heat_maps: dict[int, np.ndarray] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def add(self, key: str, sample: Sample) -> None:
        """Counts a sample that was made from its files. Raises ValueError if it has no fingerprint."""
        if sample.fingerprint is None:
            raise ValueError(f"the sample {sample.filename} has no fingerprint")
        measured, size = _Measured.of(sample.image, sample.mask), (sample.mask.shape[0], sample.mask.shape[1])
        self._sum(measured)
        example = Example(
            key=key,
            filename=sample.filename,
            source_size=sample.source_size,
            size=size,
            levels=measured.levels,
            classes=places_of(measured.heat_maps, measured.ids, size),
            pixels_digest=sample.fingerprint.pixels_digest,
            hashes=sample.fingerprint.hashes,
            minus_ones=sample.minus_ones,
            repairs=dict(sorted(sample.repairs.items())),
        )
        self.examples.append(example)

    def carry(self, example: Example, image: np.ndarray, mask: np.ndarray) -> None:
        """Counts the record of an `example` of another shard: `image` uint8[H, W, 3], `mask` uint8[H, W]."""
        self._sum(_Measured.of(image, mask))
        self.examples.append(example)

    def index(self, split: str) -> Index:
        return Index(split=split, moments=self.moments, heat_maps=self.heat_maps, examples=self.examples)

    def _sum(self, measured: _Measured) -> None:
        self.moments += measured.moments
        for n, train_id in enumerate(measured.ids.tolist()):
            self.heat_maps[train_id] = self.heat_maps.get(train_id, 0) + measured.heat_maps[..., n]
