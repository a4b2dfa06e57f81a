"""What the user can do about a model that can't be built, and what is a fault of the program."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from beam_pipelines.contract.errors import UserError
from tests.support.handmade import write_dataset
from trainer.config import parse_train
from trainer.models import MODELS, Architecture
from trainer.models.errors import ModelError, WeightsError
from trainer.training.inputs import open_inputs
from trainer.training.learner import make_learner, make_schedule


def faulty(num_classes: int, input_shape: tuple[int | None, int | None, int], *, width: float = 1.0) -> keras.Model:
    raise ValueError(f"a shape of Keras does not fit {num_classes}")


def learn(folder: Path, *options: str) -> object:
    places = [f"--dataset={write_dataset(folder, 'raw_uint8', (3,))}", f"--output={folder / 'run'}", "--val_split="]
    console = Console(quiet=True)
    inputs = open_inputs(parse_train([*places, *options], {}), tf.distribute.get_strategy(), console)
    return make_learner(inputs, make_schedule(inputs), console, is_new=True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--output_stride=4",), ModelError),
        (("--backbone=resnet",), ModelError),
        (("--backbone_weights=imagenet",), ModelError),
        (("--backbone=keras_xception", "--backbone_weights=nowhere.h5"), WeightsError),
        (("--backbone=efficientnet_lite0", "--backbone_weights=nowhere.pth"), WeightsError),
    ],
)
def test_options_that_do_not_fit_are_an_error_of_the_user(
    options: tuple[str, ...], error: type[UserError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        learn(tmp_path, *options)


def test_a_fault_of_a_builder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "faulty", Architecture(f"{__name__}:faulty", ("width",)))
    with pytest.raises(ValueError, match="a shape of Keras") as raised:
        learn(tmp_path, "--model=faulty")
    assert not isinstance(raised.value, UserError)
