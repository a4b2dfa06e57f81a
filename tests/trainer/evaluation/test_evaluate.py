from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.builds import PROJECT
from tests.support.handmade import EXAMPLES, write_dataset
from trainer import evaluate
from trainer.data.dataset import open_split
from trainer.evaluate import main
from trainer.evaluation.options import EvaluateSettings, parse_evaluate
from trainer.inference.model_file import Description, save_model
from trainer.inference.views import Views

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROW = {"step": 1, "epoch": 1.0, "split": "train", "loss": 1.0, "mean_iou": 0.1, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "scenes", "raw_uint8")


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    """The folder of a run, whose model is a convolution."""
    return make_run(tmp_path / "run", data)


def make_run(folder: Path, data: Path) -> Path:
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(11, 3, padding="same")(images))
    description = Description.of("deeplabv3plus", open_split(str(data), "train").manifest, step=7, mean_iou=0.5)
    save_model(str(folder / "best.keras"), model, description)
    return folder


def metrics_of(report: Path) -> dict:
    return json.loads((report / "metrics.json").read_text())


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trainer.evaluate", *map(str, arguments)]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False, **options)


def test_a_run_is_evaluated_and_reported_beside_its_model(run: Path, data: Path, capsys: pytest.CaptureFixture[str]):
    (run / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    assert main([f"--model={run}", f"--dataset={data}", "--split=train"]) == 0
    found, printed = metrics_of(run / "report-train"), capsys.readouterr().out
    assert found["images"] == EXAMPLES
    assert f"mean IoU                {100 * found['mean_iou']:.1f} % of" in printed
    assert printed.endswith(f"report: {run}/report-train\n")
    assert (run / "report-train" / "learning_curves.png").exists()


def test_a_report_goes_where_it_is_told_to(run: Path, data: Path, tmp_path: Path):
    arguments = [f"--dataset={data}", "--split=train", "--scales=0.5,1", "--flip", "--batch_per_replica=7"]
    arguments += ["--window=5x7", "--overlap=0.25"]
    assert main([f"--model={run}/best.keras", f"--output={tmp_path}/there", *arguments]) == 0
    found = metrics_of(tmp_path / "there")
    assert (found["scales"], found["flip"], found["window"], found["overlap"]) == ([0.5, 1.0], True, [5, 7], 0.25)
    assert not (tmp_path / "there" / "learning_curves.png").exists()
    assert not (run / "report-train").exists()


def test_the_command_on_two_devices_prints_only_what_is_meant_to_be_read(run: Path, data: Path, tmp_path: Path):
    arguments = [f"--model={run}", f"--dataset={data}", "--split=train"]
    done = command(*arguments, "--logical_devices=2", f"--output={tmp_path}/two")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"the model sees each image as it is, .*, 8x12\n\S+\n.* class .* IoU, % ", done.stdout)
    assert main([*arguments, f"--output={tmp_path}/one"]) == 0
    one, two = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two")
    assert one.pop("loss") == pytest.approx(two.pop("loss"), rel=1e-5)
    assert one == two


@pytest.mark.parametrize("name", ["index.html", "metrics.json"])
def test_files_that_are_not_of_a_report_are_never_replaced(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("mine")
    arguments = [f"--model={run}", f"--dataset={data}", "--split=train", f"--output={folder}"]
    assert main(arguments) == 1
    message = f"error: {folder} has {name}, which is not of a report: choose another --output\n"
    assert capsys.readouterr().err == message
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: "mine"}


def test_a_data_set_with_another_normalization_is_seen_as_the_model_knows_it(run: Path, data: Path, tmp_path: Path):
    """The same pictures among others have other moments; scores of those pictures alone must not change."""
    more = write_dataset(tmp_path / "more", "png", (5,))
    assert main([f"--model={run}", f"--dataset={data}", "--split=train", f"--output={tmp_path}/all"]) == 0
    assert main([f"--model={run}", f"--dataset={more}", "--split=train", f"--output={tmp_path}/few"]) == 0
    texts = [(tmp_path / name / "per_image.csv").read_text().splitlines()[1:6] for name in ("all", "few")]
    alone, among = (np.array([row.split(",")[1:] for row in rows], np.float64) for rows in texts)
    np.testing.assert_array_equal(alone[:, :3], among[:, :3])
    np.testing.assert_allclose(alone[:, 3:], among[:, 3:], rtol=1e-5)
    moments = [open_split(str(folder), "train").manifest.moments.mean for folder in (data, more)]
    assert moments[0] != moments[1]


def test_lines_come_now_and_then_where_there_is_no_terminal(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate, "LINE_SECONDS", 0.0)
    assert main([f"--model={run}", f"--dataset={data}", "--split=train", "--batch_per_replica=20"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[:3] == [f"evaluated {done} of {EXAMPLES} images" for done in (20, 40, EXAMPLES)]


def test_other_classes_are_refused(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other = tmp_path / "other"
    other.mkdir()
    for path in data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    manifest = other / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"bicyclist"', '"cyclist"'))
    assert main([f"--model={run}", f"--dataset={other}", "--split=train"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {other} has other classes than the model")
    assert message.count("\n") == 1
    assert not (run / "report-train").exists()


def test_what_is_not_there_is_named(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    cases = {
        f"{tmp_path}/empty has no dataset.json": [f"--model={run}", f"--dataset={tmp_path}/empty"],
        f"there is no folder {tmp_path}/none": [f"--model={run}", f"--dataset={tmp_path}/none"],
        f"{data} has no split 'val'; it has train, rejected: name one of these with --split\n": [
            f"--model={run}",
            f"--dataset={data}",
        ],
        f"{data} has no best.keras": [f"--model={data}", f"--dataset={data}", "--split=train"],
    }
    for message, argv in cases.items():
        assert main(argv) == 1
        assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_rotten_shard_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rotten = write_dataset(tmp_path / "rotten", "raw_uint8", (3, 3))
    path = rotten / "train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert main([f"--model={run}", f"--dataset={rotten}", "--split=train"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {rotten}: {path.name}: record 0 at byte 0: data checksum mismatch")


def test_too_little_memory_is_said_with_what_to_do(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(_: EvaluateSettings) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(evaluate, "run", full)
    assert main([f"--model={run}", f"--dataset={data}", "--split=train", "--batch_per_replica=9"]) == 1
    assert (
        capsys.readouterr().err
        == "error: out of memory: OOM when allocating tensor. Set less than --batch_per_replica=9\n"
    )
    assert main([f"--model={run}", f"--dataset={data}", "--split=train", "--flip"]) == 1
    assert capsys.readouterr().err.endswith("Set --batch_per_replica=1 or fewer views (--scales, --flip)\n")


@pytest.mark.parametrize("below", ["", "/report"])
def test_a_report_that_cannot_be_written_is_told_before_the_work(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SystemExit) as stopped:
        main(["--model=run", "--dataset=data", f"--output={file}{below}"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"{file} is no folder, so nothing can be written to it: choose another --output")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--scales=1,x", "'1,x' is not a list of numbers, such as 0.75,1,1.25"),
        ("--scales=0,1", "'0,1': scales must be above 0 and at most 8"),
        ("--scales=", "'' is not a list of numbers"),
        ("--window=5", "'5' is not HEIGHTxWIDTH, such as 256x512"),
        ("--overlap=1", "1: expected at least 0 and below 1"),
        ("--overlap=0.5", "overlap 0.5 has no effect without windows: set --window, or no --overlap"),
        ("--batch_per_replica=0", "0 is less than 1"),
        ("--logical_devices=-1", "-1 is less than 1"),
        ("--strategy=multiworker", "invalid choice: 'multiworker'"),
        ("--fli", "unrecognized arguments: --fli"),
    ],
)
def test_wrong_arguments(argument: str, message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        parse_evaluate(["--model=run", "--dataset=data", argument])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_settings():
    settings = parse_evaluate(["--model=run", "--dataset=data", "--scales=0.75,1", "--flip", "--logical_devices=2"])
    expected = EvaluateSettings(model="run", dataset="data", views=Views((0.75, 1.0), flip=True), logical_devices=2)
    assert settings == expected
