"""A project, a bucket and a data set in which nothing is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import build, make_flat
from tests.support.diagnosis import L4
from tests.support.fake_google import REGION, FakeGoogle, set_location

ROOM = {"CPUS": (200.0, 8.0), "IN_USE_ADDRESSES": (70.0, 0.0), "DISKS_TOTAL_GB": (4096.0, 0.0)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, without_transform: None) -> Path:
    """4 and 2 shards of 12 and 4 examples."""
    root = tmp_path_factory.mktemp("data")
    flags = ("--labels=camvid11", "--image_size=32x64", "--shards=train=4,val=2")
    assert build(f"--input={make_flat(root / 'flat')}", f"--output={root / 'made'}", *flags) == 0
    return root / "made"


@pytest.fixture(scope="module")
def regional(bucket: str) -> str:
    """The emulator's bucket, in the region of the job."""
    set_location("EUROPE-WEST4")
    return bucket


@pytest.fixture
def google(bucket: str) -> FakeGoogle:
    """A project in which nothing is missing."""
    buckets_of_l4: list[dict[str, Any]] = [
        {"effectiveLimit": "0"},
        {"effectiveLimit": "4", "dimensions": {"region": REGION}},
    ]
    return FakeGoogle(quotas=dict(ROOM), accelerators={L4: buckets_of_l4})
