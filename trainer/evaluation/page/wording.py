"""Numbers of a report as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from beam_pipelines.contract.pages import share
from trainer.inference.views import WHOLE, Views

NONE = "\N{EN DASH}"


def percent(value: float) -> str:
    """A share: 73.2%; a dash for NaN."""
    return NONE if math.isnan(value) else share(value)


def interval(limits: Sequence[float] | np.ndarray) -> str:
    """Of a share, in percent: [72.7, 73.7]; empty for NaN."""
    low, high = limits
    return "" if math.isnan(low) or math.isnan(high) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def views_words(views: Views) -> str:
    """What is averaged, by the names of the options."""
    changed = [each.name for each in fields(views) if getattr(views, each.name) != getattr(WHOLE, each.name)]
    return ", ".join(f"{name} {_plain(getattr(views, name))}" for name in changed) or "the whole image"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "on"
    return " ".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)
