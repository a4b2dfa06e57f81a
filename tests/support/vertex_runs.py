"""launch.vertex as the tests run it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launch.vertex.__main__ import main
from tests.support.fake_vertex import FakeVertex

DATASET = "gs://street/data/scenes"
PLACE = ("--project=street", "--region=europe-west4", "--output=gs://street/runs/first")


def submit(vertex: FakeVertex, *arguments: str, dataset: str = DATASET) -> int:
    return main([*PLACE, f"--dataset={dataset}", f"--endpoint={vertex.start()}", *arguments])


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    """-> the request, and the summary."""
    assert main([*PLACE, f"--dataset={DATASET}", "--dry_run", *arguments]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err
