"""What a Dataflow job is predicted to cost: time, vCPU-hours and US dollars."""

from __future__ import annotations

import math
from dataclasses import dataclass

from launch.dataflow.workers import Workers

# Of one vCPU, from 2048x1024 PNG to 256x512 float32 (measured, see the table of speeds in beam_pipelines/README.md).
IMAGES_PER_SECOND = 24.0
# USD in us-central1 on e2-standard: 0.056 for the vCPU and 4 x 0.003557 for its 4 GB.
VCPU_HOUR = "0.0702@2025-06"
# Assumption: from the request of a virtual machine to the first image, including the installation of the package.
START_MINUTES = 4.0


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars per hour of a vCPU with its memory, and the date of that price."""

    usd: float
    date: str


@dataclass(frozen=True)
class Cost:
    """A job with `workers` machines: `minutes` from start to end, and the vCPU-hours that are charged."""

    workers: int
    vcpus: int
    minutes: float
    vcpu_hours: float


def predict(images: int, shards: int, workers: Workers, images_per_second: float) -> list[Cost]:
    """The cost with one worker and with the maximum. A shard is the unit of work: more vCPUs than shards stay idle."""
    return [_predict(images, shards, count, workers.vcpus, images_per_second) for count in sorted({1, workers.limit})]


def per_thousand(images_per_second: float, price: Price) -> float:
    """US dollars for 1,000 images, without the start of the job."""
    return 1000 / images_per_second / 3600 * price.usd


def _predict(images: int, shards: int, count: int, vcpus_each: int, images_per_second: float) -> Cost:
    vcpus = count * vcpus_each
    minutes = START_MINUTES + images / (images_per_second * min(vcpus, shards)) / 60
    return Cost(count, vcpus, minutes, vcpus * minutes / 60)


def useful_workers(shards: int, workers: Workers) -> int:
    """The number of workers beyond which some vCPUs have no shard to work on."""
    return math.ceil(shards / workers.vcpus)
