"""Scores of image files at their own size are those of cityscapesScripts on the files that trainer.predict writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image

from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.inputs.sample_scenes import draw_scene_files, list_scenes
from beam_pipelines.options import build_parser
from tests.support.builds import HAS_BEAM, PROJECT, build
from tests.support.color_model import CITYSCAPES, blocky_ids, describe, make_color_model, paint
from trainer import predict
from trainer.data.dataset import open_split
from trainer.evaluate import main
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.options import FILES_OPTIONS, parse_evaluate
from trainer.evaluation.source_files import telling_lines
from trainer.inference.model_file import load_model, save_model
from trainer.inference.views import WHOLE, Views

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`in1d` is deprecated:DeprecationWarning"),  # cityscapesScripts uses it
]

reads_files = pytest.mark.skipif(not HAS_BEAM, reason="apache-beam is not installed, which reads image and mask files")
TRAINED, OWN = (40, 80), (96, 200)  # of another aspect ratio


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of val, in the layout of Cityscapes, with instance ids."""
    folder = tmp_path_factory.mktemp("scenes")
    for key in [key for key in list_scenes() if key.startswith("val/")][::15]:
        for name, data in draw_scene_files(key, *OWN).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3x3 convolution that is fitted to the scenes, for images of TRAINED: it finds parts of objects, and errs."""
    folder, described = tmp_path_factory.mktemp("run"), describe(size=TRAINED)
    rows, targets = [], []
    for path in scenes.glob("leftImg8bit/val/*/*.png"):
        image = (np.asarray(Image.open(path)) / 255 - described.mean) / described.std
        rows.append(np.lib.stride_tricks.sliding_window_view(image, (3, 3, 3)).reshape(-1, 27))
        mask = str(path).replace("leftImg8bit/val", "gtFine/val").replace("leftImg8bit.png", "gtFine_labelIds.png")
        targets.append(train_ids_of(np.asarray(Image.open(mask)))[1:-1, 1:-1].ravel())
    seen, truth = np.concatenate(rows), np.concatenate(targets)
    seen, truth = np.c_[seen, np.ones(len(seen))][truth != IGNORE], truth[truth != IGNORE]
    onehot = np.eye(CITYSCAPES.num_classes)[truth]
    weights = 1 / np.sqrt(onehot.mean(0)[truth])[:, None]
    kernel = np.linalg.lstsq(seen * weights, onehot * weights)[0].astype(np.float32)
    images = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(CITYSCAPES.num_classes, 3, padding="same")
    model = keras.Model(images, layer(images))
    layer.set_weights([kernel[:-1].reshape(3, 3, 3, -1), kernel[-1]])
    save_model(str(folder / "best.keras"), model, described)
    return folder


def train_ids_of(label_ids: np.ndarray) -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    for row in CITYSCAPES.classes:
        table[row.source_ids[0]] = row.train_id
    return table[label_ids]


def metrics_of(report: Path) -> dict[str, Any]:
    return json.loads((report / "metrics.json").read_text())


def official_scores(official: Any, scenes: Path, predicted: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As `csEvalPixelLevelSemanticLabeling` scores the files of `predict`."""
    truths = sorted(map(str, scenes.glob("gtFine/val/*/*_labelIds.png")))
    patch.setattr(official.args, "evalInstLevelScore", True)
    patch.setattr(official.args, "predictionPath", str(predicted))
    patch.setattr(official.args, "predictionWalk", None)
    guesses = [official.getPrediction(official.args, truth) for truth in truths]
    found: dict[str, Any] = official.evaluateImgLists(guesses, truths, official.args)
    return found


def known(scores: dict[str, float]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if score is not None and not np.isnan(score)}


@pytest.fixture(scope="module")
def report(run: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the scenes as files, at their own size."""
    if not HAS_BEAM:
        pytest.skip("apache-beam is not installed, which reads image and mask files")
    folder = tmp_path_factory.mktemp("report")
    before = set(Path(tempfile.gettempdir()).iterdir())
    arguments = [f"--model={run}", f"--input={scenes}", f"--instances={scenes}/gtFine", f"--output={folder}"]
    assert main(arguments) == 0
    assert not [path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "street-scenes" in path.name]
    return folder


def test_scores_are_those_of_the_official_script_on_what_predict_writes(
    official: Any, run: Path, scenes: Path, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = f"--images={scenes}/leftImg8bit/val"
    assert predict.main([f"--model={run}", images, f"--output={tmp_path}", "--as=cityscapes_submission"]) == 0
    expected = official_scores(official, scenes, tmp_path, monkeypatch)
    found = metrics_of(report)
    label_ids = [row.source_ids[0] for row in CITYSCAPES.classes]
    counts = np.array(expected["confMatrix"])[np.ix_(label_ids, label_ids)]
    np.testing.assert_array_equal(np.array(found["confusion"]), counts)
    assert found["images"] == 3
    assert np.count_nonzero(counts.sum(axis=0)) > 5, "classes that it predicts"
    of_objects = found["instance_iou"]
    pairs = (
        (found["class_iou"], "classScores"),
        (found["category_iou"], "categoryScores"),
        (of_objects["class_iou"], "classInstScores"),
        (of_objects["category_iou"], "categoryInstScores"),
    )
    for mine, theirs in pairs:
        assert known(mine) == pytest.approx(known(expected[theirs]), abs=1e-12), theirs
    assert sum(known(of_objects["class_iou"]).values()) > 0, "objects that it finds"
    means = (
        (found["mean_iou"], "averageScoreClasses"),
        (found["mean_category_iou"], "averageScoreCategories"),
        (of_objects["mean"], "averageScoreInstClasses"),
        (of_objects["mean_category"], "averageScoreInstCategories"),
    )
    for score, theirs in means:
        assert score == pytest.approx(expected[theirs], abs=1e-12)


def test_the_report_says_which_size_was_seen_and_which_is_scored(report: Path, scenes: Path):
    found = metrics_of(report)
    assert found["size"] == {"seen": [40, 83], "scored": [96, 200]}
    assert (found["dataset"]["input"], found["dataset"]["folder"]) == (str(scenes), None)
    assert ",instance_iou" in (report / "per_class.csv").read_text().splitlines()[0]
    with Image.open(report / "images.png") as picture:
        assert picture.width > 0


@pytest.fixture(scope="module")
def native(scenes: Path, tmp_path_factory: pytest.TempPathFactory, without_transform: None) -> Path:
    """The same scenes as a data set of normalized pixels at their own size."""
    folder = tmp_path_factory.mktemp("native") / "data"
    options = ("--splits=val", "--moments_split=val", "--image_size=native", "--image_encoding=float32")
    assert build(f"--input={scenes}", f"--output={folder}", *options) == 0
    return folder


def test_a_data_set_that_is_built_native_has_the_same_scores(run: Path, native: Path, report: Path, tmp_path: Path):
    assert main([f"--model={run}", f"--dataset={native}", f"--output={tmp_path}", "--batch_per_replica=3"]) == 0
    found, expected = metrics_of(tmp_path), metrics_of(report)
    assert found.pop("loss") == pytest.approx(expected["loss"], rel=1e-6)
    assert found.pop("dataset")["folder"] == str(native)
    assert found == {name: expected[name] for name in found}


@pytest.mark.parametrize(
    ("batch", "views", "options"),
    [
        (1, WHOLE, ()),
        (2, Views(scales=(0.5, 1.0), flip=True), ("--scales=0.5,1", "--flip")),
        (3, Views(window=TRAINED, overlap=0.25), ("--window=40x80", "--overlap=0.25")),
    ],
    ids=["whole", "several", "windows"],
)
def test_every_pixel_is_what_predict_writes(
    run: Path, scenes: Path, native: Path, tmp_path: Path, batch: int, views: Views, options: tuple[str, ...]
):
    assert predict.main([f"--model={run}", f"--images={scenes}/leftImg8bit", f"--output={tmp_path}", *options]) == 0
    model, description = load_model(str(run))
    found: dict[str, np.ndarray] = {}
    split, strategy = open_split(str(native), "val"), tf.distribute.OneDeviceStrategy("/cpu:0")
    take = found.__setitem__
    evaluate(model, split, batch=batch, strategy=strategy, views=views, description=description, take=take)
    assert len(found) == 3
    for filename, shown in found.items():
        with Image.open(tmp_path / "ids" / filename.removeprefix("leftImg8bit/")) as written:
            np.testing.assert_array_equal(shown, np.asarray(written))


@reads_files
def test_images_of_several_sizes_are_scored_each_at_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The model knows the masks' colors, at the height of the larger image; the damaged one is named."""
    ids = {"large": blocky_ids(*TRAINED), "small": blocky_ids(24, 56, seed=1)}
    for name, mask in ids.items():
        for kind, pixels in (("images", paint(mask)), ("masks", mask)):
            (tmp_path / "in" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "in" / kind / f"{name}.png")
    for kind in ("images", "masks"):
        (tmp_path / "in" / kind / "bad.png").write_bytes(b"no picture")
    save_model(str(tmp_path / "best.keras"), make_color_model(describe(size=TRAINED)), describe(size=TRAINED))
    files = [
        "--images=images/{key}.png",
        "--masks=masks/{key}.png",
        "--splits=val=1",
        "--labels=cityscapes_train_ids",
    ]
    arguments = [f"--model={tmp_path}/best.keras", f"--input={tmp_path}/in", *files]
    assert main([*arguments]) == 1
    said = capfd.readouterr()
    assert said.out.startswith("found 3 pairs in ")
    assert not [word for word in ("plan", "predicted size") if word in said.out], "of a data set that is removed"
    assert not (tmp_path / "report-val").exists()
    assert "not scored: bad, not_an_image: " in said.out
    assert "error: 1 of 3 pairs were rejected" in said.err
    assert main([*arguments, "--max_rejects=50%", f"--keep_dataset={tmp_path}/kept"]) == 0
    shown = capfd.readouterr().out.splitlines(keepends=True)
    assert any("at a height of 40, as in training, and is scored at the size of each mask" in line for line in shown)
    assert any(line.startswith("next: python -m beam_pipelines.verify ") for line in shown)
    told = [*telling_lines(shown)]
    assert [line.split()[0] for line in told] == ["found", "layout", "ignored", "warning:"]
    found = metrics_of(tmp_path / "report-val")
    assert found["size"] == {"seen": [40, None], "scored": None}
    assert found["pixels"] == sum(mask.size for mask in ids.values())
    assert found["pixel_accuracy"] > 0.8
    assert (tmp_path / "kept" / "dataset.json").exists()


def test_options_of_files_are_those_of_a_build():
    known_there = vars(build_parser().parse_args([]))
    assert {option.name for option in FILES_OPTIONS} <= known_there.keys()
    settings = parse_evaluate(["--model=run", "--input=in", "--masks_are=ids", "--max_pairs=3"])
    assert settings.files == {"input": "in", "masks_are": "ids", "max_pairs": "3"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "one of --dataset and --input is required"),
        ("--dataset=d --input=in", "argument --input: not allowed with argument --dataset"),
        ("--dataset=d --images={key}.png", "argument --images: not allowed with argument --dataset"),
        ("--dataset=d --keep_dataset=k", "argument --keep_dataset: not allowed with argument --dataset"),
        ("--images={key}.png --masks={key}.png", "argument --images: needs --input"),
    ],
)
def test_contradictions_end_with_2(arguments: str, message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        parse_evaluate(["--model=run", *arguments.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@reads_files
def test_a_wrong_value_is_told_by_the_build(run: Path, scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main([f"--model={run}", f"--input={scenes}", "--layout=none", f"--output={tmp_path}"]) == 2
    assert "argument --layout: invalid choice: 'none'" in capfd.readouterr().err


def test_what_is_missing_is_told_before_the_build(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    rows = tuple(replace(row, source_ids=(row.train_id + 50,)) for row in CITYSCAPES.classes)
    other = describe(labels=LabelTable(name="mine", labels=rows))
    save_model(str(tmp_path / "best.keras"), make_color_model(other), other)
    assert main([f"--model={tmp_path}", f"--input={tmp_path}", f"--instances={tmp_path}/absent"]) == 1
    assert "error: --instances needs a model of Cityscapes' 19 classes, with their " in capsys.readouterr().err
    assert main([f"--model={tmp_path}", f"--input={tmp_path}"]) == 1
    assert "the label table of the model, 'mine', is not built in: set --labels" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert main([f"--model={run}", f"--input={tmp_path}"]) == 1
    assert "apache-beam is not installed: run pip install '.[pipelines]'" in capsys.readouterr().err


@reads_files
@pytest.mark.parametrize(
    ("options", "told"),
    [((), "stopped\n"), (("--keep_dataset=kept",), "stopped; run the same command again to continue\n")],
    ids=["temporary", "kept"],
)
def test_a_stopped_evaluation_leaves_nothing(
    options: tuple[str, ...], told: str, run: Path, scenes: Path, tmp_path: Path
):
    scratch, report = tmp_path / "tmp", tmp_path / "new" / "report"
    scratch.mkdir()
    options = tuple(option.replace("=", f"={tmp_path}/") for option in options)
    arguments = [f"--model={run}", f"--input={scenes}", f"--output={report}", *options]
    command = [sys.executable, "-m", "trainer.evaluate", *arguments]
    environment = os.environ | {"TMPDIR": str(scratch)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes) as process:
        while not list(scratch.glob("beam_pipelines-*")):  # the build has begun
            assert process.poll() is None
            time.sleep(0.05)
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert said == told
    assert not report.parent.exists()
    assert process.returncode == 128 + signal.SIGTERM
    assert not child.is_running()
    assert not list(scratch.iterdir())
