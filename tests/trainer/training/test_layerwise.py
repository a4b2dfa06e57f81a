"""What of a model trains, and how fast: frozen backbones and normalizations, and learning rates by part."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import tests.support.tiny  # noqa: F401  enters its models into the table
from tests.support.handmade import write_dataset
from tests.support.runs import assert_same, train_here
from trainer.config import parse_train
from trainer.inference.model_file import load_model
from trainer.models.backbones import BLOCK
from trainer.models.layers import leaves
from trainer.training import layerwise
from trainer.training.inputs import open_inputs
from trainer.training.learner import Learner, make_learner, make_schedule

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PARTS = ("--model=tiny_parts", "--val_split=")
KERNELS = {"plain", "head", "logits"}
NORMS = {"plain_bn", "head_bn"}


@pytest.fixture(autouse=True)
def _precision_is_as_before() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def before(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to start from."""
    run = tmp_path_factory.mktemp("before") / "run"
    assert train_here(dataset, run, *PARTS, "--steps=2", "--learning_rate=0.1") == 0
    return run


def weights_of(run: Path) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> variable -> value, of the model that a run saved."""
    model, _ = load_model(str(run))
    return {layer.name: {each.name: each.numpy() for each in layer.weights} for layer in leaves(model) if layer.weights}


def changed(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> set[str]:
    return {name for name, value in mine.items() if not np.array_equal(value, theirs[name])}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--freeze_backbone",), {"plain", "plain_bn"}),
        (("--freeze_batch_norm",), NORMS),
        (("--freeze_backbone", "--freeze_batch_norm", "--ema=0.9", "--precision=float16"), {"plain", *NORMS}),
    ],
)
def test_two_updates_change_what_is_not_frozen(
    dataset: Path,
    before: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    kept: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    start = (f"--initial_model={before}", "--steps=2", "--learning_rate=0.1", "--clip_norm=10")
    assert train_here(dataset, run, *PARTS, *start, *options) == 0
    assert f"{len(kept)} layers are frozen; " in capsys.readouterr().out
    old, new = weights_of(before), weights_of(run)
    assert new.keys() == KERNELS | NORMS
    for layer, values in new.items():
        assert changed(values, old[layer]) == (set() if layer in kept else values.keys()), layer
    again = keras.models.load_model(run / "best.keras")
    served = tf.saved_model.load(str(run / "export"))
    assert again.count_params() == sum(value.size for layer in new.values() for value in layer.values())
    assert set(served.signatures) >= {"serving_default", "probabilities"}


@pytest.mark.parametrize(
    "options",
    [
        ("--optimizer=adamw", "--backbone_learning_rate_multiplier=0.1", "--freeze_batch_norm", "--ema=0.9"),
        ("--head_learning_rate_multiplier=10", "--freeze_backbone", "--precision=float16", "--clip_norm=1"),
    ],
)
def test_a_run_resumes_to_the_bit(dataset: Path, before: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    line = (*PARTS, f"--initial_model={before}", "--steps=5", "--checkpoint_steps=3", "--steps_per_call=1", *options)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train_here(dataset, whole, *line) == 0
    shutil.copytree(whole, cut)
    for path in (*(cut / "checkpoints").glob("ckpt-5.*"), cut / "finished.json", cut / "best.keras"):
        path.unlink()
    assert not list((cut / "checkpoints").glob("ckpt-5.*"))
    assert train_here(dataset, cut, *line) == 0
    assert_same(cut, whole)
    for layer, values in weights_of(cut).items():
        assert not changed(values, weights_of(whole)[layer]), layer


def test_what_is_frozen_must_have_weights(
    dataset: Path, before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head of another width is not in the initial model."""
    for option in ("--freeze_backbone", "--freeze_batch_norm"):
        assert train_here(dataset, tmp_path / "run", *PARTS, "--steps=1", option) == 1
        told = f"{option} would keep random weights: set --initial_model or --backbone_weights"
        assert told in capsys.readouterr().err
    start = (f"--initial_model={before}", "--width=2", "--steps=1")
    assert train_here(dataset, tmp_path / "run", *PARTS, *start, "--freeze_batch_norm") == 1
    told = f"--initial_model={before} has no weights for 1 of the 2 layers that would be frozen, such as head_bn"
    assert told in capsys.readouterr().err
    assert train_here(dataset, tmp_path / "other", *PARTS, *start, "--freeze_backbone") == 0


def test_another_choice_of_what_trains_is_another_run(
    dataset: Path, before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = "--backbone_learning_rate_multiplier=0.5"
    assert train_here(dataset, before, *PARTS, "--steps=2", "--learning_rate=0.1", slower) == 1
    assert "another run: backbone_learning_rate_multiplier was 1.0 and is 0.5" in capsys.readouterr().err


def learn(folder: Path, *options: str) -> Learner:
    places = [f"--dataset={write_dataset(folder, 'raw_uint8', (3,))}", f"--output={folder / 'run'}", "--val_split="]
    console = Console(quiet=True)
    inputs = open_inputs(parse_train([*places, *options], {}), tf.distribute.get_strategy(), console)
    return make_learner(inputs, make_schedule(inputs), console, is_new=True)


LITE0 = ("--backbone=efficientnet_lite0", "--decoder=light", "--backbone_weights=imagenet")


def test_with_pretrained_weights_only_the_normalization_of_the_backbone_is_frozen(tmp_path: Path) -> None:
    """That of the head has no statistics yet."""
    slow = "--backbone_learning_rate_multiplier=0.1"
    learner = learn(tmp_path, *LITE0, "--freeze_batch_norm", slow, "--head_learning_rate_multiplier=2", "--ema=0.9")
    frozen = {layer.name for layer in leaves(learner.model) if layer.weights and not layer.trainable}
    backbone = list(leaves(learner.model.get_layer(BLOCK)))
    assert frozen == {layer.name for layer in backbone if isinstance(layer, keras.layers.BatchNormalization)}
    assert len(frozen) == 1 + 2 + 15 * 3, "the stem, the first block, the others"
    factors = learner.optimizer.multipliers
    kernels = {layer.weights[0].path for layer in backbone if layer.weights and layer.name not in frozen}
    assert {path for path, factor in factors.items() if factor == 0.1} == kernels
    head = {path for path, factor in factors.items() if factor == 2}
    assert {"aspp_point/kernel", "decoder_low_level_bn/gamma", "logits/kernel", "logits/bias"} < head
    assert factors.keys() == {variable.path for variable in learner.model.trainable_variables}
    assert learner.averages is not None
    assert len(learner.averages.variables) == len(factors)


def test_factors_of_1_are_none(tmp_path: Path) -> None:
    config = parse_train([f"--dataset={tmp_path}", "--head_learning_rate_multiplier=1"], {})
    assert layerwise.multipliers(keras.Sequential([keras.Input((2,))]), config) == {}
