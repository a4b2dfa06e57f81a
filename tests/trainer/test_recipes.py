"""Recipes: values that the command line overrides, and files whose mistakes are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer import config, recipes, task
from trainer.config import parse_train

DATASET = "--dataset=data"


def write(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return f"--recipe={folder / 'mine.yaml'}"


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_parsed_and_says_what_it_is_for(name: str) -> None:
    found = parse_train([DATASET, f"--recipe={name}"], {})
    text = (recipes.FOLDER / f"{name}.yaml").read_text()
    for word in ("Data: ", "Hardware: ", "Time: ", "Score: "):
        assert f"\n# {word}" in text, word
    values = recipes.read_recipe(name, found.to_json())
    assert len(values) > 5
    sources = {option: source for option, _, source in config.describe([f"--recipe={name}"])}
    assert {option for option, source in sources.items() if source == name} == values.keys()


@pytest.fixture
def _precision_is_as_before() -> Iterator[None]:
    import keras

    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("_precision_is_as_before")
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains(name: str, dataset: Path) -> None:
    """At a small size, and narrow unless the weights are pretrained: two updates."""
    import keras
    import tensorflow as tf
    from rich.console import Console

    from trainer.training import run
    from trainer.training.inputs import open_inputs
    from trainer.training.learner import build_loss, make_learner, make_schedule
    from trainer.training.steps import TrainSteps

    small = ["--steps=2", "--crop_size=32x64", "--global_batch=2"]
    if "backbone_weights" not in recipes.read_recipe(name, parse_train([DATASET], {}).to_json()):
        small.append("--width=0.125")
    config = parse_train([f"--dataset={dataset}", f"--recipe={name}", *small], {})
    keras.config.set_dtype_policy(run._POLICIES[config.machine.precision])
    strategy, console = tf.distribute.OneDeviceStrategy("/cpu:0"), Console(quiet=True)
    inputs = open_inputs(config, strategy, console)
    with strategy.scope():
        learner = make_learner(inputs, make_schedule(inputs), console, is_new=True)
        steps = TrainSteps(learner, build_loss(inputs), strategy, inputs.batches, pixels=inputs.pixels)
    before = [variable.numpy() for variable in learner.model.trainable_variables]
    updates = steps(iter(inputs.batches_from(0)), 2)
    assert updates.finite.tolist() == [True, True]
    assert any(
        (variable.numpy() != old).any() for variable, old in zip(learner.model.trainable_variables, before, strict=True)
    )


def test_the_command_line_overrides_a_recipe_and_a_recipe_the_defaults(tmp_path: Path) -> None:
    recipe = write(tmp_path, "epochs: 7\nlearning_rate: 0.5\nrandom_scale: [0.5, 1]\naugment: true\nflip: 0.25\n")
    found = parse_train([DATASET, recipe, "--learning_rate=0.25"], {})
    assert (found.batches.epochs, found.optimizer.learning_rate) == (7, 0.25)
    assert found.data.augmentations["random_scale"] == (0.5, 1.0)
    assert found.data.augmentations["flip"] == 0.25
    assert found == parse_train([DATASET, "--learning_rate=0.25", recipe], {})
    same = [DATASET, "--epochs=7", "--learning_rate=0.25", "--random_scale=0.5,1", "--flip=0.25"]
    assert found == parse_train(same, {})


def test_values_without_effect_beside_the_command_line_are_left_out(tmp_path: Path) -> None:
    recipe = write(tmp_path, "optimizer: sgd\nmomentum: 0.5\nepochs: 7\nglobal_batch: 8\nflip: 0.1\n")
    found = parse_train([DATASET, recipe, "--optimizer=adamw", "--steps=9", "--no-augment"], {})
    assert found == parse_train([DATASET, "--optimizer=adamw", "--steps=9", "--global_batch=8", "--no-augment"], {})


REFUSED = {
    "learning_rat: 1": "there is no option 'learning_rat'; is it learning_rate?",
    "learning_rate: fast": "argument --learning_rate: 'fast' is not a number",
    "learning_rate: [1, x]": "learning_rate: [1, 'x'] is not a value of --learning_rate",
    "xla: 3": "xla: 3 is not a value of --xla",
    "epochs: 3\nsteps: 4": "not allowed with argument --",
    "momentum: 0.5\noptimizer: adamw": "--momentum: has no effect with --optimizer=adamw",
    "epochs: 3\nepochs: 4": "'epochs' occurs twice",
    "model: [&a [x, x], &b [*a, *a], [*b, *b]]": "*a is an alias: write out its value",
    "- epochs": "expected lines of `option: value`",
    "": "expected lines of `option: value`",
    "a: [": "can't be read: ",
    "warmup: 2001-99-99": "can't be read: month must be in 1..12",
    "dataset: elsewhere": "there is no option 'dataset'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_mistake_is_told_with_its_file(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_train([DATASET, write(tmp_path, text)], {})
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"error: {tmp_path / 'mine.yaml'}" in told
    assert REFUSED[text] in told


def test_a_recipe_that_does_not_exist_names_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_train([DATASET, "--recipe=dmeo"], {})
    assert f"and no such recipe: {', '.join(recipes.names())}" in capsys.readouterr().err


def test_print_config_tells_every_value_and_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.main([write(tmp_path, "epochs: 7\nxla: true"), "--seed=3", "--print_config"]) == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    rows = {name: (value, source) for name, value, source in lines}
    assert rows["epochs"] == ("7", str(tmp_path / "mine.yaml"))
    assert rows["xla"] == ("True", str(tmp_path / "mine.yaml"))
    assert rows["seed"] == ("3", "command line")
    assert rows["flip"] == ("0.5", "default")
    places = {"dataset", "other_datasets", "output", "checkpoints", "logs", "export", "cluster", "reports_metric"}
    assert rows.keys() == parse_train([DATASET], {}).to_json().keys() - places
