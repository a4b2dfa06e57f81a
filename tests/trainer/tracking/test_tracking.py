"""Runs that are followed in real trackers on this machine: MLflow's SQLite, W&B's offline files; and one that hangs."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
from rich.console import Console

import tests.support.tiny  # noqa: F401  enters its model into the table
from tests.support import wandb_files
from tests.support.runs import RESUMED, assert_same, command, rows, start, train_here, train_several
from trainer.config import parse_train
from trainer.tracking import TRACKERS, follower
from trainer.tracking.facts import About, metrics_of
from trainer.tracking.follower import Follower
from trainer.training.run import run

for package in TRACKERS:
    pytest.importorskip(package)

pytestmark = [
    pytest.mark.timeout(600),
    # TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SHORT = ("--steps=4", "--checkpoint_steps=2", "--no_export", "--no_report", "--track=mlflow")
ROWS: Sequence[dict[str, Any]] = [
    {"step": 1, "epoch": 0.5, "split": "train", "loss": 2.0, "mean_iou": None},
    {"step": 2, "epoch": 1.0, "split": "train", "loss": 1.0, "mean_iou": 0.5},
    {"step": 2, "epoch": 1.0, "split": "val", "loss": None, "mean_iou": 0.25, "class_iou": {"Auto (parkend)": 0.5}},
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow with its tables, which take seconds to make; a run that is killed over it leaves some."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # below which it keeps what is not in the database
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.MlflowClient().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Path(shutil.copy(empty_store, tmp_path))


def mlflow_runs() -> list[Any]:
    import mlflow

    return list(mlflow.MlflowClient().search_runs(["0"]))


def tracked(run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Metric -> its steps and values, in the order that they came in."""
    import mlflow

    client = mlflow.MlflowClient()
    names = client.get_run(run_id).data.metrics
    return {name: [(each.step, each.value) for each in client.get_metric_history(run_id, name)] for name in names}


def logged(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of metrics.jsonl, without the speed."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in [*rows(folder), *rows(folder, "val")]:
        for name, value in metrics_of(row).items():
            found.setdefault(name, []).append((row["step"], value))
    return found


def without_speed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not name.endswith("images_per_second")}


# Killed between two checkpoints, when the tracker has what the first two cover.
KILLED = """
import os, signal, sys, time, keras, tests.support.tiny
from pathlib import Path
from trainer.config import parse_train
from trainer.training.run import run

class Killed(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs):
        while logs["step"] == 8:
            time.sleep(0.05)
            record = Path(config.places.output, "tracking.json")
            if record.exists() and '"train": 6' in record.read_text():
                os.kill(os.getpid(), signal.SIGKILL)

config = parse_train(sys.argv[1:])
run(config, [Killed()])
"""


def test_a_killed_run_goes_on_in_the_same_run_of_mlflow_to_the_same_bits(
    dataset: Path, tmp_path: Path, store: Path
) -> None:
    import mlflow

    folder, alone = tmp_path / "run", tmp_path / "alone"
    options = ("--epochs=3", *RESUMED[1:], "--no_export", "--no_report", "--track=mlflow")
    process = start([sys.executable, "-c", KILLED, *command(dataset, folder, *options)[3:]])
    process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL
    said = train_several(dataset, {folder: options, alone: options[:-1]})
    assert_same(folder, alone)
    (found,) = mlflow_runs()
    assert f"experiment 0, run {found.info.run_id}" in said[0]
    assert found.info.status == "FINISHED"
    assert without_speed(tracked(found.info.run_id)) == logged(folder)
    parameters = found.data.params
    assert (parameters["epochs"], parameters["model"], parameters["images"]) == ("3", "tiny", "18")
    assert len(parameters["dataset_fingerprint"]) == 64
    assert not {"cluster", "reports_metric"} & parameters.keys()
    kept = Path(mlflow.artifacts.download_artifacts(run_id=found.info.run_id, dst_path=str(tmp_path / "kept")))
    assert (kept / "best.keras").read_bytes() == (folder / "best.keras").read_bytes()
    assert {"config.json", "metrics.jsonl"} <= {path.name for path in kept.iterdir()}


def test_a_finished_run_is_not_tracked_twice_and_one_that_goes_on_is(
    dataset: Path, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(dataset, tmp_path / "run", *SHORT) == 0
    before, record = store.read_bytes(), (tmp_path / "run" / "tracking.json").read_bytes()
    assert train_here(dataset, tmp_path / "run", *SHORT) == 0
    assert store.read_bytes() == before
    assert (tmp_path / "run" / "tracking.json").read_bytes() == record
    assert train_here(dataset, tmp_path / "run", "--steps=6", *SHORT[1:]) == 0
    (found,) = mlflow_runs()
    assert without_speed(tracked(found.info.run_id)) == logged(tmp_path / "run")
    assert found.data.params["steps"] == "4"
    assert found.data.tags["street_scenes.changed"] == '{"steps": "6"}'


def test_a_tracker_that_is_down_costs_a_line_and_gets_everything_later(
    dataset: Path, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert train_here(dataset, tmp_path / "run", *SHORT) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--track=mlflow: ")]
    assert len(told) == 2
    assert "training goes on, and what is missing is added later" in told[0]
    assert told[1].endswith("not all of the run is there; the same command, run again, adds what is missing")
    assert not [line for line in told if "secret" in line]
    assert train_here(dataset, tmp_path / "run", *SHORT) == 0
    assert "is already complete" in capsys.readouterr().out
    (found,) = mlflow_runs()
    assert without_speed(tracked(found.info.run_id)) == logged(tmp_path / "run")


class Preempted(keras.callbacks.Callback):
    """In the first evaluation, when the row of the last update is written and that of the evaluation is not."""

    def on_test_begin(self, logs: Any = None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_stopped_goes_on_in_the_same_run_of_wandb(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setattr(follower, "STOP_SECONDS", 200.0)
    folder = tmp_path / "run"
    options = ["--epochs=2", "--no_export", "--track=wandb", "--checkpoint_steps=2"]
    stopped = run(parse_train(command(dataset, folder, *options)[3:]), [Preempted()])
    assert stopped.signal == signal.SIGTERM
    assert train_here(dataset, folder, *options) == 0
    assert train_here(dataset, folder, *options) == 0, "of which there is nothing to track"
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({path.name for path in files}) == 1, "the same id"
    lines = [line for path in files for line in wandb_files.history(path)]
    lines = [line for line in lines if line.keys() - {"_step", "_runtime", "_timestamp"}]
    assert [line["_step"] for line in lines] == list(range(1, 11))
    metrics = {
        name: [(line["_step"], line[name]) for line in lines if name in line]
        for name in {name for line in lines for name in line if not name.startswith("_")}
    }
    assert without_speed(metrics) == logged(folder)
    assert wandb_files.config(files[0])["images"] == 18
    kept = wandb_files.artifacts(files[1])
    assert [sorted(names) for name, names in sorted(kept.items()) if name.startswith("model-")] == [["best.keras"]]
    assert any("report/metrics.json" in names for names in kept.values())


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


def make_follower(folder: Path, said: io.StringIO, tracker: str = "mlflow") -> Follower:
    about = About(name="run", settings={"epochs": 2, "random_scale": [0.5, 2.0]})
    return Follower(tracker, about, str(folder), Console(file=said, width=500))


@pytest.mark.parametrize("lost", ["steps", "id"])
def test_rows_that_were_tracked_just_before_a_kill_are_not_tracked_again(
    tmp_path: Path, store: Path, said: io.StringIO, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is older than what the tracker has: by its rows, or by all but the key."""
    monkeypatch.setattr(follower, "STOP_SECONDS", 200.0)  # a busy machine is no failure
    path = tmp_path / "tracking.json"
    with make_follower(tmp_path, said) as first:
        first.follow(ROWS[:1])
    record = json.loads(path.read_text())["mlflow"]
    path.write_text(json.dumps({"mlflow": record | {"steps": {}} | ({"id": ""} if lost == "id" else {})}))
    with make_follower(tmp_path, said) as second:
        second.follow(ROWS)
    (again,) = mlflow_runs()
    metrics = tracked(again.info.run_id)
    assert metrics["train/loss"] == [(1, 2.0), (2, 1.0)]
    assert metrics["val/class_iou/Auto _parkend_"] == [(2, 0.5)]
    assert "val/loss" not in metrics
    assert again.info.status == "KILLED"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9: Connection refused; training goes on"),
        ("foo://bar", "foo://bar: MLflow has no store of this kind: it takes file:, databricks:, "),
    ],
)
def test_a_wrong_address_is_told_by_its_variable_and_first_cause(
    address: str, told: str, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(follower, "STOP_SECONDS", 100.0)  # a busy machine is no failure
    with make_follower(tmp_path, said) as lost:
        lost.follow(ROWS)
    first, _ = said.getvalue().splitlines()
    assert first.startswith(f"--track=mlflow: MLFLOW_TRACKING_URI={told}")
    assert len(first) < 300


@pytest.fixture
def deaf_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_tracker_that_hangs_is_waited_for_only_so_long(
    tmp_path: Path, said: io.StringIO, deaf_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", deaf_server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setattr(follower, "STOP_SECONDS", 0.5)
    started = time.monotonic()
    with make_follower(tmp_path, said) as hanging:
        for _ in range(100):
            hanging.follow(ROWS)
    assert time.monotonic() - started < 10
    first, second = said.getvalue().splitlines()
    assert first.startswith("--track=mlflow: it has not answered yet; training goes on")
    assert second.endswith("run again, adds what is missing")


def test_the_end_of_a_run_waits_less_for_a_tracker_that_was_never_reached(
    tmp_path: Path, said: io.StringIO, deaf_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", deaf_server)
    monkeypatch.setattr(follower, "REACH_SECONDS", 0.5)
    started = time.monotonic()
    with make_follower(tmp_path, said) as hanging:
        hanging.finish(ROWS, dict)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_told_before_anything_else(
    tracker: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    assert train_here(dataset, tmp_path / "run", "--steps=2", f"--track={tracker}") == 1
    told = capsys.readouterr().err
    assert told == (
        f"error: --track={tracker}: the package {tracker} is not installed: pip install '.[tracking]', or leave out "
        "--track\n"
    )
    assert not (tmp_path / "run").exists()
