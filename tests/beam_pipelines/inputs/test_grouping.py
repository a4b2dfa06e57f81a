"""The proposal of a --group_by, which has to join what leaks and to leave groups to divide."""

from __future__ import annotations

import pytest

from beam_pipelines.inputs.grouping import LEAST_GROUPS, proposed_grouping
from beam_pipelines.inputs.splits import group_of

DRIVES = [f"drive{drive:02d}_{frame:06d}" for drive in range(12) for frame in range(5)]
FOLDERS = [f"{city}/{city}_{frame:04d}_0019" for city in map("city{:02d}".format, range(11)) for frame in range(3)]


@pytest.mark.parametrize(
    ("keys", "pairs", "proposed"),
    [
        (DRIVES, [("drive03_000001", "drive03_000004"), ("drive11_000000", "drive11_000002")], "^(.+)[/_-]"),
        (FOLDERS, [("city01/city01_0000_0019", "city01/city01_0002_0019")], "^(.+)/"),
        ([f"shot{a}x{b}" for a in range(10) for b in range(9)], [("shot4x1", "shot4x8")], "^(.+?)[0-9]+$"),
    ],
    ids=["drives", "folders", "numbers at the end"],
)
def test_a_beginning_that_joins_every_pair_is_proposed(keys, pairs, proposed) -> None:
    assert proposed_grouping(pairs, keys) == proposed
    assert all(group_of(one, proposed) == group_of(other, proposed) for one, other in pairs)
    assert len({group_of(key, proposed) for key in keys}) >= LEAST_GROUPS


@pytest.mark.parametrize(
    ("keys", "pairs"),
    [
        (DRIVES, []),
        (DRIVES, [("drive03_000001", "drive03_000004"), ("drive03_000001", "drive04_000001")]),
        (DRIVES[:45], [("drive03_000001", "drive03_000004")]),
        ([*DRIVES, "intro"], [("drive03_000001", "drive03_000004")]),
        ([str(number) for number in range(100)], [("1", "20")]),
    ],
    ids=["no leak", "one pair in two drives", "nine drives", "a key without a group", "bare numbers"],
)
def test_nothing_is_proposed_that_would_not_help(keys, pairs) -> None:
    assert proposed_grouping(pairs, keys) is None
