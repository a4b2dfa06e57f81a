"""Proposes a --group_by: what in the names of pictures tells that they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.splits import group_of

# Beginnings of keys, those that make more groups first.
BEGINNINGS = (r"^(.+)[/_-]", r"^(.+?)[0-9]+$", r"^(.+)/", r"^([^/_-]+[/_-][^/_-]+)[/_-]", r"^([^/_-]+)[/_-]")
LEAST_GROUPS = 10  # fewer can't be divided by shares


def proposed_grouping(pairs: Sequence[tuple[str, str]], keys: Iterable[str]) -> str | None:
    """The first expression of BEGINNINGS that puts both keys of each of `pairs` into one group, finds a group in each
    of `keys`, and makes at least LEAST_GROUPS groups of them; None if there is none.
    """
    joining = [beginning for beginning in BEGINNINGS if pairs and all(_joins(beginning, *pair) for pair in pairs)]
    groups: dict[str, set[str]] = {beginning: set() for beginning in joining}
    for key in keys if joining else ():
        for beginning, found in list(groups.items()):
            group = _group(beginning, key)
            if group is None:
                del groups[beginning]
            elif len(found) < LEAST_GROUPS:
                found.add(group)
    return next((beginning for beginning, found in groups.items() if len(found) == LEAST_GROUPS), None)


def _joins(beginning: str, one: str, other: str) -> bool:
    group = _group(beginning, one)
    return group is not None and group == _group(beginning, other)


def _group(beginning: str, key: str) -> str | None:
    try:
        return group_of(key, beginning)
    except BuildError:
        return None
