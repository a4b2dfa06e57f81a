"""What the user can do about a model that can't be built, and what is a fault of the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.normalization import Normalization
from tests.support.color_model import describe
from tests.support.handmade import write_dataset
from tests.support.lite_state import state_of
from tests.support.pytorch_files import write_state
from trainer.config import parse_train
from trainer.inference.model_file import save_model
from trainer.models import MODELS, Architecture, build
from trainer.models.backbones.efficientnet_lite import classifier
from trainer.models.errors import ModelError, WeightsError
from trainer.objective.optimizers import Schedule
from trainer.training.errors import TrainingError
from trainer.training.inputs import Inputs, open_inputs
from trainer.training.learner import Learner, make_learner, make_schedule
from trainer.training.plan import Extension

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def faulty(num_classes: int, input_shape: tuple[int | None, int | None, int], *, width: float = 1.0) -> keras.Model:
    raise ValueError(f"a shape of Keras does not fit {num_classes}")


def learn(folder: Path, *options: str, is_new: bool = True) -> Learner:
    console = Console(quiet=True)
    inputs = opened(folder, *options)
    return make_learner(inputs, make_schedule(inputs), console, is_new=is_new)


def opened(folder: Path, *options: str) -> Inputs:
    places = [f"--dataset={write_dataset(folder, 'raw_uint8', (3,))}", f"--output={folder / 'run'}", "--val_split="]
    config = parse_train([*places, *options], {})
    return open_inputs(config, tf.distribute.get_strategy(), Console(quiet=True))


def test_the_schedule_of_a_longer_run_begins_where_the_optimizer_was(tmp_path: Path) -> None:
    """After 20 updates, of which it had skipped 3."""
    inputs = opened(tmp_path, "--steps=30", "--learning_rate=0.5")
    plan = replace(inputs.plan, extended=(Extension(total=20, at=20, iterations=17),))
    schedule, counted = (make_schedule(replace(inputs, plan=plan), counts_skipped=each) for each in (False, True))
    short, long = (Schedule("poly", learning_rate=0.5, total_steps=total) for total in (20, 30))
    assert [float(schedule(step)) for step in (16, 17, 29)] == [float(short(16)), float(long(17)), float(long(29))]
    assert [float(counted(step)) for step in (19, 20, 29)] == [float(short(19)), float(long(20)), float(long(29))]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--output_stride=4",), ModelError),
        (("--backbone=resnet",), ModelError),
        (("--backbone_weights=imagenet",), WeightsError),
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


LITE = ("--backbone=efficientnet_lite0", "--decoder=light")


def test_only_the_same_network_gives_its_published_weights(tmp_path: Path) -> None:
    earlier, start = str(tmp_path / "earlier.keras"), "--backbone_weights=initial_model"
    normalization = Normalization((0.5,) * 3, (0.5,) * 3)
    options = {"backbone": "efficientnet_lite0", "backbone_weights": "initial_model", "normalization": normalization}
    save_model(earlier, build("deeplabv3plus", num_classes=19, options=options), describe())
    with pytest.raises(TrainingError, match=r"needs the network of .*: set --decoder to that of this model"):
        learn(tmp_path / "run", f"--initial_model={earlier}", start, *LITE)
    learn(tmp_path / "other", f"--initial_model={earlier}", *LITE, start, is_new=False)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "keras_xception"])
def test_a_run_resumes_without_its_file_of_weights_in_the_same_layers(backbone: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    if backbone == "keras_xception":
        weights = weights.with_suffix(".keras")
        keras.applications.Xception(weights=None, include_top=False).save(weights)
    else:
        write_state(weights, state_of(classifier()))
    options = (f"--backbone={backbone}", "--decoder=light", f"--backbone_weights={weights}")
    keras.backend.clear_session()  # it counts the names of random states
    new = learn(tmp_path / "first", *options)
    weights.unlink()
    with pytest.raises(WeightsError):
        learn(tmp_path / "second", *options)
    keras.backend.clear_session()
    resumed = learn(tmp_path / "third", *options, is_new=False)
    for group, variables in new.variables.items():
        again = resumed.variables[group]
        assert [(each.path, each.shape) for each in variables] == [(each.path, each.shape) for each in again]
    assert new.model.get_config() == resumed.model.get_config()
