"""Numbers of a comparison as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"


def percent(score: float) -> str:
    """A score from 0 to 1: 73.2, or absent."""
    return "absent" if math.isnan(score) else f"{100 * score:.1f}"


def points(difference: float) -> str:
    """The difference of two scores in percentage points: +1.2, or 0.0."""
    if math.isnan(difference):
        return ""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def interval(limits: Sequence[float]) -> str:
    """Of a difference, in percentage points: [+0.4, +2.0]."""
    low, high = limits
    return "" if math.isnan(low) or math.isnan(high) else f"[{points(low)}, {points(high)}]"


def chance(p: float) -> str:
    """A p-value: 0.032, 0.0001, <0.0001."""
    if math.isnan(p):
        return ""
    if p < 0.0001:
        return "<0.0001"
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}"
