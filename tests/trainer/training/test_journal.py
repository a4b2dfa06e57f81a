from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from trainer.training.journal import FILE_NAME, Journal, NullJournal, Row, read_rows

LOGGED = ("loss", "mean_iou", "learning_rate", "images_per_second")


def train_row(step: int) -> Row:
    return Row(
        step=step,
        epoch=step / 8,
        split="train",
        loss=1 / step,
        mean_iou=step / 100,
        learning_rate=0.01,
        images_per_second=40.5,
    )


def val_row(step: int) -> Row:
    ious = {"road": 0.75, "Straße": 0.5, "train": None}
    return Row(step=step, epoch=step / 8, split="val", loss=0.25, mean_iou=0.625, class_iou=ious)


def open_journal(folder: Path | str, step: int = 0, reports_metric: bool = False) -> Journal:
    return Journal(str(folder), f"{folder}/logs", step=step, reports_metric=reports_metric)


def lines(folder: Path) -> list[str]:
    return (folder / FILE_NAME).read_text().splitlines(keepends=True)


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in lines(folder)]


def events(logs: Path) -> EventAccumulator:
    return EventAccumulator(str(logs), size_guidance={"tensors": 0}).Reload()


def scalars(found: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values."""
    tags = [tag for tag in found.Tags()["tensors"] if found.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"]
    return {
        tag: [(each.step, float(tf.make_ndarray(each.tensor_proto))) for each in found.Tensors(tag)] for tag in tags
    }


def test_what_a_journal_does_one_that_writes_nothing_takes_too(tmp_path: Path):
    does = {name for name, value in vars(Journal).items() if callable(value) and not name.startswith("_")}
    assert len(does) >= 6
    assert does <= set(vars(NullJournal))
    nothing = NullJournal()
    nothing.add(train_row(1))
    nothing.flush(now=True)
    nothing.close()
    assert not list(tmp_path.iterdir())


def test_rows_are_lines_of_json(tmp_path: Path):
    journal = open_journal(tmp_path)
    journal.add(train_row(4))
    journal.add(val_row(8))
    journal.flush()
    first, second = (json.loads(line) for line in lines(tmp_path))
    assert first == {
        "step": 4,
        "epoch": 0.5,
        "split": "train",
        "loss": 0.25,
        "mean_iou": 0.04,
        "learning_rate": 0.01,
        "images_per_second": 40.5,
    }
    assert second == {
        "step": 8,
        "epoch": 1.0,
        "split": "val",
        "loss": 0.25,
        "mean_iou": 0.625,
        "class_iou": {"road": 0.75, "Straße": 0.5, "train": None},
    }
    assert journal.rows == [first, second] == read_rows(str(tmp_path))
    journal.close()


def test_a_loss_that_is_not_known_is_null(tmp_path: Path):
    journal = open_journal(tmp_path)
    journal.add(Row(step=1, epoch=1.0, split="val", loss=None, mean_iou=None))
    journal.close()
    assert lines(tmp_path) == ['{"step": 1, "epoch": 1.0, "split": "val", "loss": null, "mean_iou": null}\n']


def test_a_row_is_written_once(tmp_path: Path):
    journal = open_journal(tmp_path)
    for step in (1, 2, 3):
        journal.add(train_row(step))
        journal.flush()
        assert steps(tmp_path) == list(range(1, step + 1))
    journal.flush()
    journal.close()
    assert steps(tmp_path) == [1, 2, 3]


def test_where_nothing_can_be_appended_the_file_is_written_anew(tmp_path: Path):
    """TensorFlow's file:// goes the way of its gs://."""
    journal = Journal(f"file://{tmp_path}", str(tmp_path / "logs"), step=0, reports_metric=False)
    for step in (1, 2):
        journal.add(train_row(step))
        journal.flush()
        assert steps(tmp_path) == list(range(1, step)), "a bucket's object may not change so often"
        journal.flush(now=True)
        assert steps(tmp_path) == list(range(1, step + 1))
    journal.close()
    assert [row["step"] for row in read_rows(f"file://{tmp_path}")] == [1, 2]
    assert not list(tmp_path.glob("*.tmp"))


def test_an_evaluation_that_will_come_again_is_dropped(tmp_path: Path):
    """A run that was stopped between the end of an epoch and what comes then."""
    journal = open_journal(tmp_path)
    journal.add(train_row(8))
    journal.add(val_row(8))
    journal.close()
    again = Journal(str(tmp_path), str(tmp_path / "logs"), step=8, evaluated=4, reports_metric=False)
    assert [(row["step"], row["split"]) for row in again.rows] == [(8, "train")]
    again.close()


def test_a_run_that_goes_on_drops_what_will_come_again(tmp_path: Path):
    journal = open_journal(tmp_path)
    for step in (2, 4, 6, 8):
        journal.add(train_row(step))
    journal.add(val_row(8))
    journal.close()
    again = open_journal(tmp_path, step=4)
    assert steps(tmp_path) == [2, 4]
    again.add(train_row(6))
    again.close()
    assert steps(tmp_path) == [2, 4, 6]
    assert len(again.rows) == 3


def test_a_last_line_that_was_cut_off_is_dropped(tmp_path: Path):
    journal = open_journal(tmp_path)
    for step in (1, 2, 3):
        journal.add(train_row(step))
    journal.close()
    whole = (tmp_path / FILE_NAME).read_bytes()
    last = len(lines(tmp_path)[-1])
    for cut in (1, 2, last - 1, last):
        (tmp_path / FILE_NAME).write_bytes(whole[:-cut])
        assert [row["step"] for row in read_rows(str(tmp_path))] == [1, 2]
    open_journal(tmp_path, step=9).close()
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("name", ["step", "epoch", "loss"])
def test_a_number_that_no_plot_can_show_is_none_of_a_row(name: str, tmp_path: Path):
    journal = open_journal(tmp_path)
    for step in (1, 2):
        journal.add(train_row(step))
    journal.close()
    first, second = lines(tmp_path)
    row = json.dumps({**json.loads(second), name: 10**400})
    (tmp_path / FILE_NAME).write_text(f"{first}{row}\n")
    assert [each["step"] for each in read_rows(str(tmp_path))] == [1]


def test_a_run_without_rows_has_none(tmp_path: Path):
    assert read_rows(str(tmp_path)) == []
    open_journal(tmp_path).close()
    assert read_rows(str(tmp_path)) == []


def test_tensorboard_shows_the_rows(tmp_path: Path):
    journal = open_journal(tmp_path)
    journal.add(train_row(4))
    journal.add(train_row(8))
    journal.add(val_row(8))
    journal.close()
    found = scalars(events(tmp_path / "logs"))
    expected: dict[str, list[tuple[int, float]]] = {
        f"{name}/train": [(step, getattr(train_row(step), name)) for step in (4, 8)] for name in LOGGED
    }
    expected |= {"loss/val": [(8, 0.25)], "mean_iou/val": [(8, 0.625)]}
    expected |= {"val/class_iou/road": [(8, 0.75)], "val/class_iou/Straße": [(8, 0.5)]}
    assert found.keys() == expected.keys()
    for tag, values in expected.items():
        assert found[tag] == [(step, pytest.approx(value, rel=1e-6)) for step, value in values]


def test_tensorboard_shows_pictures_and_the_graph(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 36, 3), np.uint8)
    graph = tf.function(lambda x: x + 1).get_concrete_function(tf.constant(1.0)).graph
    journal = open_journal(tmp_path)
    journal.add_pictures(pictures, 8)
    journal.add_graph(graph)
    journal.close()
    found = events(tmp_path / "logs")
    (shown,) = found.Tensors("image, truth, prediction")
    width, height, *encoded = tf.make_ndarray(shown.tensor_proto)
    assert (shown.step, int(width), int(height)) == (8, 36, 8)
    np.testing.assert_array_equal([tf.io.decode_png(each).numpy() for each in encoded], pictures)
    assert {node.name for node in found.Graph().node} == {node.name for node in graph.as_graph_def().node}


def test_tensorboard_shows_the_hyperparameters(tmp_path: Path):
    """As its tab HParams reads them."""
    journal = open_journal(tmp_path)
    values = {"learning_rate": 0.01, "model": "u2netp", "augment": False, "epochs": 12, "crop_size": [64, 128]}
    journal.add_hyperparameters({**values, "clip_norm": None})
    journal.close()
    content = events(tmp_path / "logs").SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content).hparams
    found = {name: getattr(shown[name], shown[name].WhichOneof("kind")) for name in shown}
    assert found == {**values, "crop_size": "[64, 128]"}
    assert (found["augment"], type(found["augment"])) == (False, bool)


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a hyperparameter search reads the metric of its trial 7, as Vertex AI sets it."""
    path = tmp_path / "hypertune" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    return path


def reported(path: Path) -> dict[str, Any]:
    (line,) = path.read_text().splitlines()
    return json.loads(line)


def test_a_search_is_told_the_metric(search: Path, tmp_path: Path):
    journal = open_journal(tmp_path, reports_metric=True)
    for step, mean_iou in ((8, 0.25), (16, 0.5)):
        journal.report_metric(mean_iou, step)
        found = reported(search)
        assert (found["trial"], found["mean_iou"], found["global_step"]) == ("7", str(mean_iou), str(step))
    journal.close()


def test_without_a_search_nobody_is_told(search: Path, tmp_path: Path):
    journal = open_journal(tmp_path)
    journal.report_metric(0.5, 8)
    journal.close()
    assert not search.exists()
