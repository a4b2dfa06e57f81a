"""What whole training runs make at their end: the report and the export, once, again, later or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.runs import train_here
from trainer.evaluation.report import FILES

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

EVALUATING = "evaluating the model of step"


def test_the_report_of_a_score_that_was_just_made_is_that_of_a_restart(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The averages of the weights are scored; the best model need not be the last one."""
    run = tmp_path / "run"
    options = ("--epochs=3", "--ema=0.9", "--learning_rate=0.1")
    assert train_here(dataset, run, *options) == 0
    assert EVALUATING not in capsys.readouterr().out
    first = {name: (run / "report-val" / name).read_bytes() for name in FILES}
    shutil.rmtree(run / "report-val")
    assert train_here(dataset, run, *options) == 0
    assert EVALUATING in capsys.readouterr().out
    assert {name: (run / "report-val" / name).read_bytes() for name in FILES} == first


def test_report_and_export_can_be_left_for_later(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, length = tmp_path / "run", "--steps=2"
    report, export = run / "report-val", run / "export"

    def made(*options: str) -> str:
        assert train_here(dataset, run, length, *options) == 0
        return capsys.readouterr().out

    said = made("--no_report", "--no_export")
    assert f"{run}/best.keras: the best model, from step 2" in said
    assert EVALUATING not in said
    assert not report.exists()
    assert not export.exists()
    assert "is already complete" in made("--no_report", "--no_export")
    assert f"{run}/finished.json is without the export: writing the export again" in made("--no_report")
    assert not report.exists()
    assert (export / "saved_model.pb").exists()
    assert f"{run}/finished.json is without the report: writing the report and the export again" in made()
    assert (report / "metrics.json").exists()
    for options in ((), ("--no_report",), ("--no_report", "--no_export")):
        assert "is already complete" in made(*options)
    (report / "metrics.json").unlink()
    assert "is already complete" in made("--no_report")
    assert "report/metrics.json: missing, or different from" in made()
