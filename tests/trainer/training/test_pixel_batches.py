"""Batches of uint8 images, which the device normalizes: the same bits as images that are normalized before batching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests.support.handmade import SIZE, write_dataset
from trainer.config import parse_train
from trainer.data.augment import Target, make_augment, make_center_crop
from trainer.data.batches import Epochs, training_batches
from trainer.data.dataset import open_split
from trainer.data.records import normalize
from trainer.data.training_set import TrainingSet, training_set
from trainer.objective.losses import SegmentationLoss
from trainer.objective.optimizers import build_optimizer
from trainer.training.devices import Batches
from trainer.training.inputs import Inputs, open_inputs
from trainer.training.learner import Learner
from trainer.training.steps import TrainSteps, Updates

CROP, BATCH, STEPS = (5, 7), 6, 3
STRATEGY = tf.distribute.OneDeviceStrategy("/cpu:0")
STORED = ("raw_uint8", "png")  # data sets of pixels
COMPILED = tf.function(normalize, jit_compile=True)
MOVING = {"random_scale": (1.0, 1.0), "color": 0.0, "flip": 0.5}

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("pixels")
    formats = (*STORED, "raw_float32")
    return {name: str(write_dataset(root / name, name, (7, 5), first=20 * n)) for n, name in enumerate(formats)}


def batches_of(training: TrainingSet, **changes: Any) -> tf.data.Dataset:
    epochs = Epochs(seed=3, batch=BATCH, steps=STEPS, shuffle_mib=0.004)
    options: dict[str, Any] = {"start": (0, 0), "cache_mib": 0, "augment": None} | changes
    return training_batches(training, epochs, **options).take(2 * STEPS)


@pytest.mark.parametrize(
    ("names", "way", "cache_mib"),
    [
        (("raw_uint8",), "plain", 0),
        (("png",), "plain", 1),
        (("png",), "moved", 0),
        (("raw_uint8",), "moved", 1),
        (STORED, "center crop", 0),
    ],
    ids=str,
)
def test_normalized_batches_are_those_that_are_normalized_later(
    folders: dict[str, str], names: tuple[str, ...], way: str, cache_mib: float
) -> None:
    training = training_set([open_split(folders[name], "train") for name in names], mix=None, is_class_uniform=False)
    normalization = training.manifest.moments.normalization
    moved = make_augment(Target(CROP, normalization), MOVING)
    augment = {"plain": None, "moved": moved, "center crop": make_center_crop(CROP)}[way]
    options = {"cache_mib": cache_mib, "augment": augment, "start": (1, 1)}
    pixels = batches_of(training, normalized=False, **options)
    assert pixels.element_spec["image"] == tf.TensorSpec([BATCH, *(SIZE if augment is None else CROP), 3], tf.uint8)
    for found, wanted in zip(pixels, batches_of(training, **options), strict=True):
        for each in (normalize, COMPILED):
            image = each(found["image"], *normalization.shift_and_factor())
            np.testing.assert_array_equal(image, wanted["image"], strict=True)
        np.testing.assert_array_equal(found["mask"], wanted["mask"], strict=True)


@pytest.mark.parametrize(
    ("options", "is_later"),
    [
        (["--no-augment"], True),
        (["--no-augment", "--crop_size=8x6"], True),
        (["--random_scale=1,1", "--color=0"], True),
        (["--random_scale=1,1", "--color=0", "--sampling=uniform", "--crop_size=5x7"], True),
        ([], False),
        (["--random_scale=1,1"], False),
        (["--color=0"], False),
        (["--random_scale=1,1.5", "--color=0"], False),
        (["--no-augment", "--crop_size=9x12"], False),  # the padding is the mean color, no pixel
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_images_are_uint8_where_no_color_is_computed(
    folders: dict[str, str], tmp_path: Path, options: list[str], is_later: bool
) -> None:
    inputs = opened([folders["raw_uint8"]], tmp_path, options)
    assert (inputs.normalization is not None) == is_later
    assert type_of_images(inputs) == (tf.uint8 if is_later else tf.float32)
    assert opened([folders["raw_float32"]], tmp_path, options).normalization is None


@pytest.mark.parametrize(("names", "dtype"), [(STORED, tf.uint8), (("png", "raw_float32"), tf.float32)])
def test_several_data_sets_are_uint8_where_all_store_pixels(
    folders: dict[str, str], tmp_path: Path, names: tuple[str, ...], dtype: tf.DType
) -> None:
    inputs = opened([folders[name] for name in names], tmp_path, ["--no-augment"])
    assert type_of_images(inputs) == dtype
    if inputs.normalization is not None:
        assert inputs.normalization == open_split(folders[names[0]], "train").manifest.moments.normalization


def opened(folders: list[str], output: Path, options: list[str]) -> Inputs:
    places = [f"--dataset={','.join(folders)}", f"--output={output}", "--val_split=", "--global_batch=4"]
    return open_inputs(parse_train([*places, *options], {}), tf.distribute.get_strategy(), Console(quiet=True))


def type_of_images(inputs: Inputs) -> tf.DType:
    batches: Any = inputs.batches_from(0)
    return batches.element_spec["image"].dtype


@pytest.mark.parametrize(("policy", "xla"), [("float32", False), ("float32", True), ("mixed_float16", False)])
def test_updates_are_the_same_to_the_bit(folders: dict[str, str], policy: str, xla: bool) -> None:
    training = TrainingSet((open_split(folders["raw_uint8"], "train"),))
    batches = {normalized: batches_of(training, normalized=normalized) for normalized in (True, False)}
    (plain, losses), (later, others) = (trained(each, training, policy, xla) for each in batches.values())
    assert losses.tolist() == others.tolist()
    for weight, other in zip(plain, later, strict=True):
        np.testing.assert_array_equal(weight, other, strict=True)


def trained(batches: tf.data.Dataset, training: TrainingSet, policy: str, xla: bool) -> tuple[list[Any], np.ndarray]:
    """Weights and losses of some updates."""
    learner = learner_of(policy)
    updates = take_updates(learner, batches, normalization=training.manifest.moments.normalization, xla=xla)
    return learner.model.get_weights(), updates.losses


def learner_of(policy: str) -> Learner:
    with STRATEGY.scope():
        model = rescaling_model(policy)
        optimizer = build_optimizer(name="sgd", learning_rate=0.1)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
    return Learner(model=model, optimizer=optimizer)


def take_updates(learner: Learner, batches: tf.data.Dataset, **options: Any) -> Updates:
    with STRATEGY.scope():
        parts, pixels = Batches(replicas=1, per_replica=BATCH), SIZE[0] * SIZE[1] * BATCH
        steps = TrainSteps(learner, SegmentationLoss(), STRATEGY, parts, pixels=pixels, **options)
    return steps(iter(STRATEGY.distribute_datasets_from_function(lambda _: batches)), 2 * STEPS)


def rescaling_model(policy: str) -> keras.Model:
    """Its first layer has constants that could be multiplied with those of the normalization."""
    keras.utils.set_random_seed(1)
    images = keras.Input((*SIZE, 3))
    rescaled = keras.layers.Rescaling([0.7, 1.3, 1.1], offset=[0.1, -0.2, 0.3], dtype=policy)(images)
    features = keras.layers.Conv2D(4, 3, padding="same", activation="relu", dtype=policy)(rescaled)
    return keras.Model(images, keras.layers.Conv2D(11, 1, dtype="float32")(features))


@pytest.mark.parametrize(("name", "values"), [("raw_float32", MOVING), ("png", {**MOVING, "random_scale": (0.5, 2.0)})])
def test_batches_that_are_left_to_the_caller_are_pixels(
    folders: dict[str, str], name: str, values: dict[str, Any]
) -> None:
    training = TrainingSet((open_split(folders[name], "train"),))
    augment = make_augment(Target(CROP, training.manifest.moments.normalization), values)
    with pytest.raises(ValueError, match="the images are not uint8: leave out normalized=False"):
        batches_of(training, normalized=False, augment=augment)


def test_pixels_without_their_normalization_are_refused(folders: dict[str, str]) -> None:
    pixels = batches_of(TrainingSet((open_split(folders["raw_uint8"], "train"),)), normalized=False)
    with pytest.raises(ValueError, match="uint8: pass the normalization"):
        take_updates(learner_of("float32"), pixels)
