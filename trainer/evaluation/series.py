"""The curves of a run, from the rows of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST = 200  # points of a thin curve


def points_of(rows: Sequence[Mapping[str, Any]], split: str, name: str) -> list[tuple[float, float]]:
    """(epoch, value) of the rows of `split` that have a value."""
    return [(row["epoch"], row[name]) for row in rows if row["split"] == split and row.get(name) is not None]


def thin_points_of(rows: Sequence[Mapping[str, Any]], split: str, name: str) -> list[tuple[float, float]]:
    """The same; of many, every n-th and the last."""
    points = points_of(rows, split, name)
    step = max(1, -(-len(points) // _MOST))
    return points[::step] + (points[-1:] if (len(points) - 1) % step else []) if points else []
