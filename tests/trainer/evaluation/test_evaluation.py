from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from beam_pipelines.pixels.conform import Sample
from tests.support.builds import PROJECT, build
from tests.support.handmade import EXAMPLES, SIZE, to_record, write_dataset, write_shard
from trainer.data.dataset import Split, open_dataset, open_split
from trainer.evaluation.evaluator import (
    Evaluation,
    EvaluationError,
    EvaluationStoppedError,
    Evaluator,
    evaluate,
    renormalized,
)
from trainer.inference.logits import predict_logits
from trainer.inference.model_file import Description, save_model
from trainer.inference.views import Views, ViewsError

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZES = ((8, 12), (16, 8), (9, 31))
CLASSES = 11
ONE = tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A data set of one size and one of several."""
    root = tmp_path_factory.mktemp("data")
    return {
        "one": str(write_dataset(root / "one", "raw_uint8")),
        "several": str(write_dataset(root / "several", "raw_float32", sizes=SIZES)),
    }


@pytest.fixture(scope="module")
def split(folders: dict[str, str]) -> Split:
    return open_split(folders["one"], "train")


def make_model(
    seed: int = 0, *, size: int = 1, shape: tuple[int | None, int | None] = (None, None), classes: int = CLASSES
) -> keras.Model:
    """A single convolution of size x size."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((*shape, 3))
    start = keras.initializers.RandomNormal(stddev=1.0)
    return keras.Model(images, keras.layers.Conv2D(classes, size, padding="same", kernel_initializer=start)(images))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return make_model()


def examples_of(folder: str) -> Iterator[dict[str, Any]]:
    yield from open_dataset(folder, "train").as_numpy_iterator()


def oracle(folder: str, model: keras.Model) -> tuple[np.ndarray, float]:
    """Confusions of each image, and the mean cross entropy, of a 1x1 convolution; in float64, pixel by pixel."""
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    counts, losses = [], []
    for example in examples_of(folder):
        logits = example["image"].astype(np.float64) @ kernel[0, 0] + bias
        count = np.zeros((CLASSES, CLASSES), np.int64)
        for truth, scores in zip(example["mask"].ravel(), logits.reshape(-1, CLASSES), strict=True):
            if truth != IGNORE:
                count[truth, scores.argmax()] += 1
                losses.append(np.log(np.exp(scores).sum()) - scores[truth])
        counts.append(count)
    return np.stack(counts), float(np.mean(losses))


@pytest.mark.parametrize(("name", "batch"), [("one", 1), ("one", 7), ("one", 64), ("several", 4)])
def test_every_image_counts_once_and_as_in_numpy(folders: dict[str, str], model: keras.Model, name: str, batch: int):
    found = evaluate(model, open_split(folders[name], "train"), batch=batch, strategy=ONE)
    counts, loss = oracle(folders[name], model)
    np.testing.assert_array_equal(found.confusions, counts)
    assert found.confusions.dtype == found.confusion.dtype == np.int64
    np.testing.assert_array_equal(found.confusion, counts.sum(axis=0))
    np.testing.assert_array_equal(found.scores.confusion, found.confusion)
    assert [scores.pixel_accuracy for scores in found.image_scores] == [np.trace(each) / each.sum() for each in counts]
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.filenames == tuple(example["filename"].decode() for example in examples_of(folders[name]))
    assert (found.split, found.views) == ("train", Views())
    assert found.intervals.mean_iou[0] < found.scores.mean_iou < found.intervals.mean_iou[1]


def test_progress_comes_to_the_number_of_images(split: Split, model: keras.Model):
    said: list[tuple[int, int]] = []
    evaluate(model, split, batch=20, strategy=ONE, on_progress=lambda *counts: said.append(counts))
    assert said == [(20, EXAMPLES), (40, EXAMPLES), (EXAMPLES, EXAMPLES)]


def test_the_first_output_predicts(split: Split, folders: dict[str, str], model: keras.Model):
    both = keras.Model(model.inputs, [model.outputs[0], -model.outputs[0]])
    found = evaluate(both, split, batch=16, strategy=ONE)
    np.testing.assert_array_equal(found.confusions, oracle(folders["one"], model)[0])


def test_an_evaluator_sees_new_weights_and_is_traced_once(split: Split, folders: dict[str, str]):
    changing, traces = make_model(), []

    class Counting(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            traces.append(x.shape)
            return x

    counted = keras.Model(changing.inputs, Counting()(changing.outputs[0]))
    evaluator = Evaluator(counted, split, batch=16, strategy=ONE)
    first, before = evaluator(), len(traces)
    changing.set_weights([-weight for weight in changing.get_weights()])
    second = evaluator()
    assert len(traces) == before
    np.testing.assert_array_equal(second.confusions, oracle(folders["one"], changing)[0])
    assert (second.confusion != first.confusion).any()


def test_evaluations_share_an_iterator_until_one_is_broken_off(
    split: Split, model: keras.Model, monkeypatch: pytest.MonkeyPatch
):
    started: list[tf.data.Dataset] = []
    start = tf.data.Dataset.__iter__

    def noticed(dataset: tf.data.Dataset) -> Iterator[Any]:
        started.append(dataset)
        return start(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", noticed)
    evaluator = Evaluator(model, split, batch=16, strategy=ONE)
    first, second = evaluator(), evaluator()
    assert len(started) == 1, "it may take long to end one"
    stops = iter([False, True])
    with pytest.raises(EvaluationStoppedError):
        evaluator(is_asked_to_stop=lambda: next(stops))
    third = evaluator()
    assert len(started) == 2, "the other is in the middle of the split"
    for found in (second, third):
        assert found.filenames == first.filenames
        np.testing.assert_array_equal(found.confusions, first.confusions, strict=True)


def test_the_batches_of_an_evaluator_are_untuned(split: Split, model: keras.Model, monkeypatch: pytest.MonkeyPatch):
    strategy, read = tf.distribute.OneDeviceStrategy("/cpu:0"), []
    distribute = strategy.distribute_datasets_from_function

    def noticed(make: Callable[[tf.distribute.InputContext], tf.data.Dataset]) -> Any:
        def kept(context: tf.distribute.InputContext) -> tf.data.Dataset:
            read.append(make(context))
            return read[-1]

        return distribute(kept)

    monkeypatch.setattr(strategy, "distribute_datasets_from_function", noticed)
    Evaluator(model, split, batch=16, strategy=strategy)
    assert [dataset.options().autotune.enabled for dataset in read] == [False]
    assert [int(dataset.cardinality()) for dataset in read] == [tf.data.INFINITE_CARDINALITY]


def test_a_split_without_a_valid_pixel_has_no_loss(tmp_path: Path, model: keras.Model):
    split = open_split(str(write_dataset(tmp_path / "data", "raw_uint8", (2,))), "train")
    blank = Sample("blank", np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, IGNORE, np.uint8))
    write_shard(Path(split.paths()[0]), [to_record(blank, "raw_uint8")] * 2)
    found = evaluate(model, split, batch=4, strategy=ONE)
    assert np.isnan(found.loss)
    assert not found.confusion.any()


SCRIPT = """
import json, sys
settings = json.loads(sys.argv[1])
import numpy as np
from trainer.cluster import parse_cluster
from trainer.training.devices import make_strategy

strategy = make_strategy(cluster=parse_cluster(settings["environment"]), logical_devices=settings["devices"])
from trainer.data.dataset import open_split
from trainer.evaluation.evaluator import evaluate
from trainer.inference.model_file import load_model
from trainer.inference.views import Views

with strategy.scope():
    model, _ = load_model(settings["model"])
for name, (folder, batch, scales) in settings["runs"].items():
    found = evaluate(model, open_split(folder, "train"), batch=batch, strategy=strategy, views=Views(tuple(scales)))
    arrays = {"confusions": found.confusions, "confusion": found.confusion, "filenames": np.array(found.filenames)}
    np.savez(settings["output"] + name, loss=found.loss, replicas=strategy.num_replicas_in_sync, **arrays)
"""


def start(output: Path, model: Path, runs: dict[str, Any], devices: int, **environment: str) -> subprocess.Popen[bytes]:
    settings = {"output": f"{output}/", "model": str(model), "runs": runs, "devices": devices}
    settings["environment"] = environment
    output.mkdir()
    return subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps(settings)], cwd=PROJECT)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory, split: Split, model: keras.Model) -> Path:
    path = tmp_path_factory.mktemp("model") / "best.keras"
    save_model(str(path), model, Description.of("deeplabv3plus", split.manifest, step=1, mean_iou=None))
    return path


def test_two_replicas_count_the_same_to_the_last_pixel(
    tmp_path: Path, folders: dict[str, str], model_file: Path, model: keras.Model
):
    runs: dict[str, Any] = {
        "one-3": (folders["one"], 3, [1]),
        "one-64": (folders["one"], 64, [1]),
        "several": (folders["several"], 2, [1]),
        "views": (folders["one"], 5, [0.5, 1]),
    }
    assert start(tmp_path / "two", model_file, runs, devices=2).wait() == 0
    for name, (folder, _, scales) in runs.items():
        found = np.load(tmp_path / "two" / f"{name}.npz")
        expected = evaluate(model, open_split(folder, "train"), batch=16, strategy=ONE, views=Views(tuple(scales)))
        assert found["replicas"] == 2
        np.testing.assert_array_equal(found["confusions"], expected.confusions)
        np.testing.assert_array_equal(found["confusion"], expected.confusion)
        assert tuple(found["filenames"]) == expected.filenames
        assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)


def test_two_hosts_count_their_shares_and_know_the_sum(
    tmp_path: Path, folders: dict[str, str], model_file: Path, model: keras.Model
):
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
    runs = {name: (folder, 4, [1]) for name, folder in folders.items()}
    hosts = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        hosts.append(start(tmp_path / str(index), model_file, runs, devices=1, TF_CONFIG=json.dumps(task)))
    assert [host.wait() for host in hosts] == [0, 0]
    for name, folder in folders.items():
        parts = [np.load(tmp_path / str(index) / f"{name}.npz") for index in range(2)]
        expected = evaluate(model, open_split(folder, "train"), batch=16, strategy=ONE)
        of_name = dict(zip(expected.filenames, expected.confusions, strict=True))
        filenames = [filename for part in parts for filename in part["filenames"].tolist()]
        assert sorted(filenames) == sorted(expected.filenames)
        for part in parts:
            assert 0 < len(part["filenames"]) < EXAMPLES
            for filename, counts in zip(part["filenames"].tolist(), part["confusions"], strict=True):
                np.testing.assert_array_equal(counts, of_name[filename])
            np.testing.assert_array_equal(part["confusion"], expected.confusion)
            assert part["loss"] == pytest.approx(expected.loss, rel=1e-5)


def resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, at half-pixel centers, float64[B, H, W, C] -> [B, height, width, C]."""

    def weights(size: int, new: int) -> np.ndarray:
        places = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, size - 1)
        return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))

    rows, columns = weights(images.shape[1], height), weights(images.shape[2], width)
    return np.einsum("ip,jq,bpqc->bijc", rows, columns, images)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("scales", "flip"), [((0.5, 1.0, 1.5), True), ((1.0,), True), ((0.75, 2.0), False), ((2,), False)]
)
def test_views_are_averaged_as_in_numpy(scales: tuple[float, ...], flip: bool):
    local = make_model(size=3)
    images = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    probabilities = []
    for scale in scales:
        seen = resized(images, round(8 * scale), round(12 * scale))
        for step in (1, -1) if flip else (1,):
            logits = local(seen[:, :, ::step].astype(np.float32)).numpy()[:, :, ::step]
            probabilities.append(softmax(resized(logits, 8, 12)))
    expected = np.mean(probabilities, axis=0)
    views = Views(scales, flip)
    unknown = tf.function(
        lambda x: predict_logits(local, x, views), input_signature=[tf.TensorSpec([None, None, None, 3])]
    )
    for logits in (predict_logits(local, images, views), unknown(images)):
        np.testing.assert_allclose(softmax(logits.numpy()), expected, atol=1e-5)


def test_a_probability_of_zero_has_a_finite_loss(split: Split):
    sure = make_model()
    sure.set_weights([1000 * weight for weight in sure.get_weights()])
    assert np.isfinite(evaluate(sure, split, batch=16, strategy=ONE, views=Views(flip=True)).loss)


def test_images_of_another_data_set_are_normalized_as_the_model_knows_them(tmp_path: Path):
    mine = open_split(str(write_dataset(tmp_path / "mine", "raw_float32", (4,))), "train")
    other = open_split(str(write_dataset(tmp_path / "other", "png", (3, 6))), "train")
    description = Description.of("deeplabv3plus", mine.manifest, step=1, mean_iou=None)
    local = make_model(size=3)
    assert renormalized(local, description, mine.manifest) is local
    adapted = renormalized(local, description, other.manifest)
    images = np.stack([example["image"] for example in examples_of(other.folder)])
    moments = other.manifest.moments
    pixels = images * np.array(moments.std) + np.array(moments.mean)
    known = (pixels - np.array(description.mean)) / np.array(description.std)
    np.testing.assert_allclose(adapted(images), local(known.astype(np.float32)), atol=1e-4)
    assert np.abs(adapted(images) - local(images)).max() > 0.01


def test_what_does_not_go_together_is_refused(split: Split, model: keras.Model):
    few = keras.Model(model.inputs, model.outputs[0][..., :5])
    with pytest.raises(EvaluationError, match=r"the model has 5 classes, but .*one has 11: use the data set"):
        evaluate(few, split, batch=1, strategy=ONE)
    fixed = make_model(shape=SIZE)
    with pytest.raises(EvaluationError, match=r"takes images of 8x12 only, so scales \[0.5, 1\] .* use scale 1"):
        evaluate(fixed, split, batch=1, strategy=ONE, views=Views((0.5, 1)))
    assert isinstance(evaluate(fixed, split, batch=1, strategy=ONE), Evaluation)
    for scales in ((), (0, 1), (float("nan"),)):
        with pytest.raises(ViewsError, match="set one or more numbers above 0"):
            Views(scales)


def test_a_split_whose_file_rotted_stops(tmp_path: Path, model: keras.Model):
    folder = write_dataset(tmp_path / "data", "raw_uint8", (3, 3))
    rotten = open_split(str(folder), "train")
    path = Path(rotten.paths()[1])
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        evaluate(model, rotten, batch=2, strategy=ONE)


@pytest.fixture(scope="module")
def cityscapes(cityscapes_sample: Path, tmp_path_factory: pytest.TempPathFactory, without_transform: None) -> Split:
    folder = tmp_path_factory.mktemp("cityscapes") / "data"
    assert build(f"--input={cityscapes_sample}", "--image_size=32x64", f"--output={folder}") == 0
    return open_split(str(folder), "train")


def test_scores_of_a_model_on_cityscapes_are_those_of_cityscapes_scripts(
    official: Any,
    cityscapes: Split,
    tmp_path: Path,
):
    labels = BUILTIN_TABLES["cityscapes19"]()
    network = make_model(size=3, classes=19)
    found = evaluate(network, cityscapes, batch=3, strategy=ONE)
    source_ids = np.zeros(256, np.uint8)  # 0 is "unlabeled"
    for row in labels.classes:
        source_ids[row.train_id] = row.source_ids[0]
    truths: list[str] = []
    guesses: list[str] = []
    for index, example in enumerate(examples_of(cityscapes.folder)):
        guess = np.argmax(network(example["image"][np.newaxis])[0], axis=-1)
        for kind, ids, paths in (("truth", example["mask"], truths), ("guess", guess, guesses)):
            paths.append(str(tmp_path / f"{kind}_{index}.png"))
            Image.fromarray(source_ids[ids]).save(paths[-1])
    expected = official.evaluateImgLists(guesses, truths, official.args)
    classes = [expected["classScores"][row.name] for row in labels.classes]
    categories = {name: value for name, value in expected["categoryScores"].items() if name != "void"}
    assert found.scores.class_iou == pytest.approx(classes, abs=1e-9, nan_ok=True)
    assert found.scores.category_iou == pytest.approx(categories, abs=1e-9, nan_ok=True)
    assert found.scores.mean_iou == pytest.approx(expected["averageScoreClasses"], abs=1e-9)
    assert found.scores.mean_category_iou == pytest.approx(expected["averageScoreCategories"], abs=1e-9)
    assert np.count_nonzero(found.confusion.sum(axis=0)) > 3  # classes that it takes pixels for
