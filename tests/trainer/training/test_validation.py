"""What is done at the end of epochs and of a run, with models that see one class everywhere."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from beam_pipelines.contract.labels import IGNORE
from tests.support.color_model import describe, make_color_model
from tests.support.handmade import EXAMPLES, SIZE, make_sample, to_record, write_dataset, write_shard
from trainer.cluster import Cluster
from trainer.config import parse_train
from trainer.data.dataset import Split, open_split
from trainer.data.training_set import TrainingSet
from trainer.evaluation.evaluator import EvaluationStoppedError
from trainer.evaluation.metrics import METRICS, Scores
from trainer.inference.model_file import load_model, save_model
from trainer.inference.saved_model import export_model
from trainer.objective.ema import WeightAverages
from trainer.training import finish
from trainer.training.devices import Batches
from trainer.training.inputs import Inputs
from trainer.training.journal import Journal, NullJournal, read_rows
from trainer.training.learner import Learner
from trainer.training.plan import Plan
from trainer.training.state import State
from trainer.training.validation import Validation

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CLASSES = 11
PIXELS = np.bincount(np.concatenate([make_sample(number, "").mask.ravel() for number in range(EXAMPLES)]))[:CLASSES]
RAREST, *_, MIDDLE, MOST = (int(index) for index in np.argsort(PIXELS))


def mean_iou_of(seen: int) -> float:
    """Of a model that sees this class everywhere: the IoU of all others is 0."""
    return float(PIXELS[seen] / PIXELS.sum() / CLASSES)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return open_split(str(write_dataset(tmp_path_factory.mktemp("data"), "raw_uint8")), "train")


def make_plan() -> Plan:
    """Epochs of 10 steps."""
    intervals: dict[str, Any] = {"evaluate_epochs": 1, "checkpoint_steps": 100, "log_steps": 100}
    return Plan(total_steps=100, steps_per_epoch=10, steps_per_call=None, global_batch=8, **intervals)


class Run:
    """A validation as a run has it in `folder`; `see` makes the model see one class everywhere."""

    def __init__(self, folder: Path, train: Split, *, chief: bool = True, val: Split | str | None = "train") -> None:
        images = keras.Input((None, None, 3))
        self.layer = keras.layers.Conv2D(CLASSES, 1, kernel_initializer="zeros")
        self.model = keras.Model(images, self.layer(images))
        self.state, self.output = State(CLASSES), io.StringIO()
        self.best = folder / "best.keras"
        self.journal = Journal(str(folder), f"{folder}/logs", step=0, reports_metric=True) if chief else NullJournal()
        config = parse_train([f"--output={folder}", "--dataset=data"], {})
        other = Cluster(hosts={"worker": ("first:1", "second:1")}, index=1)
        inputs = Inputs(
            config=config if chief else replace(config, cluster=other),
            strategy=tf.distribute.get_strategy(),
            train=TrainingSet((train,)),
            val=train if isinstance(val, str) else val,
            batches=Batches(replicas=1, per_replica=8),
            plan=make_plan(),
            image_size=SIZE,
        )
        learner = Learner(model=self.model, optimizer=keras.optimizers.SGD())
        self.validation = Validation(
            inputs=inputs,
            learner=learner,
            state=self.state,
            journal=self.journal,
            console=Console(file=self.output, width=100),
        )

    def validate(self, step: int) -> dict[str, float]:
        return self.validation(step, lambda: False)

    def see(self, index: int) -> None:
        self.layer.bias.assign(np.eye(CLASSES)[index])

    def seen_by_best(self) -> int:
        model, _ = load_model(str(self.best))
        return int(np.argmax(model(np.zeros((1, *SIZE, 3), np.float32))[0, 0, 0]))


@pytest.fixture(autouse=True)
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hypertune" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    return path


def test_the_best_model_is_kept(tmp_path: Path, split: Split, search: Path):
    run = Run(tmp_path, split)
    kept = []
    for step, seen in ((10, MIDDLE), (20, RAREST), (25, MOST)):
        run.see(seen)
        logs = run.validate(step)
        assert logs["val_mean_iou"] == pytest.approx(mean_iou_of(seen), rel=1e-9)
        assert logs["val_loss"] > 0
        kept.append((run.seen_by_best(), load_model(str(run.best))[1].step))
    assert kept == [(MIDDLE, 10), (MIDDLE, 10), (MOST, 25)]
    assert float(run.state.best) == pytest.approx(mean_iou_of(MOST), rel=1e-9)
    description = load_model(str(run.best))[1]
    assert (description.model, description.dataset) == ("deeplabv3plus", split.manifest.fingerprint)
    assert description.mean_iou == pytest.approx(mean_iou_of(MOST), rel=1e-9)
    assert run.output.getvalue().splitlines() == [
        f"epoch 1, step 10: validation mean IoU {mean_iou_of(MIDDLE):.4f}, the best",
        f"epoch 2, step 20: validation mean IoU {mean_iou_of(RAREST):.4f}",
        f"epoch 2.5, step 25: validation mean IoU {mean_iou_of(MOST):.4f}, the best",
    ]
    rows = read_rows(str(tmp_path))
    assert [(row["step"], row["epoch"], row["split"]) for row in rows] == [
        (10, 1.0, "val"),
        (20, 2.0, "val"),
        (25, 2.5, "val"),
    ]
    name = split.manifest.labels.classes[MOST].name
    assert rows[-1]["class_iou"][name] == pytest.approx(PIXELS[MOST] / PIXELS.sum(), rel=1e-9)
    reported = [json.loads(line) for line in search.read_text().splitlines()]
    assert (reported[-1]["mean_iou"], reported[-1]["global_step"]) == (str(rows[-1]["mean_iou"]), "25")


def test_a_run_that_goes_on_keeps_the_best_of_before(tmp_path: Path, split: Split):
    run = Run(tmp_path, split)
    run.state.best.assign(mean_iou_of(MIDDLE))
    run.see(RAREST)
    run.validate(30)
    assert not run.best.exists()


def test_averages_are_scored_and_kept(tmp_path: Path, split: Split):
    run = Run(tmp_path, split)
    run.see(MOST)
    averages = WeightAverages(run.model.trainable_variables, 0.9)
    run.validation.learner = replace(run.validation.learner, averages=averages)
    run.see(RAREST)
    assert run.validate(10)["val_mean_iou"] == pytest.approx(mean_iou_of(MOST), rel=1e-9)
    assert run.seen_by_best() == MOST
    assert int(np.argmax(run.layer.bias.numpy())) == RAREST


def test_without_a_split_the_newest_model_is_kept(tmp_path: Path, split: Split, search: Path):
    run = Run(tmp_path, split, val=None)
    for step, seen in ((10, MOST), (20, RAREST)):
        run.see(seen)
        assert run.validate(step) == {}
        assert run.seen_by_best() == seen
        assert load_model(str(run.best))[1].mean_iou is None
    assert run.output.getvalue() == ""
    assert not search.exists()


def test_other_hosts_score_and_write_nothing(tmp_path: Path, split: Split):
    run = Run(tmp_path, split, chief=False)
    run.see(MOST)
    assert run.validate(10)["val_mean_iou"] == pytest.approx(mean_iou_of(MOST), rel=1e-9)
    assert float(run.state.best) == pytest.approx(mean_iou_of(MOST), rel=1e-9)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_scored_the_first_model_is_kept(tmp_path: Path, split: Split):
    """All pixels of the split are void, so there is neither a loss nor an IoU."""
    samples = [
        replace(make_sample(number, f"void-{number}"), mask=np.full(SIZE, IGNORE, np.uint8)) for number in (0, 1)
    ]
    shard = write_shard(tmp_path / "void.tfrecord", (to_record(sample, "raw_uint8") for sample in samples))
    manifest = replace(split.manifest, splits={"void": (shard,)})
    run = Run(tmp_path, split, val=Split(str(tmp_path), manifest, (shard,)))
    for step, seen in ((10, MOST), (20, RAREST)):
        run.see(seen)
        assert np.isnan(run.validate(step)["val_mean_iou"])
        assert run.seen_by_best() == MOST
    assert float(run.state.best) == 0  # which any score is better than
    assert [(row["loss"], row["mean_iou"]) for row in read_rows(str(tmp_path))] == [(None, None)] * 2


def test_tensorboard_shows_every_metric_once(tmp_path: Path, split: Split):
    run = Run(tmp_path, split)
    run.see(MOST)
    run.validate(10)
    run.journal.close()
    logs = EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0}).Reload()
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    counts[:, MOST] = PIXELS
    for metric in METRICS:
        (point,) = logs.Tensors(f"{metric.name}/val")
        expected = metric.of(Scores(confusion=counts, labels=split.manifest.labels))
        assert (point.step, float(tf.make_ndarray(point.tensor_proto))) == (10, pytest.approx(expected, rel=1e-6))


def test_tensorboard_shows_image_truth_and_prediction(tmp_path: Path, split: Split):
    run = Run(tmp_path, split)
    run.see(MOST)
    run.validate(10)
    run.journal.close()
    (shown,) = (
        EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0})
        .Reload()
        .Tensors("image, truth, prediction")
    )
    encoded = tf.make_ndarray(shown.tensor_proto)[2:]
    assert (shown.step, len(encoded)) == (10, 3)
    palette, samples = split.manifest.labels.palette, [make_sample(number, "") for number in range(EXAMPLES)]
    known = {sample.mask.tobytes(): sample for sample in samples}
    for each in encoded:
        image, truth, prediction = np.split(tf.io.decode_png(each).numpy(), 3, axis=1)
        (sample,) = (one for one in known.values() if (palette[one.mask] == truth).all())
        assert np.abs(image.astype(int) - sample.image).max() <= 1
        assert (prediction == palette[MOST]).all()
        assert (truth[sample.mask == IGNORE] == palette[IGNORE]).all()


@pytest.mark.parametrize("val_split", ["val", ""])
def test_a_run_is_finished_when_it_is_reported_and_exported(tmp_path: Path, val_split: str):
    config = parse_train([f"--output={tmp_path}/run", "--dataset=data", f"--val_split={val_split}"], {})
    exported, reported = tmp_path / "run/export", tmp_path / "run/report-val/metrics.json"
    record = f"{tmp_path}/run/finished.json"
    again = "writing the report and the export again" if val_split else "writing the export again"
    assert finish.what_is_missing(config) == f"{record} is missing: {again}"
    model, description = make_color_model(describe()), describe()
    export_model(str(exported), model, description)
    save_model(f"{tmp_path}/run/best.keras", model, description)
    reported.parent.mkdir(parents=True)
    reported.touch()
    finish.keep_record(config)
    assert finish.what_is_missing(config) is None
    save_model(f"{tmp_path}/run/best.keras", model, replace(description, step=description.step + 1))
    assert finish.what_is_missing(config) == f"best.keras: missing, or different from {record}; {again}"
    finish.keep_record(config)
    reported.write_text("0")
    assert (finish.what_is_missing(config) is None) == (val_split == "")
    finish.keep_record(config)
    (exported / "saved_model.pb").unlink()
    assert finish.what_is_missing(config) == f"export/saved_model.pb: missing, or different from {record}; {again}"
    Path(record).write_bytes(b"")
    assert finish.what_is_missing(config) == f"{record}: it is empty; {again}"


def test_an_evaluation_that_is_stopped_keeps_and_writes_nothing(tmp_path: Path, split: Split):
    run = Run(tmp_path, split)
    with pytest.raises(EvaluationStoppedError):
        run.validation(10, lambda: True)
    assert float(run.state.best) == -1
    assert not run.best.exists()
    assert run.output.getvalue() == ""
    assert run.validate(10)["val_mean_iou"] > 0
