"""Estimates the size of an example in each encoding, and the time that a pair takes, from a few pairs."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.mask_readings import PLAIN, MaskReading
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.stage import file_reader, prepare, to_record

SAMPLES = 3
TRIES = 32  # pairs that are tried to find SAMPLES good ones
_VALUE_BYTES = {record.RAW_DTYPES[image_format]: size for image_format, size in record.ITEM_BYTES.items()}
_ENCODINGS = (*_VALUE_BYTES, "png")


@dataclass(frozen=True)
class Estimate:
    """`example_bytes`: image encoding -> mean bytes of a framed record with the recipe's mask encoding. `staged_bytes`
    are those of a staged record, 0 if shards are not staged. `pair_seconds` is the time in which one core
    reads, conforms and encodes a pair: a median, since the first one also loads the decoders.
    """

    example_bytes: dict[str, float]
    staged_bytes: float
    pair_seconds: float

    def build_seconds(self, pairs: int, cores: int) -> float:
        """About how long the pipeline takes on `cores`; its start, counting and normalizing are not in it."""
        return pairs * self.pair_seconds / cores


def estimate(
    pairs: Iterable[Pair],
    recipe: Recipe,
    reading: MaskReading = PLAIN,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Estimates from the first good pairs of `pairs`, which are shuffled.

    Raises:
      BuildError: the images have another aspect ratio than --image_size, or no pair could be read.
    """
    sizes: list[dict[str, int]] = []
    seconds: list[float] = []
    rejected: list[Rejected] = []
    with contextlib.closing(file_reader(recipe)) as reader:
        for pair in itertools.islice(pairs, TRIES):
            start = clock()
            sample = prepare(pair, recipe, reader, reading)
            if isinstance(sample, Rejected):
                rejected.append(sample)
                continue
            own = {recipe.image_encoding: _record_bytes(sample, recipe, recipe.image_encoding)}
            seconds.append(clock() - start)
            others = (encoding for encoding in _ENCODINGS if encoding not in own)
            sizes.append(own | {encoding: _record_bytes(sample, recipe, encoding) for encoding in others})
            if len(sizes) == SAMPLES:
                break
    if not sizes:
        raise BuildError(_nothing_usable(rejected))
    means = {encoding: statistics.mean(size[encoding] for size in sizes) for encoding in _ENCODINGS}
    return Estimate(means, means["uint8"] if recipe.normalized else 0.0, statistics.median(seconds))


def _record_bytes(sample: Sample, recipe: Recipe, encoding: str) -> int:
    image_format = "png" if encoding == "png" else "raw_uint8"
    serialized = len(record.encode(to_record(sample, image_format, recipe.mask_format)))
    wider = sample.image.size * (_VALUE_BYTES.get(encoding, 1) - 1)
    return tfrecord.framed_bytes(serialized + wider)


def _nothing_usable(rejected: Sequence[Rejected]) -> str:
    reasons = Counter(problem.reason for problem in rejected)
    first = rejected[0]
    if set(reasons) == {"aspect"}:
        return (
            f"the images have another aspect ratio than --image_size: {first.key}: {first.detail}. Choose "
            "--aspect=crop (around the center), pad or stretch, or --image_size=native"
        )
    found = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return f"none of the first {len(rejected)} pairs can be used: {found}. The first: {first.key}: {first.detail}"
