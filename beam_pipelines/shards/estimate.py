"""Estimates what a build will write, from a few of its pairs: bytes of an example in each encoding, and shapes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.masks import PLAIN, MaskReading
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.stage import file_reader, prepare, to_record

SAMPLES = 3
TRIES = 32  # pairs looked at to find SAMPLES good ones
_VALUE_BYTES = {"float32": 4, "float16": 2, "uint8": 1}


@dataclass(frozen=True)
class Estimate:
    """`example_bytes`: image encoding -> mean bytes of a framed record, with the recipe's mask encoding."""

    example_bytes: dict[str, float]
    staged_bytes: float


def estimate(pairs: Sequence[Pair], recipe: Recipe, reading: MaskReading = PLAIN) -> Estimate:
    """From the first good pairs of `pairs`, which a hash has shuffled.

    Raises:
      BuildError: the pictures do not have the aspect of --image_size, or not one pair could be read.
    """
    reader = file_reader(recipe)
    samples: list[Sample] = []
    rejected: list[Rejected] = []
    for pair in pairs[:TRIES]:
        sample = prepare(pair, recipe, reader, reading)
        if isinstance(sample, Rejected):
            rejected.append(sample)
        else:
            samples.append(sample)
        if len(samples) == SAMPLES:
            break
    reader.close()
    if not samples:
        raise BuildError(_nothing_usable(rejected))
    encodings = (*_VALUE_BYTES, "png")
    sizes = {
        encoding: statistics.mean(_record_bytes(sample, recipe, encoding) for sample in samples)
        for encoding in encodings
    }
    return Estimate(sizes, sizes["uint8"] if recipe.normalized else 0.0)


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
            f"the pictures do not have the shape of --image_size: {first.key}: {first.detail}. Choose "
            "--aspect=crop (crop around the center), pad, or stretch; or --image_size=native"
        )
    found = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return f"none of the first {len(rejected)} pairs can be used: {found}. The first: {first.key}: {first.detail}"
