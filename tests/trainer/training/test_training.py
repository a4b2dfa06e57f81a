"""Whole training runs by the command that users start: on several replicas, refused, diverging, on Vertex AI.

Only those on several replicas are processes of their own, since TensorFlow cuts the CPU once: the others would import
for longer than they train.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tests.support.tiny  # noqa: F401  enters its model into the table
from tests.support.builds import build, make_flat, make_uneven
from tests.support.runs import command, losses, rows, start, train, train_here, variables
from trainer.config import parse_train
from trainer.inference.model_file import load_model
from trainer.training.run import run

pytestmark = [
    pytest.mark.usefixtures("without_transform"),
    pytest.mark.timeout(900),
    # TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _precision_is_as_before() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


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


def test_the_global_batch_alone_decides(dataset: Path, tmp_path: Path) -> None:
    """Of 18 examples with different shares of ignored pixels, in batches of 4: the last one is not full."""
    options = (
        "--epochs=2",
        "--dropout=0",
        "--clip_norm=0.5",
        "--class_weights=enet",
        "--hard_pixel_fraction=0.7",
        "--ema=0.5",
    )
    assert train_here(dataset, tmp_path / "one", *options) == 0
    train(dataset, tmp_path / "two", *options, "--logical_devices=2")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    mine, theirs = rows(tmp_path / "two", "val"), rows(tmp_path / "one", "val")
    assert [row["mean_iou"] for row in mine] == pytest.approx([row["mean_iou"] for row in theirs], abs=1e-3)


@pytest.mark.torture
def test_float16_with_clipping_is_alike_on_two_replicas(dataset: Path, tmp_path: Path) -> None:
    """The norm that is clipped is that of the gradients without the loss's scale, over all replicas."""
    options = ("--epochs=1", "--dropout=0", "--clip_norm=0.1", "--learning_rate=0.1", "--precision=float16")
    train(dataset, tmp_path / "one", *options)
    train(dataset, tmp_path / "two", *options, "--logical_devices=2")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=5e-3)
    train(dataset, tmp_path / "free", *options[:2], *options[3:])
    assert abs(losses(tmp_path / "free")[-1] / losses(tmp_path / "one")[-1] - 1) > 0.05, "the clipping is felt"


def test_an_export_folder_with_other_things_is_refused_before_training(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "notes.txt").write_text("mine")
    assert train_here(dataset, tmp_path / "run", "--steps=2") == 1
    assert "export contains notes.txt, which is not part of a SavedModel" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_loss_that_is_not_finite_stops_and_says_where(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate at which weights overflow after some good steps."""
    arguments = ("--steps=40", "--checkpoint_steps=1", "--evaluate_epochs=99", "--steps_per_call=4", "--warmup=0.5")
    assert train_here(dataset, tmp_path / "run", *arguments, "--learning_rate=1e30") == 1
    err = capsys.readouterr().err
    assert "the loss, a gradient or a weight is NaN or infinite, at a learning rate of" in err
    assert "train-0000" in err
    last = [row["step"] for row in rows(tmp_path / "run")][-1]
    kept = re.search(r"the checkpoint of step (\d+) is kept", err)
    assert kept is not None
    assert last - int(kept[1]) in (0, 1), "the loss of the last update may be finite, and its weights not"
    assert all(np.isfinite(value).all() for value in variables(tmp_path / "run").values())


def test_what_vertex_ai_sets_is_understood(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyperparameter trial: all folders by variables, and its metric reported."""
    base = tmp_path / "job" / "7"
    metric = tmp_path / "metric.json"
    monkeypatch.setenv("AIP_MODEL_DIR", f"{base}/model/")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", f"{base}/checkpoints/")
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", f"{base}/logs/")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(metric))
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    assert train_here(dataset, None, "--steps=2", "--precision=bfloat16") == 0
    assert (base / "model" / "saved_model.pb").exists()
    assert (base / "checkpoints" / "checkpoint").exists()
    assert list((base / "logs").glob("events.*"))
    report = json.loads((base / "report-val" / "metrics.json").read_text())
    last = json.loads(metric.read_text().splitlines()[-1])
    assert last["trial"] == "7"
    assert float(last["mean_iou"]) == pytest.approx(report["mean_iou"])


def test_damaged_records_are_named_and_can_be_left_out(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    shard = damaged / "train-00002-of-00004.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert train_here(damaged, tmp_path / "run", "--steps=10") == 1
    err = capsys.readouterr().err
    assert re.search(r"train-00002-of-00004.tfrecord: record \d+ at byte", err), err
    assert "--on_corrupt=skip" in err
    assert train_here(damaged, tmp_path / "skipped", "--steps=2", "--on_corrupt=skip") == 0
    assert re.search(
        r"skipping damaged records: train-00002-of-00004.tfrecord: record \d+ .*records of .* can't be read",
        capsys.readouterr().out,
    )


def test_a_run_starts_from_another_model_of_other_classes(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert train_here(tmp_path / "made", tmp_path / "run", *options) == 0
    out = capsys.readouterr().out
    assert "5 of 7 weights start from" in out, "the first layer, its normalization, but not the logits"
    (mine, _), (theirs, _) = (load_model(str(run)) for run in (tmp_path / "run", undisturbed))
    np.testing.assert_array_equal(mine.get_layer("features").get_weights(), theirs.get_layer("features").get_weights())


def test_pictures_of_several_sizes_need_a_crop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_uneven(tmp_path / "flat", train=6, val=3)
    options = ("--labels=camvid11", "--image_size=native", "--image_encoding=png")
    assert build(f"--input={tmp_path / 'flat'}", f"--output={tmp_path / 'made'}", *options) == 0
    assert train_here(tmp_path / "made", tmp_path / "run", "--steps=2") == 1
    told = capsys.readouterr().err
    assert "has images of several sizes: set the training size with --crop_size=HEIGHTxWIDTH" in told
    assert train_here(tmp_path / "made", tmp_path / "run", "--steps=2", "--crop_size=20x30") == 0
    assert (tmp_path / "run" / "export" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--val_split=test",
            "has no split 'test'; it has train, val: name one of these with --val_split, or set --val_split='' to "
            "train without validation\n",
        ),
        ("--train_split=test", "has no split 'test'; it has train, val: name one of these with --train_split\n"),
        ("--dataset=nowhere", "there is no folder nowhere"),
        ("--initial_model=nowhere.keras", "nowhere.keras does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(
    dataset: Path, tmp_path: Path, option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(dataset, tmp_path / "run", *option.split()) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_what_was_refused_does_not_stand_in_the_way(dataset: Path, tmp_path: Path) -> None:
    process = start(command(dataset, tmp_path / "run", "--global_batch=3", "--logical_devices=2"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "--global_batch=3 can't be divided equally by 2 replicas" in err
    assert train_here(dataset, tmp_path / "run", "--steps=1", "--val_split=") == 0


def test_a_callback_may_end_the_run(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no evaluation was due there is one all the same, so that there is a model to keep."""

    heard: list[dict[str, float]] = []

    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1
            heard.append(logs)

    config = parse_train(command(dataset, tmp_path / "run", "--epochs=30", "--evaluate_epochs=7")[3:])
    for said in ("epoch 2, step 10: validation mean IoU", "is already complete"):
        history = run(config, [Enough()])
        told = capsys.readouterr().out
        assert said in told
        assert "stopped early" in told
        assert (history.is_complete, history.step, history.why_stopped) == (True, 10, "a callback asked for it")
    assert [row["step"] for row in rows(tmp_path / "run", "val")] == [10]
    assert [set(logs) for logs in heard] == [{"loss", "mean_iou", "learning_rate"}] * 2, "neither was to be evaluated"
    logged = rows(tmp_path / "run")
    for logs, first in zip(heard, (0, 5), strict=True):
        assert logs["loss"] == pytest.approx(np.mean([row["loss"] for row in logged[first : first + 5]]), rel=1e-6)
        assert logs["learning_rate"] == logged[first + 4]["learning_rate"]
        assert 0 < logs["mean_iou"] < 1
    assert history.losses == {row["step"]: row["loss"] for row in logged}
    (scored,) = rows(tmp_path / "run", "val")
    assert (history.val_mean_iou, history.val_losses) == ({10: scored["mean_iou"]}, {10: scored["loss"]})
    assert (history.best_step, history.best_mean_iou) == (10, scored["mean_iou"])
    assert (history.stopped_early, history.exit_code, history.signal) == (True, 0, None)


def test_one_class_and_nothing_else_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its mean IoU is 1 whatever the model does."""
    (tmp_path / "one.yaml").write_text("classes:\n  - {name: car, ids: [1]}\nignore: rest\n")
    source = make_flat(tmp_path / "flat", train=4, val=2)
    options = (f"--labels={tmp_path / 'one.yaml'}", "--image_size=32x64", "--no_transform_fn", "--max_rejects=100%")
    assert build(f"--input={source}", f"--output={tmp_path / 'made'}", *options) == 0
    assert train_here(tmp_path / "made", tmp_path / "run", "--steps=1", "--val_split=") == 0
    assert "warning: the data set has one class and everything else is ignored" in capsys.readouterr().out
