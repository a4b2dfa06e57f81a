"""What is measured of ways to build the same pictures, as rates, ratios and costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """Wall seconds, and CPU seconds of all threads and processes."""

    seconds: float
    cpu_seconds: float

    def __sub__(self, other: Part) -> Part:
        return Part(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)


@dataclass(frozen=True)
class Run:
    """A whole command, and of it the part that grows with the pictures; the rest is fixed."""

    whole: Part
    pipeline: Part
    figures: dict[str, float] = field(default_factory=dict)  # memory and the like, by name
    shards: dict[str, str] = field(default_factory=dict)  # file -> SHA-256

    @property
    def fixed(self) -> Part:
        return self.whole - self.pipeline


def fixed_cpu_seconds(pairs: int, cpu_seconds: float, few: int, few_cpu_seconds: float) -> float:
    """What a command takes for no pairs, by a line through `pairs` and `few` of them."""
    for_each = (cpu_seconds - few_cpu_seconds) / (pairs - few)
    return few_cpu_seconds - few * for_each


def per(count: float, amount: float) -> float | None:
    """None if the amount is lost in noise, as that of a handful of pairs may be."""
    return count / amount if amount > 0 else None


def median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def rates(parts: Sequence[Part], pairs: int, cores: int) -> dict[str, Any]:
    """Medians of images per second, CPU second and vCPU second (wall seconds x cores), and what they are made of."""
    return {
        "img_per_s": rounded(median([per(pairs, part.seconds) for part in parts]), 1),
        "img_per_cpu_s": rounded(median([per(pairs, part.cpu_seconds) for part in parts]), 2),
        "img_per_vcpu_s": rounded(median([per(pairs, part.seconds * cores) for part in parts]), 2),
        **amounts(parts),
    }


def amounts(parts: Sequence[Part]) -> dict[str, list[float]]:
    return {
        "seconds": [round(part.seconds, 2) for part in parts],
        "cpu_seconds": [round(part.cpu_seconds, 2) for part in parts],
    }


def described(runs: Sequence[Run], pairs: int, cores: int) -> dict[str, Any]:
    """One way to build, over all rounds."""
    figures = {name: round(statistics.median(run.figures[name] for run in runs), 2) for name in runs[0].figures}
    return {
        "whole": rates([run.whole for run in runs], pairs, cores),
        "pipeline": rates([run.pipeline for run in runs], pairs, cores),
        "fixed": amounts([run.fixed for run in runs]),
        **figures,
    }


def ratios(ours: Sequence[Part], others: Sequence[Part]) -> dict[str, Any]:
    """Our images per second and per CPU second, over the other's in the same round: above 1, we are faster."""
    both = list(zip(ours, others, strict=True))
    found = {
        "img_per_s": [per(other.seconds, own.seconds) for own, other in both],
        "img_per_cpu_s": [
            per(other.cpu_seconds, own.cpu_seconds) if other.cpu_seconds > 0 else None for own, other in both
        ],
    }
    return {
        name: {"median": rounded(median(values), 3), "rounds": [rounded(value, 3) for value in values]}
        for name, values in found.items()
    }


def cost(runs: Sequence[Run], pairs: int, cores: int, price: float) -> dict[str, float | None]:
    """Dollars at `price` for an hour of a vCPU, which is paid for whether it computes or not."""

    def dollars(seconds: float) -> float:
        return seconds * cores * price / 3600

    whole = statistics.median(run.whole.seconds for run in runs)
    pipeline = statistics.median(run.pipeline.seconds for run in runs)
    fixed = statistics.median(run.fixed.seconds for run in runs)
    return {
        "whole_per_1000_images": rounded(dollars(whole) * 1000 / pairs, 6),
        "pipeline_per_1000_images": rounded(dollars(pipeline) * 1000 / pairs, 6),
        "fixed_per_command": rounded(dollars(fixed), 6),
    }


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
