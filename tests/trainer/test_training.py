"""Whole training runs by the command that users start: resumed, stopped, on several replicas and hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.trainer.tiny  # noqa: F401  enters its model into the table
from tests.conftest import PROJECT, build, make_flat, make_uneven
from trainer.model_file import load_model

pytestmark = [pytest.mark.usefixtures("without_transform"), pytest.mark.timeout(900)]

TINY = ("--model=tiny", "--global_batch=4", "--log_steps=1")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 images of 32x64 in 4 shards to train on, 6 to evaluate on, so that the last batches are not full."""
    root = tmp_path_factory.mktemp("data")
    make_flat(root / "flat", train=18, val=6)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=4,val=2")
    assert build(f"--input={root / 'flat'}", f"--output={root / 'made'}", *options) == 0
    return root / "made"


def command(dataset: Path, output: Path | None, *arguments: str) -> list[str]:
    given = [] if output is None else [f"--output={output}"]
    return [sys.executable, "-m", "tests.trainer.tiny", f"--dataset={dataset}", *given, *TINY, *arguments]


def start(line: list[str], **environment: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, cwd=PROJECT, env={**os.environ, **environment}, text=True, **pipes)


def train(dataset: Path, output: Path | None, *arguments: str, **environment: str) -> str:
    """-> what was printed."""
    process = start(command(dataset, output, *arguments), **environment)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


def rows(run: Path, split: str = "train") -> list[dict[str, Any]]:
    """What metrics.jsonl says, but for the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = {"images_per_second"}
    return [{k: v for k, v in line.items() if k not in timing} for line in lines if line["split"] == split]


def losses(run: Path) -> np.ndarray:
    return np.array([row["loss"] for row in rows(run)])


def variables(run: Path) -> dict[str, np.ndarray]:
    """All that the newest checkpoint holds, but its own count of saves."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def assert_same(run: Path, other: Path) -> None:
    assert rows(run) == rows(other)
    assert rows(run, "val") == rows(other, "val")
    mine, theirs = variables(run), variables(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the run has logged that step."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        path = run / "metrics.jsonl"
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} did not come")


RESUMED = (
    "--epochs=4",
    "--deterministic",
    "--checkpoint_steps=3",
    "--steps_per_call=1",
    "--optimizer=adamw",
    "--ema=0.9",
)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(dataset, run, *RESUMED)
    return run


def test_a_run_leaves_all_that_it_promises(undisturbed: Path) -> None:
    assert [row["step"] for row in rows(undisturbed)] == list(range(1, 21))
    assert [row["step"] for row in rows(undisturbed, "val")] == [5, 10, 15, 20]
    report = {path.name for path in (undisturbed / "report-val").iterdir()}
    assert report >= {"metrics.json", "per_class.csv", "class_iou.png", "confusion.png", "images.png"}
    assert "learning_curves.png" in report
    best = max(row["mean_iou"] for row in rows(undisturbed, "val"))
    scored = json.loads((undisturbed / "report-val" / "metrics.json").read_text())
    assert scored["mean_iou"] == pytest.approx(best, abs=1e-12), "what is exported is the best of all evaluations"
    assert (undisturbed / "export" / "saved_model.pb").exists()
    assert list((undisturbed / "logs").glob("events.*"))


@pytest.mark.parametrize("step", [1, 8, 15])
def test_a_killed_run_ends_as_if_undisturbed(dataset: Path, undisturbed: Path, tmp_path: Path, step: int) -> None:
    """Before the first checkpoint, between two, and around an evaluation."""
    process = start(command(dataset, tmp_path / "run", *RESUMED))
    wait_for(tmp_path / "run", step, process)
    process.kill()
    process.communicate()
    train(dataset, tmp_path / "run", *RESUMED)
    assert_same(tmp_path / "run", undisturbed)


def test_sigterm_keeps_the_step_that_it_came_in(dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    rare = [*RESUMED[:2], "--checkpoint_steps=1000", "--evaluate_epochs=100", *RESUMED[3:]]
    process = start(command(dataset, tmp_path / "run", *rare))
    wait_for(tmp_path / "run", 7, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    kept = int(variables(tmp_path / "run")["state/0/.ATTRIBUTES/VARIABLE_VALUE"])
    assert 7 <= kept < 20
    assert f"stopped at step {kept}, which is saved" in out
    out = train(dataset, tmp_path / "run", *rare)
    assert f"going on from step {kept}" in out
    np.testing.assert_array_equal(losses(tmp_path / "run"), losses(undisturbed))


def test_sigterm_in_an_evaluation_is_heard_and_the_evaluation_comes_first_later(
    dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys, keras, tests.trainer.tiny\n"
        "from trainer.config import parse_train\n"
        "from trainer.training import run\n"
        "class Preempted(keras.callbacks.Callback):\n"
        "    def on_test_begin(self, logs=None):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(run(parse_train(sys.argv[1:]), [Preempted()]))\n"
    )
    arguments = command(dataset, tmp_path / "run", *RESUMED)[3:]
    for _ in range(2):  # once more in the evaluation that comes first
        process = start([sys.executable, "-c", script, *arguments])
        out, err = process.communicate(timeout=200)
        assert process.returncode == 128 + signal.SIGTERM, err
        assert "SIGTERM: saving, then stopping" in err
        assert "stopped at step 5, which is saved" in out
        assert not rows(tmp_path / "run", "val")
    train(dataset, tmp_path / "run", *RESUMED)
    assert_same(tmp_path / "run", undisturbed)


def test_a_finished_run_is_left_alone(dataset: Path, undisturbed: Path) -> None:
    before = (undisturbed / "best.keras").stat().st_mtime_ns
    out = train(dataset, undisturbed, *RESUMED)
    assert "is complete already" in out
    assert "going on" not in out
    assert (undisturbed / "best.keras").stat().st_mtime_ns == before


def test_another_run_in_the_same_folder_is_refused(dataset: Path, undisturbed: Path) -> None:
    process = start(command(dataset, undisturbed, *RESUMED, "--learning_rate=0.5"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "holds another run: learning_rate was 0.01 and is 0.5. Give another --output" in err


def test_the_global_batch_alone_decides(dataset: Path, tmp_path: Path) -> None:
    """Of 18 examples with different shares of ignored pixels, in batches of 4: the last one is not full."""
    options = ("--epochs=2", "--dropout=0", "--clip_norm=0.5", "--class_weights=enet", "--top_k=0.7", "--ema=0.5")
    train(dataset, tmp_path / "one", *options)
    train(dataset, tmp_path / "two", *options, "--logical_devices=2")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    mine, theirs = rows(tmp_path / "two", "val"), rows(tmp_path / "one", "val")
    assert [row["mean_iou"] for row in mine] == pytest.approx([row["mean_iou"] for row in theirs], abs=1e-3)


def test_float16_with_clipping_is_alike_on_two_replicas(dataset: Path, tmp_path: Path) -> None:
    """The norm that is clipped is that of the gradients without the loss's scale, over all replicas."""
    options = ("--epochs=1", "--dropout=0", "--clip_norm=0.1", "--learning_rate=0.1", "--precision=float16")
    train(dataset, tmp_path / "one", *options)
    train(dataset, tmp_path / "two", *options, "--logical_devices=2")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=5e-3)
    train(dataset, tmp_path / "free", *options[:2], *options[3:])
    assert abs(losses(tmp_path / "free")[-1] / losses(tmp_path / "one")[-1] - 1) > 0.05, "the clipping is felt"


def test_an_export_folder_with_other_things_is_refused_before_training(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "notes.txt").write_text("mine")
    process = start(command(dataset, tmp_path / "run", "--steps=2"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "export holds notes.txt, which is no part of a SavedModel" in err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def two_hosts(dataset: Path, output: Path, variable: str, *arguments: str) -> list[subprocess.Popen[str]]:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    first, second = ("chief", "worker") if variable == "TF_CONFIG" else ("workerpool0", "workerpool1")
    cluster = {first: [f"127.0.0.1:{ports[0]}"], second: [f"127.0.0.1:{ports[1]}"]}
    return [
        start(
            command(dataset, output, *arguments),
            **{variable: json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}})},
        )
        for kind in (first, second)
    ]


def finish(hosts: list[subprocess.Popen[str]], code: int = 0) -> list[str]:
    printed = []
    for host in hosts:
        out, err = host.communicate(timeout=400)
        assert host.returncode == code, out + err
        printed.append(out)
    return printed


def test_two_hosts_train_stop_together_and_go_on(dataset: Path, tmp_path: Path) -> None:
    arguments = ("--epochs=20", "--evaluate_epochs=10", "--deterministic", "--steps_per_call=1")
    finish(two_hosts(dataset, tmp_path / "whole", "TF_CONFIG", *arguments))
    hosts = two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *arguments)
    wait_for(tmp_path / "run", 4, hosts[0])
    hosts[1].send_signal(signal.SIGTERM)  # any of them may be the one that is preempted
    printed = finish(hosts, 128 + signal.SIGTERM)
    assert "which is saved" in printed[0]
    assert not printed[1], "only the chief speaks"
    printed = finish(two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *arguments))
    assert "MultiWorkerMirroredStrategy, 2 replicas on CPU; global batch 4 = 2 x 2" in printed[0]
    assert "going on from step" in printed[0]
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_host_that_is_killed_ends_the_other_with_what_to_do(dataset: Path, tmp_path: Path) -> None:
    arguments = ("--epochs=500", "--evaluate_epochs=500", "--checkpoint_steps=2", "--steps_per_call=1")
    hosts = two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *arguments)
    wait_for(tmp_path / "run", 4, hosts[0])
    hosts[1].kill()
    hosts[1].communicate()
    _, err = hosts[0].communicate(timeout=200)
    assert hosts[0].returncode == 1, err
    assert "error: another host of this run was lost" in err
    assert "Traceback" not in err
    assert list((tmp_path / "run" / "checkpoints").glob("ckpt-*.index"))


def test_two_hosts_find_each_other_by_what_vertex_ai_sets(dataset: Path, tmp_path: Path) -> None:
    printed = finish(two_hosts(dataset, tmp_path / "run", "CLUSTER_SPEC", "--steps=2", "--val_split="))
    assert "MultiWorkerMirroredStrategy, 2 replicas" in printed[0]
    assert (tmp_path / "run" / "export" / "saved_model.pb").exists()


def test_a_loss_that_is_not_finite_stops_and_says_where(dataset: Path, tmp_path: Path) -> None:
    """A rate at which weights overflow after some good steps."""
    arguments = ("--steps=40", "--checkpoint_steps=1", "--evaluate_epochs=99", "--steps_per_call=4", "--warmup=0.5")
    process = start(command(dataset, tmp_path / "run", *arguments, "--learning_rate=1e30"))
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "the loss, a gradient or a weight is NaN or infinite, at a learning rate of" in err
    assert "train-0000" in err
    kept = [row["step"] for row in rows(tmp_path / "run")][-1]
    assert f"the checkpoint of step {kept} is kept" in err
    assert all(np.isfinite(value).all() for value in variables(tmp_path / "run").values())


def test_what_vertex_ai_sets_is_understood(dataset: Path, tmp_path: Path) -> None:
    """A hyperparameter trial: all folders by variables, and its metric reported."""
    base = tmp_path / "job" / "7"
    metric = tmp_path / "metric.json"
    train(
        dataset,
        None,
        "--steps=2",
        "--precision=bfloat16",
        AIP_MODEL_DIR=f"{base}/model/",
        AIP_CHECKPOINT_DIR=f"{base}/checkpoints/",
        AIP_TENSORBOARD_LOG_DIR=f"{base}/logs/",
        CLOUD_ML_HP_METRIC_FILE=str(metric),
        CLOUD_ML_TRIAL_ID="7",
    )
    assert (base / "model" / "saved_model.pb").exists()
    assert (base / "checkpoints" / "checkpoint").exists()
    assert list((base / "logs").glob("events.*"))
    report = json.loads((base / "report-val" / "metrics.json").read_text())
    last = json.loads(metric.read_text().splitlines()[-1])
    assert last["trial"] == "7"
    assert float(last["mean_iou"]) == pytest.approx(report["mean_iou"])


def test_damaged_records_are_named_and_can_be_left_out(dataset: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    shard = damaged / "train-00002-of-00004.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    process = start(command(damaged, tmp_path / "run", "--steps=10"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"train-00002-of-00004.tfrecord: record \d+ at byte", err), err
    assert "--on_corrupt=skip" in err
    out = train(damaged, tmp_path / "skipped", "--steps=2", "--on_corrupt=skip")
    assert re.search(r"corrupt, left out: train-00002-of-00004.tfrecord: record \d+ .*records of .* are left out", out)


def test_a_run_starts_from_another_model_of_other_classes(undisturbed: Path, dataset: Path, tmp_path: Path) -> None:
    """Without a validation split: the newest model is kept. At a rate of 0 its weights are those it started from."""
    make_flat(tmp_path / "flat", train=6, val=2)
    labels = tmp_path / "labels.yaml"
    row = "{name: all, ids: [0, 1, 2, 3, 4, 5], color: [1, 2, 3], category: all}"
    labels.write_text(f"name: one\nclasses: [{row}]\nignore: rest\n")
    assert (
        build(
            f"--input={tmp_path / 'flat'}", f"--output={tmp_path / 'made'}", f"--labels={labels}", "--image_size=32x64"
        )
        == 0
    )
    options = (f"--initial_model={undisturbed}", "--steps=1", "--learning_rate=0", "--val_split=")
    out = train(tmp_path / "made", tmp_path / "run", *options)
    assert "5 of 8 variables start from" in out, "the first layer, its normalization, but not the logits"
    (mine, _), (theirs, _) = (load_model(str(run)) for run in (tmp_path / "run", undisturbed))
    np.testing.assert_array_equal(mine.get_layer("features").get_weights(), theirs.get_layer("features").get_weights())


def test_pictures_of_several_sizes_need_a_crop(tmp_path: Path) -> None:
    make_uneven(tmp_path / "flat", train=6, val=3)
    options = ("--labels=camvid11", "--image_size=native", "--image_encoding=png")
    assert build(f"--input={tmp_path / 'flat'}", f"--output={tmp_path / 'made'}", *options) == 0
    process = start(command(tmp_path / "made", tmp_path / "run", "--steps=2"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "has images of several sizes: give --crop_size=HEIGHTxWIDTH to train on" in err
    train(tmp_path / "made", tmp_path / "run", "--steps=2", "--crop_size=20x30")
    assert (tmp_path / "run" / "export" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--backbone=xception65", "tiny has no option 'backbone'"),
        ("--val_split=test", "has no split 'test'; it has train, val"),
        ("--dataset=nowhere", "there is no folder nowhere"),
        ("--global_batch=3 --logical_devices=2", "--global_batch=3 can't be shared equally by 2 replicas"),
        ("--initial_model=nowhere.keras", "nowhere.keras does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(dataset: Path, tmp_path: Path, option: str, message: str) -> None:
    process = start(command(dataset, tmp_path / "run", *option.split()))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert message in err
    assert "Traceback" not in err
    train(dataset, tmp_path / "run", "--steps=1", "--val_split=")  # what failed does not stand in the way


def test_a_callback_may_end_the_run(dataset: Path, tmp_path: Path) -> None:
    """Where no evaluation was due there is one all the same, so that there is a model to keep."""
    script = (
        "import sys, keras, tests.trainer.tiny\n"
        "from trainer.config import parse_train\n"
        "from trainer.training import run\n"
        "class Enough(keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n"
        "        self.model.stop_training = epoch == 1\n"
        "sys.exit(run(parse_train(sys.argv[1:]), [Enough()]))\n"
    )
    arguments = command(dataset, tmp_path / "run", "--epochs=30", "--evaluate_epochs=7")[3:]
    for said in ("epoch 2, step 10: validation mean IoU", "is complete already"):
        process = start([sys.executable, "-c", script, *arguments])
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        assert said in out
    assert [row["step"] for row in rows(tmp_path / "run", "val")] == [10]
