"""Products of cases that take too long for every run: a few stand for all, and `make torture` runs the others too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def standing_for(chosen: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Parameters of a test: all `cases`, of which those that are not `chosen` have the marker `torture`."""
    cases = list(cases)
    assert set(chosen) <= set(cases), set(chosen) - set(cases)
    return [case if case in chosen else _marked(case) for case in cases]


def _marked(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.torture)
