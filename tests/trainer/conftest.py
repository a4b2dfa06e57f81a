"""A small data set, and a run on it that others are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import build, make_flat, no_transform
from tests.support.runs import RESUMED, STARTED, train


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 images of 32x64 in 4 shards to train on, 6 to evaluate on, so that the last batches are not full."""
    root = tmp_path_factory.mktemp("data")
    make_flat(root / "flat", train=18, val=6)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=4,val=2")
    with no_transform():
        assert build(f"--input={root / 'flat'}", f"--output={root / 'made'}", *options) == 0
    return root / "made"


@pytest.fixture(scope="session")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(dataset, run, *RESUMED)
    return run
