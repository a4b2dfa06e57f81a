"""The graph as a worker would load it."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from beam_pipelines import graph
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.recipe import Recipe
from launch.dataflow import options
from launch.dataflow.worker import make_worker
from launch.errors import LaunchError
from tests.support.diagnosis import found_by


def test_a_step_that_can_not_be_pickled_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def initialize(step: graph.StageShardFn, recipe: Recipe, workspace: Workspace) -> None:
        step._recipe, step._workspace, step.numbers = recipe, workspace, (number for number in range(3))

    monkeypatch.setattr(graph.StageShardFn, "__init__", initialize)
    message = found_by("graph")["graph"]
    assert message.startswith("failure a step cannot be pickled, ")
    assert "generator" in message
    assert message.endswith("do not store process-local objects in it; create them in setup()")


def test_a_step_that_workers_can_not_load_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is in a module of this process that is not in the package."""
    elsewhere = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    exec("from beam_pipelines import graph\nclass Mine(graph.StageShardFn): pass", elsewhere.__dict__)
    monkeypatch.setattr(graph, "StageShardFn", elsewhere.Mine)
    assert found_by("graph") == {
        "graph": "failure a worker could not load the graph: ModuleNotFoundError: No module named 'elsewhere'"
    }


def test_a_package_that_workers_can_not_install_is_named(tmp_path: Path) -> None:
    (tmp_path / "workflow.tar.gz").write_bytes(b"no archive")
    with pytest.raises(LaunchError, match=r"^a worker could not install workflow\.tar\.gz: "):
        make_worker(tmp_path / "worker", tmp_path / "workflow.tar.gz")


def test_outside_of_a_checkout_there_is_nothing_to_send(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(options, "SETUP_FILE", tmp_path / "setup.py")
    assert found_by("graph") == {
        "graph": f"failure {tmp_path}/setup.py does not exist: run this command from a checkout of the project"
    }


def test_without_beam_there_is_no_graph_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "build", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "build" else name)
    assert found_by("graph") == {"graph": "skipped build not installed: pip install '.[pipelines]'"}
