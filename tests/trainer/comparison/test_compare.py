"""The command: reports in, tables, comparison.json and a page out; and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.handmade import EXAMPLES, write_dataset
from tests.support.reports import confusions_of, write_run
from tests.support.results import results_of
from trainer import evaluate
from trainer.compare import main
from trainer.comparison.runs import names_of
from trainer.comparison.wording import points
from trainer.data.dataset import read_manifest
from trainer.inference.model_file import Description, save_model

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra `trainer`)")

CAMVID = BUILTIN_TABLES["camvid11"]()
IMAGES = 30
SHARES = {"base": 0.7, "base1": 0.71, "better": 0.8, "better1": 0.81}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with the runs of SHARES."""
    generator = np.random.default_rng(1)
    for name, share in SHARES.items():
        confusions = confusions_of(generator, IMAGES, 11, share)
        write_run(tmp_path / name, CAMVID, confusions, seed=int(name.endswith("1")), learning_rate=share)
    return tmp_path


def numbers(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return value


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_two_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{runs}/base", f"{runs}/better/report-val"]) == 0
    shown = capsys.readouterr().out
    assert "report-val is better" in shown
    assert "One run a side" in shown
    assert f"page: {runs}/comparison/index.html" in shown
    found = numbers(runs / "comparison")
    assert (found["images"], found["split"]) == (IMAGES, "val")
    (comparison,) = found["comparisons"]
    scores = comparison["mean_iou"]
    metrics = json.loads((runs / "better" / "report-val" / "metrics.json").read_text())
    assert scores["b"] == pytest.approx(metrics["mean_iou"], rel=1e-14)
    assert scores["p"] == scores["p_adjusted"] == 0.0001
    assert scores["interval_95"][0] < scores["difference"] < scores["interval_95"][1]
    assert comparison["class_iou"].keys() == metrics["class_iou"].keys()
    assert len(comparison["image_mean_iou"]) == IMAGES
    assert found["settings"] == {"learning_rate": {"base": "0.7", "report-val": "0.8"}}
    page = (runs / "comparison" / "index.html").read_text()
    assert "is better than base" in page
    assert "0.0001" in page


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_reports_of_trainer_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "scenes", "raw_uint8")
    manifest = read_manifest(str(dataset))
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        images = keras.Input((None, None, 3))
        model = keras.Model(images, keras.layers.Conv2D(11, 3, padding="same")(images))
        run = tmp_path / f"run{seed}"
        run.mkdir()
        save_model(f"{run}/best.keras", model, Description.of("deeplabv3plus", manifest, step=seed))
        assert evaluate.main([f"--model={run}", f"--dataset={dataset}", "--split=train"]) == 0
    again = tmp_path / "elsewhere" / "flipped"
    assert (
        evaluate.main([f"--model={run}", f"--dataset={dataset}", "--split=train", "--flip", f"--output={again}"]) == 0
    )
    beside, elsewhere = (json.loads((each / "metrics.json").read_text()) for each in (run / "report-train", again))
    assert (beside["run"], elsewhere["run"]) == (None, str(run))
    assert main([f"{tmp_path}/run0", f"{tmp_path}/run1", "--split=train"]) == 0
    found = numbers(tmp_path / "comparison")
    assert found["images"] == EXAMPLES
    assert found["dataset"] == manifest.fingerprint
    assert [side["runs"][0]["model"]["step"] for side in found["sides"]] == [0, 1]
    assert "note: One run a side" in capsys.readouterr().out


def test_each_later_run_is_compared_with_the_first(runs: Path) -> None:
    assert main([f"{runs}/{name}" for name in ("base", "base1", "better")]) == 0
    comparisons = numbers(runs / "comparison")["comparisons"]
    assert [(each["a"], each["b"]) for each in comparisons] == [("base", "base1"), ("base", "better")]
    p, adjusted = ([each["mean_iou"][key] for each in comparisons] for key in ("p", "p_adjusted"))
    assert min(adjusted) == 2 * min(p), "of two tests"


def test_several_runs_a_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = (f"--a={runs}/base,{runs}/base1", f"--b={runs}/better,{runs}/better1")
    assert main([*sides, f"--output={runs}/out"]) == 0
    shown = capsys.readouterr().out
    assert "it can't be below 0.333" in shown
    assert "Few runs (2 and 2)" in shown
    assert "One run a side" not in shown
    found = numbers(runs / "out")
    (comparison,) = found["comparisons"]
    means = [[run["mean_iou"] for run in side["runs"]] for side in found["sides"]]
    assert comparison["mean_iou"]["difference"] == pytest.approx(np.mean(means[1]) - np.mean(means[0]))
    assert comparison["permutation_of_runs"] == {"p": pytest.approx(1 / 3), "least": pytest.approx(1 / 3)}
    assert found["settings"]["seed"] == {"base": "0", "base1": "1", "better": "0", "better1": "1"}


def test_images_in_another_order_are_matched_by_name(runs: Path) -> None:
    assert main([f"{runs}/base", f"{runs}/better"]) == 0
    expected = numbers(runs / "comparison")["comparisons"]
    report = runs / "better" / "report-val"
    results = results_of(np.load(report / "images.npz")["confusions"])
    turned = {name: value[::-1] for name, value in vars(results).items()}
    (report / "images.npz").write_bytes(type(results)(**turned).to_bytes(CAMVID))
    assert main([f"{runs}/base", f"{runs}/better"]) == 0
    assert numbers(runs / "comparison")["comparisons"] == expected


def test_other_views_are_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(runs / "base" / "report-val" / "metrics.json", overlap=0.0)
    edit(runs / "better" / "report-val" / "metrics.json", flip=True)
    assert main([f"{runs}/base", f"{runs}/better"]) == 0
    shown = capsys.readouterr().out
    assert "scored with different flipping: base off, better on; that is part of the difference." in shown
    assert shown.count("note: ") == 2
    edit(runs / "base" / "report-val" / "metrics.json", window=[256, 128], overlap=0.25, flip=True)
    assert main([f"{runs}/base", f"{runs}/better"]) == 0
    shown = capsys.readouterr().out
    told = "different windows: base windows of 256x128 with overlap 0.25, better whole images; that is part of"
    assert told in shown
    assert shown.count("note: ") == 2, "one for window and overlap"


def test_models_that_are_not_in_the_folder_of_a_run(runs: Path) -> None:
    """Reports alone, without settings and learning curves."""
    reports = [shutil.copytree(runs / name / "report-val", runs / "reports" / name) for name in ("base", "better")]
    assert main([str(report) for report in reports]) == 0
    found = numbers(runs / "reports" / "comparison")
    assert found["settings"] == {}
    page = (runs / "reports" / "comparison" / "index.html").read_text()
    assert "No run has a config.json" in page
    assert "No run has a metrics.jsonl" in page


def test_a_report_elsewhere_tells_its_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = [shutil.copytree(runs / name / "report-val", runs / "reports" / name) for name in ("base", "better")]
    for report in reports:
        edit(report / "metrics.json", run=str(runs / report.name))
    assert main([str(report) for report in reports]) == 0
    assert numbers(runs / "reports" / "comparison")["settings"] == {"learning_rate": {"base": "0.7", "better": "0.8"}}
    assert "No run has a metrics.jsonl" not in (runs / "reports" / "comparison" / "index.html").read_text()
    (reports[0] / "images.npz").unlink()
    assert main([str(report) for report in reports]) == 1
    cure = f"`python -m trainer.evaluate --model={runs}/base --dataset=out/scenes --split=val --output={reports[0]}`"
    assert cure in capsys.readouterr().err


def test_a_report_is_named_from_the_folder_of_its_run(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs / "base")
    assert main(["report-val", "../better"]) == 0
    assert numbers(runs / "base" / "comparison")["settings"] == {
        "learning_rate": {"report-val": "0.7", "better": "0.8"}
    }
    Path("report-val/images.npz").unlink()
    assert main(["report-val", "../better"]) == 1
    cure = "`python -m trainer.evaluate --model=. --dataset=out/scenes --split=val --output=report-val`"
    assert cure in capsys.readouterr().err


def test_the_split_of_a_named_report(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = [f"{runs}/{name}/report-val" for name in ("base", "better")]
    for report in reports:
        edit(Path(report, "metrics.json"), split="train")
    assert main(reports) == 0, "without --split, whatever they are of"
    assert main([*reports, "--split=val"]) == 1
    assert f"{reports[0]} is a report of split train, not of val: leave --split out" in capsys.readouterr().err


def test_one_report_in_two_spellings_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    shutil.copytree("base", "copy")
    Path("link").symlink_to("base")
    for other in ("./base", "base/report-val", "link", "copy"):
        assert main(["base", other]) == 1, other
        assert "name each run once" in capsys.readouterr().err


def test_one_image_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, share in (("a", 0.5), ("b", 0.6)):
        write_run(tmp_path / name, CAMVID, confusions_of(np.random.default_rng(0), 1, 11, share))
    assert main([f"{tmp_path}/a", f"{tmp_path}/b"]) == 1
    assert "needs 2 or more" in capsys.readouterr().err


def test_an_image_without_valid_pixels_and_a_class_that_is_nowhere(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, share in (("a", 0.5), ("b", 0.9)):
        confusions = confusions_of(generator, 25, 11, share)
        confusions[3] = 0
        confusions[:, :, 0] += confusions[:, :, 4]
        confusions[:, 4] = confusions[:, :, 4] = 0
        write_run(tmp_path / name, CAMVID, confusions)
    assert main([f"{tmp_path}/a", f"{tmp_path}/b"]) == 0
    (comparison,) = numbers(tmp_path / "comparison")["comparisons"]
    assert len(comparison["image_mean_iou"]) == 24
    assert [name for name, each in comparison["class_iou"].items() if each["p"] is None] == ["pavement"]
    assert "absent" in (tmp_path / "comparison" / "index.html").read_text()


def rewrite(report: Path, confusions: np.ndarray) -> None:
    """Other results of the same images."""
    (report / "images.npz").write_bytes(results_of(confusions).to_bytes(CAMVID))
    edit(report / "metrics.json", confusion=confusions.sum(0).tolist())


def with_more_pixels(report: Path) -> None:
    rewrite(report, 4 * np.load(report / "images.npz")["confusions"])


def with_fewer_images(report: Path) -> None:
    rewrite(report, np.load(report / "images.npz")["confusions"][:-1])


def of_another_evaluation(report: Path) -> None:
    shutil.copy(report.parents[1] / "base1" / "report-val" / "images.npz", report)


def with_other_classes(report: Path) -> None:
    table = BUILTIN_TABLES["cityscapes7"]()
    confusions = np.load(report / "images.npz")["confusions"][:, :7, :7]
    (report / "images.npz").write_bytes(results_of(confusions).to_bytes(table))
    edit(report / "metrics.json", confusion=confusions.sum(0).tolist())


@pytest.mark.parametrize("part", ["config", "identity"])
def test_a_config_of_another_form_is_left_out(runs: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    edit(runs / "better" / "config.json", **{part: [1]})
    assert main([f"{runs}/base", f"{runs}/better"]) == 0
    assert "better is better" in capsys.readouterr().out


EVALUATE = "better --dataset=out/scenes --split=val`"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda report: shutil.rmtree(report.parent), ["there is no such folder"]),
        (lambda report: shutil.rmtree(report), ["no metrics.json", EVALUATE]),
        (lambda report: (report / "metrics.json").unlink(), ["no metrics.json", EVALUATE]),
        (lambda report: (report / "metrics.json").write_text("{}"), ["metrics.json is damaged", EVALUATE]),
        (lambda report: edit(report / "metrics.json", model=["unet"]), ["metrics.json is damaged", EVALUATE]),
        (lambda report: edit(report / "metrics.json", model={"step": "x"}), ["metrics.json is damaged", EVALUATE]),
        (lambda report: (report / "images.npz").unlink(), ["no images.npz, which earlier versions", EVALUATE]),
        (lambda report: (report / "images.npz").write_bytes(b"PK"), ["images.npz is damaged", EVALUATE]),
        (of_another_evaluation, ["images.npz and metrics.json are not of one evaluation", EVALUATE]),
        (lambda report: edit(report / "metrics.json", split="test"), ["split val, the other of test", "--split"]),
        (
            lambda report: edit(report / "metrics.json", dataset={"folder": "b", "fingerprint": "0" * 64}),
            ["the data sets out/scenes (5f5f5f5f5f5f) and b (000000000000)", "evaluate both"],
        ),
        (with_other_classes, ["11 and 7: 'building' only in the first", "'flat' only in the other; compare models"]),
        (with_fewer_images, ["other images, 30 and 29: 'image-0029' only in the first"]),
        (with_more_pixels, ["true pixels of 30 images differ", "another size", "same options"]),
    ],
)
def test_what_can_not_be_compared_is_refused_with_a_cure(
    runs: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], told: list[str]
) -> None:
    damage(runs / "better" / "report-val")
    assert main([f"{runs}/base", f"{runs}/better"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert all(each in shown for each in told), shown
    assert not (runs / "comparison").exists()


def test_another_comparison_is_not_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = [[f"{runs}/base", f"{runs}/{name}"] for name in ("better", "better1")]
    assert main(first) == main(first) == 0, "the same one again"
    before = (runs / "comparison" / "comparison.json").read_bytes()
    assert main(second) == 1
    assert "already contains comparison.json and index.html" in capsys.readouterr().err
    assert (runs / "comparison" / "comparison.json").read_bytes() == before
    assert main([*second, "--overwrite"]) == 0


def test_a_page_of_something_else_is_never_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, mine = runs / "base" / "report-val", runs / "mine"
    mine.mkdir()
    for folder, told in ((mine, "index.html, not of a comparison"), (report, "the folder of a report")):
        (folder / "index.html").write_text("mine")
        assert main([f"{runs}/base", f"{runs}/better", f"--output={folder}", "--overwrite"]) == 1
        shown = capsys.readouterr().err
        assert told in shown
        assert shown.endswith("choose another --output\n")
        assert (folder / "index.html").read_text() == "mine"
        assert not (folder / "comparison.json").exists()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["a"], "expected two runs or more"),
        ([], "expected two runs or more"),
        (["a", "b", "a/"], "a is named twice"),
        (["a", "--b=b"], "name runs either"),
        (["--a=a,b"], "set --b, too"),
        (["--a=a,b", "--b=c,b"], "b is named twice"),
        (["a", "b", f"--output={__file__}"], "is no folder, so nothing can be written to it: choose another --output"),
    ],
)
def test_wrong_arguments(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_a_difference_has_a_sign_unless_it_is_zero() -> None:
    assert [points(value) for value in (0.012, -0.012, 0.0, -0.0, -0.0004, 0.0004)] == [
        *("+1.2", "\N{MINUS SIGN}1.2"),
        *("0.0", "0.0", "0.0", "0.0"),
    ]


def test_names_are_the_shortest_that_differ() -> None:
    assert names_of(["out/a", "out/b/"]) == ["a", "b"]
    assert names_of(["gs://x/a/run", "gs://x/b/run"]) == ["a/run", "b/run"]
    assert names_of(["run", "a/run"]) == ["run", "a/run"]
