"""A worker on this machine, with the package that a job stages."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from apache_beam.portability import common_urns
from apache_beam.runners.dataflow.internal import apiclient

from launch.dataflow import preview
from launch.dataflow.worker import load_graph, make_worker, run_worker
from tests.support.builds import PROJECT


@pytest.fixture(scope="module")
def worker(job: apiclient.Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the package that was sent, and no other code of this project."""
    sent = dict(preview.staged_files(job))
    return make_worker(tmp_path_factory.mktemp("worker") / "env", Path(sent["workflow.tar.gz"]))


def test_the_worker_image_has_the_versions_and_the_files_of_the_project() -> None:
    lines = (PROJECT / "launch" / "Dockerfile.worker").read_text().splitlines()
    versions = dict(line.removeprefix("ARG ").split("=") for line in lines if line.startswith("ARG "))
    pinned = (PROJECT / "constraints.txt").read_text().splitlines()
    assert f"apache-beam=={versions['BEAM']}" in pinned
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert set(copied) == {"setup.py", "pyproject.toml", "beam_pipelines"}
    assert all((PROJECT / name).exists() for name in copied)
    assert not [line for line in lines if line.startswith(("ENTRYPOINT", "CMD"))], "Beam's own starts the worker"


def test_a_worker_installs_the_pixel_path_only(worker: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('street-scenes')))"
    found = json.loads(run_worker(worker, "-c", code, cwd=tmp_path).stdout)
    needed = {re.match(r"[\w-]+", line)[0] for line in found if "extra ==" not in line}  # type: ignore[index]
    assert needed == {"google-crc32c", "imagecodecs", "imgread", "msgspec", "numpy", "pillow", "pycocotools", "xxhash"}


def test_every_function_of_the_graph_unpickles_on_a_worker_without_tensorflow(job: apiclient.Job, worker: Path) -> None:
    graph = job.proto_pipeline.SerializeToString()
    found = load_graph(graph, worker)
    pardos = {
        transform.unique_name
        for transform in job.proto_pipeline.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
    }
    assert set(found.functions) == pardos
    assert found.functions["StageShards/Stage"] == "StageShardFn"
    assert found.functions["FinishShards/Normalize"] == "FinishShardFn"
    tops = {name.partition(".")[0] for name in found.modules} - sys.stdlib_module_names
    assert tops <= {
        "PIL",
        "beam_pipelines",
        "google_crc32c",
        "imagecodecs",
        "imgread",
        "msgspec",
        "numpy",
        "pycocotools",
        "xxhash",
    }
    assert "beam_pipelines.shards.stage" in found.modules
    assert load_graph(graph).modules == found.modules


def test_the_probe_of_a_worker_can_fail(job: apiclient.Job, worker: Path, tmp_path: Path) -> None:
    place = run_worker(worker, "-c", "import beam_pipelines; print(beam_pipelines.__file__)", cwd=tmp_path).stdout
    assert Path(place.strip()).is_relative_to(worker.parent.parent)
    refused = run_worker(worker, "-c", "import tensorflow", cwd=tmp_path)
    assert "ImportError: a worker has no tensorflow" in refused.stderr
    bare = make_worker(tmp_path / "bare", None)
    assert run_worker(bare, "-c", "import apache_beam, imagecodecs", cwd=tmp_path).returncode == 0
    assert "No module named 'beam_pipelines'" in run_worker(bare, "-c", "import beam_pipelines", cwd=tmp_path).stderr
