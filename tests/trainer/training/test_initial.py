"""What a model may start from, and which of its weights do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from rich.console import Console

from tests.support.color_model import describe
from trainer import models
from trainer.inference.model_file import save_model
from trainer.training.errors import TrainingError
from trainer.training.initial import start_from

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(
    ("earlier", "now", "told"),
    [
        ("conv", "conv, relu", r"lacks 1 activations such as conv_relu, unlike .*: set --depthwise_relu=false"),
        ("conv, relu", "conv", r"has 1 activations such as conv_relu, unlike .*: set --depthwise_relu=true"),
        ("rescale, conv", "conv", r"has layers .* \(rescale\), .* numbers: set --backbone_weights=initial_model"),
        ("conv", "rescale, conv", r"lacks layers .* \(rescale\), .* numbers: set --backbone_weights=none"),
    ],
)
def test_weights_that_would_mean_something_else_are_refused(earlier: str, now: str, told: str, tmp_path: Path) -> None:
    save_model(str(tmp_path / "earlier.keras"), network(earlier), describe())
    start_from(str(tmp_path / "earlier.keras"), network(earlier), Console())
    with pytest.raises(TrainingError, match=told):
        start_from(str(tmp_path / "earlier.keras"), network(now), Console())


def narrow(**options: Any) -> keras.Model:
    given = {"backbone": "xception41", "width": 1 / 32, **options}
    return models.build("deeplabv3plus", num_classes=19, options=given)


@pytest.fixture(scope="module")
def narrow41(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, str]:
    """A model of 19 classes, and its file."""
    model, path = narrow(), str(tmp_path_factory.mktemp("narrow") / "narrow.keras")
    save_model(path, model, describe())
    return model, path


def test_branches_of_aspp_start_from_those_in_their_place(narrow41: tuple[keras.Model, str]) -> None:
    theirs, path = narrow41
    mine = narrow(output_stride=8)
    assert len(start_from(path, mine, Console(), entire=True)) == len(mine.weights) == 492
    known = {variable.path: variable.numpy() for variable in theirs.weights}
    for dense, sparse in ((12, 6), (24, 12), (36, 18)):
        for part in ("depthwise", "pointwise"):
            (kernel, *_) = (each for each in mine.weights if each.path.startswith(f"aspp_rate{dense}_{part}/"))
            name = kernel.path.replace(f"rate{dense}", f"rate{sparse}")
            np.testing.assert_array_equal(kernel.numpy(), known[name])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "xception65"}, r"240 weights differ, such as middle_unit10_.*: set --backbone to that of this"),
        ({"decoder": "light"}, r"a deeplabv3plus, and \d+ weights differ, such as aspp_.*: set --decoder to that of"),
    ],
)
def test_another_network_is_not_started_in_part(
    options: dict[str, Any], told: str, narrow41: tuple[keras.Model, str]
) -> None:
    mine = narrow(**options)
    before = [variable.numpy() for variable in mine.weights]
    with pytest.raises(TrainingError, match=rf"--backbone_weights=initial_model needs the network of .*{told}"):
        start_from(narrow41[1], mine, Console(), entire=True)
    for variable, old in zip(mine.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    start_from(narrow41[1], mine, Console())


def test_a_network_that_has_more_is_not_started_from(narrow41: tuple[keras.Model, str], tmp_path: Path) -> None:
    save_model(str(tmp_path / "larger.keras"), narrow(backbone="xception65"), describe())
    with pytest.raises(TrainingError, match="240 weights differ"):
        start_from(str(tmp_path / "larger.keras"), narrow41[0], Console(), entire=True)


def test_another_number_of_classes_starts_with_random_logits(narrow41: tuple[keras.Model, str]) -> None:
    mine = models.build("deeplabv3plus", num_classes=2, options={"backbone": "xception41", "width": 1 / 32})
    taken = start_from(narrow41[1], mine, Console(), entire=True)
    assert {variable.path for variable in mine.weights} - taken == {"logits/kernel", "logits/bias"}


def network(parts: str) -> keras.Model:
    """Of 19 classes."""
    images = x = keras.Input((None, None, 3))
    made = {
        "rescale": keras.layers.Rescaling(2.0, name="rescale"),
        "conv": keras.layers.Conv2D(19, 1, name="conv"),
        "relu": keras.layers.ReLU(name="conv_relu"),
    }
    for part in parts.split(", "):
        x = made[part](x)
    return keras.Model(images, x)
