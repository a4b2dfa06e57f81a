from __future__ import annotations

import csv
import io
import json
import math
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
from PIL import Image
from rich.console import Console

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from tests.support.builds import PROJECT
from tests.support.handmade import SHARDS, make_sample, write_dataset
from tests.support.results import results_of
from trainer.data.dataset import Split, open_dataset, open_split
from trainer.evaluate import main
from trainer.evaluation import plots
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.examples import Example
from trainer.evaluation.metrics import METRICS, Scores, bootstrap_interval
from trainer.evaluation.printed import print_scores
from trainer.evaluation.report import FILES, write_report
from trainer.evaluation.results import read_results
from trainer.evaluation.slices import KINDS
from trainer.inference.model_file import Description
from trainer.inference.views import Views

CAMVID = BUILTIN_TABLES["camvid11"]()
ONE = tf.distribute.OneDeviceStrategy("/cpu:0")
WITHOUT_ROWS = FILES.keys() - {"learning_curves.png"}
ROWS = [
    {"step": 1, "epoch": 0.5, "split": "train", "loss": 1.0, "mean_iou": 0.1, "learning_rate": 0.1},
    {"step": 2, "epoch": 1.0, "split": "val", "loss": 1.0, "mean_iou": 0.2},
]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return open_split(str(write_dataset(tmp_path_factory.mktemp("data") / "scenes", "raw_float32")), "train")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Conv2D(11, 3, padding="same")(images))


@pytest.fixture(scope="module")
def evaluation(split: Split, model: keras.Model) -> Evaluation:
    return evaluate(model, split, batch=16, strategy=ONE, views=Views(flip=True))


@pytest.fixture(scope="module")
def description(split: Split) -> Description:
    return Description.of("deeplabv3plus", split.manifest, step=7, mean_iou=0.5)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    evaluation: Evaluation,
    split: Split,
    model: keras.Model,
    description: Description,
) -> Path:
    folder = tmp_path_factory.mktemp("run") / "report-train"
    write_report(str(folder), evaluation, split, model, description=description, rows=ROWS)
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_report_has_its_files(folder: Path):
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert list(FILES)[-1] == "metrics.json", "what is_finished and people take for a whole report is written last"
    pictures = [name for name in FILES if name.endswith(".png")]
    assert len(pictures) == 5
    for name in pictures:
        with Image.open(folder / name) as image:
            assert min(image.size) > 300
            assert np.ptp(np.asarray(image.convert("L"))) > 200


def test_metrics_hold_scores_intervals_and_what_they_are_of(
    folder: Path, evaluation: Evaluation, split: Split, description: Description
):
    text = (folder / "metrics.json").read_text()
    found = json.loads(text)
    scores = evaluation.scores.to_json()
    assert {name: found[name] for name in scores} == scores
    assert found["interval_95"] == bootstrap_interval(evaluation.images.confusions, seed=0).to_json(CAMVID)
    assert (found["split"], found["images"], found["scales"], found["flip"]) == ("train", sum(SHARDS), [1.0], True)
    assert (found["window"], found["overlap"]) == (None, 0.0)
    assert found["dataset"]["folder"] == split.folder
    assert found["model"]["step"] == 7
    assert found["model"]["labels"] == "camvid11"
    assert found["loss"] == evaluation.loss
    assert f"  [ {', '.join(map(str, evaluation.confusion[0]))} ]," in text.splitlines()


def test_every_metric_is_in_the_file_and_in_the_table(folder: Path, evaluation: Evaluation):
    found = json.loads((folder / "metrics.json").read_text())
    text = printed(evaluation)
    assert [name for name in found if name in {metric.name for metric in METRICS}] == [each.name for each in METRICS]
    lines = [line for line in text.splitlines() if re.match("[a-z]", line)]
    for metric, line in zip(METRICS, lines, strict=False):
        assert found[metric.name] == metric.of(evaluation.scores)
        assert line.split("  ")[0] == metric.title
        assert f" {100 * metric.of(evaluation.scores):.1f} %" in line
    boundary, calibration = found["boundary_iou"], found["calibration"]
    others = [
        (boundary["mean"], boundary["interval_95"]["mean_iou"]),
        (calibration["error"], calibration["interval_95"]),
    ]
    for line, (value, (low, high)) in zip(lines[len(METRICS) :], others, strict=True):
        assert f"{100 * value:.1f} %, [{100 * low:.1f}, {100 * high:.1f}]" in line


def test_the_file_has_boundary_iou_calibration_and_slices(folder: Path, evaluation: Evaluation):
    found, images = json.loads((folder / "metrics.json").read_text()), evaluation.images
    counts = images.boundary.sum(axis=0)
    for row in CAMVID.classes:
        inter, true, shown = counts[row.train_id].tolist()
        assert found["boundary_iou"]["class_iou"][row.name] == (
            inter / (true + shown - inter) if true + shown else None
        )
    bins = found["calibration"]["bins"]
    assert sum(each["pixels"] for each in bins) == evaluation.confusion.sum()
    assert sum(each["pixels"] * (each["accuracy"] or 0) for each in bins) == pytest.approx(
        np.trace(evaluation.confusion)
    )
    assert found["slices"] == [each.to_json() for each in evaluation.slices]
    rows = read_csv(folder / "slices.csv")
    assert [(row["kind"], row["name"]) for row in rows] == [(each.kind, each.name) for each in evaluation.slices]


def test_the_results_of_each_image_are_kept(folder: Path, evaluation: Evaluation):
    found, names = read_results((folder / "images.npz").read_bytes())
    assert names == tuple(row.name for row in CAMVID.classes)
    np.testing.assert_array_equal(found.confusions, evaluation.images.confusions)
    assert found.filenames == evaluation.images.filenames
    assert (found.brightness > 0).all()


def test_the_readme_says_what_the_files_hold(folder: Path):
    said = (PROJECT / "trainer" / "README.md").read_text()
    with np.load(folder / "images.npz") as file:
        arrays = {name: file[name] for name in file.files}
    letters = {len(arrays["filenames"]): "N", len(CAMVID.classes): "C"}
    for name, array in arrays.items():
        shape = ", ".join(letters.get(size, str(size)) for size in array.shape)
        kind = "str" if array.dtype.kind == "U" else array.dtype.name
        assert f"| `{name}` | `{kind}[{shape}]`, " in said
    (columns,) = re.findall(r"`slices.csv` has a row for each, with the columns (.*):", said)
    assert re.findall(r"`(.*?)`", columns) == list(read_csv(folder / "slices.csv")[0])
    assert all(f"\n| `{kind}` | " in said for kind in KINDS)


def test_the_files_are_named_where_people_look_for_them(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"writes a report: {', '.join(FILES)}." in shown


def test_plots_are_imported_to_draw_alone():
    """Keras imports matplotlib itself where it is installed; ours is not to need it."""
    code = "import sys, trainer.training.run; sys.exit('trainer.evaluation.plots' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


def test_names_with_brackets_stay_as_they_are(tmp_path: Path, evaluation: Evaluation, split: Split, model: keras.Model):
    odd = tmp_path / "[1],  [ 2 ]"
    odd.symlink_to(split.folder)
    write_report(str(tmp_path / "report [1]"), evaluation, Split(str(odd), split.manifest, split.shards), model)
    found = json.loads((tmp_path / "report [1]" / "metrics.json").read_text())
    assert found["dataset"]["folder"] == str(odd)
    assert found["model"] is None
    assert {path.name for path in (tmp_path / "report [1]").iterdir()} == WITHOUT_ROWS


def test_the_table_of_classes(folder: Path, evaluation: Evaluation):
    rows, counts = read_csv(folder / "per_class.csv"), evaluation.confusion
    assert [row["name"] for row in rows] == [row.name for row in CAMVID.classes]
    assert [row["category"] for row in rows] == [row.category for row in CAMVID.classes]
    for index, row in enumerate(rows):
        hits, truth, shown = (int(row[name]) for name in ("correct_pixels", "true_pixels", "predicted_pixels"))
        assert (hits, truth, shown) == (counts[index, index], counts[index].sum(), counts[:, index].sum())
        assert float(row["iou"]) == hits / (truth + shown - hits)
        assert float(row["low"]) <= float(row["iou"]) <= float(row["high"])


def test_the_table_of_images_has_each_in_stored_order(folder: Path, evaluation: Evaluation, split: Split):
    rows = read_csv(folder / "per_image.csv")
    stored = list(open_dataset(split.folder, "train").as_numpy_iterator())
    assert [row["filename"] for row in rows] == [example["filename"].decode() for example in stored]
    assert [int(row["valid_pixels"]) for row in rows] == [(example["mask"] != IGNORE).sum() for example in stored]
    expected = [Scores(confusion=counts, labels=CAMVID).mean_iou for counts in evaluation.images.confusions]
    assert [float(row["mean_iou"]) for row in rows] == expected


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[Example]]:
    """The rows of the contact sheets that are drawn."""
    sheets: list[list[Example]] = []
    draw = plots.contact_sheet

    def contact_sheet(examples: list[Example], *rest: Any) -> Any:
        sheets.append(examples)
        return draw(examples, *rest)

    monkeypatch.setattr(plots, "contact_sheet", contact_sheet)
    return sheets


def test_the_contact_sheet_shows_the_worst_the_median_and_the_best(
    tmp_path: Path, evaluation: Evaluation, split: Split, model: keras.Model, shown: list[list[Example]]
):
    write_report(str(tmp_path / "report"), evaluation, split, model)
    (examples,) = shown
    means = np.array([scores.mean_iou for scores in evaluation.image_scores])
    order = np.argsort(means, kind="stable")
    picked = [*order[:2], *order[len(order) // 2 - 1 : len(order) // 2 + 1], *order[-2:]]
    ranks = ["worst", "worst", "median", "median", "best", "best"]
    assert [example.caption for example in examples] == [
        f"{rank}: {evaluation.images.filenames[index]}, mean IoU {100 * means[index]:.1f} %"
        for rank, index in zip(ranks, picked, strict=True)
    ]
    for index, example in zip(picked, examples, strict=True):
        sample = make_sample(int(index), "")  # what was written before it was normalized
        np.testing.assert_array_equal(example.image, sample.image)
        np.testing.assert_array_equal(example.truth, sample.mask)
        counts = np.zeros((11, 11), np.int64)
        valid = example.truth != IGNORE
        np.add.at(counts, (example.truth[valid], example.prediction[valid]), 1)
        np.testing.assert_array_equal(counts, evaluation.images.confusions[index])


@pytest.mark.parametrize("images", [1, 3])
def test_of_few_images_each_is_shown_once(tmp_path: Path, model: keras.Model, shown: list[list[Example]], images: int):
    few = open_split(str(write_dataset(tmp_path / "data", "raw_uint8", (images,))), "train")
    write_report(str(tmp_path / "report"), evaluate(model, few, batch=1, strategy=ONE), few, model)
    names = [example.caption.split()[1] for example in shown[0]]
    assert sorted(names) == sorted(f"s0-n{index}," for index in range(images))


def test_a_report_of_images_of_several_sizes(tmp_path: Path, model: keras.Model):
    several = open_split(str(write_dataset(tmp_path / "data", "png", (4,), ((8, 12), (20, 9)))), "train")
    found = evaluate(model, several, batch=2, strategy=ONE, views=Views((0.5, 1)))
    write_report(str(tmp_path / "report"), found, several, model)
    assert {path.name for path in (tmp_path / "report").iterdir()} == WITHOUT_ROWS


def evaluation_of(confusions: np.ndarray) -> Evaluation:
    return Evaluation(
        split="train",
        labels=CAMVID,
        images=results_of(confusions),
        confusion=confusions.sum(axis=0),
        loss=math.nan,
        views=Views(),
    )


def printed(evaluation: Evaluation) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_scores(evaluation, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_printed_table_says_all(evaluation: Evaluation):
    text, scores = printed(evaluation), evaluation.scores
    for row, iou, pixels in zip(CAMVID.classes, scores.class_iou, scores.confusion.sum(axis=1), strict=True):
        (line,) = [line for line in text.splitlines() if f" {row.name} " in line]
        low, high = 100 * evaluation.intervals.class_iou[row.train_id]
        for part in (f"{100 * iou:.1f}", f"[{low:.1f}, {high:.1f}]", f"{100 * pixels / scores.confusion.sum():.2f} %"):
            assert part in line
    low, high = 100 * evaluation.intervals.mean_iou
    assert f"mean IoU                {100 * scores.mean_iou:.1f} % of 11 classes, [{low:.1f}, {high:.1f}]\n" in text
    assert f"mean category IoU       {100 * scores.mean_category_iou:.1f} %\n" in text
    assert f"pixel accuracy          {100 * scores.pixel_accuracy:.1f} %\n" in text
    assert f"frequency-weighted IoU  {100 * scores.frequency_weighted_iou:.1f} %\n" in text
    assert re.search(r"calibration error +[\d.]+ %, \[[\d., ]+\], (over|under)confident\n", text)
    assert "left out" not in text


def test_the_printed_table_names_what_is_left_out():
    counts = np.zeros((2, 11, 11), np.int64)
    counts[:, 0, 0] = counts[:, 1, 0] = 5
    text = printed(evaluation_of(counts))
    assert "left out, as they are neither true nor predicted: pole, road, pavement" in text
    assert "of 2 classes" in text
    assert sum("absent" in line for line in text.splitlines() if "│" in line) == 11


def test_scores_of_nothing_are_reported(tmp_path: Path, split: Split, model: keras.Model):
    zeros = np.zeros((2, 11, 11), np.int64)
    nothing = evaluation_of(zeros)
    write_report(str(tmp_path), nothing, split, model)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["loss"] is found["mean_iou"] is None
    assert {path.name for path in tmp_path.iterdir()} == WITHOUT_ROWS - {"images.png"}
    assert {row["mean_iou"] for row in read_csv(tmp_path / "per_image.csv")} == {""}
    assert "absent" in printed(nothing)


def test_half_a_report_over_a_whole_one_does_not_look_whole(tmp_path: Path, split: Split, model: keras.Model):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "index.html").mkdir()
    with pytest.raises(tf.errors.OpError):
        write_report(str(tmp_path), evaluation_of(np.zeros((2, 11, 11), np.int64)), split, model)
    assert (tmp_path / "images.npz").exists()
    assert not (tmp_path / "metrics.json").exists()
