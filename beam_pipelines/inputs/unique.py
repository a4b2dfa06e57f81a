"""Pairs whose keys are given, not claimed by folders: each key may occur once."""

from __future__ import annotations

import itertools

from beam_pipelines.files.spool import source_of
from beam_pipelines.inputs.pairs import PairList
from beam_pipelines.rejects import Rejected, rejected_pair


def unique(pairs: PairList) -> tuple[PairList, list[Rejected]]:
    """The `pairs`, sorted by key, whose key is theirs alone; those of a repeated key become a problem."""
    kept: list[int] = []
    rejected: list[Rejected] = []
    start = 0
    for key, same in itertools.groupby(pair.key for pair in pairs):
        count = sum(1 for _ in same)
        if count == 1:
            kept.append(start)
        else:
            first = pairs[start]
            names = " and ".join(pair.filename for pair in pairs[start : start + count])
            detail = f"{names} have the same key {key}"
            rejected.append(
                rejected_pair(key, first.split, first.image, source_of(first.mask), "duplicate_key", detail)
            )
        start += count
    return (pairs if len(kept) == len(pairs) else pairs.reordered(kept)), rejected
