"""A Dataflow service, a job that is not submitted to it, and its input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.runners.dataflow.internal import apiclient

from beam_pipelines import progress
from launch.dataflow import job as job_module
from tests.support.builds import make_uneven, upload
from tests.support.dataflow_runs import offline
from tests.support.fake_dataflow import FakeDataflow


@pytest.fixture(scope="session")
def job() -> apiclient.Job:
    return offline("--job_labels=team=vision", "--no_use_public_ips")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDataflow]:
    """Dataflow, which is looked at more often than the real one."""
    monkeypatch.setattr(job_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(job_module, "MESSAGE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.1)
    with FakeDataflow() as service:
        yield service
        service.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, bucket: str) -> Path:
    """A folder that is in the bucket, too, at gs://street/in."""
    folder = make_uneven(tmp_path_factory.mktemp("flat"))
    upload(folder, f"{bucket}/in")
    return folder
