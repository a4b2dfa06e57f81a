"""The Python of the README is run as it stands there, with other folders and a network that trains in seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tests.support.tiny  # noqa: F401
from tests.support.builds import PROJECT
from tests.support.handmade import write_dataset
from trainer import export, models, predict
from trainer.inference.model_file import load_model
from trainer.models import layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def blocks() -> list[str]:
    """The blocks of Python in the section "From Python"."""
    text = (PROJECT / "trainer" / "README.md").read_text()
    (section,) = re.findall(r"^## From Python\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


TRAINS, LOADS = blocks()


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model that the first block trains and saves."""
    root = tmp_path_factory.mktemp("readme")
    write_dataset(root / "scenes", "raw_uint8", [6])
    tiny = TRAINS.replace('"deeplabv3plus"', '"tiny"').replace('{"backbone": "xception41"}', '{"dropout": 0.0}')
    assert tiny.count("tiny") == 2
    assert "backbone" not in tiny
    exec(tiny.replace("out/", f"{root}/"), {})
    return root / "mine"


def test_a_model_that_plain_keras_trained_predicts_and_is_exported(mine: Path, tmp_path: Path) -> None:
    assert load_model(str(mine))[1].labels.num_classes == 11
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    assert predict.main([f"--model={mine}", f"--images={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]) == 0
    assert list((tmp_path / "out").rglob("*.png"))
    assert export.main([f"--model={mine / 'best.keras'}", f"--output={tmp_path / 'served'}"]) == 0
    assert "png" in tf.saved_model.load(str(tmp_path / "served")).signatures


def test_plain_keras_loads_it(mine: Path) -> None:
    names: dict[str, Any] = {}
    exec(LOADS.replace("out/mine", str(mine)), names)  # tests/trainer/inference/test_model_file.py: in a new process
    assert names["model"].output_shape == (None, None, None, 11)


def test_all_layers_of_all_models_are_in_the_module_that_is_imported() -> None:
    models.register_layers()
    registered = keras.saving.get_custom_objects().items()
    ours = {
        each for name, each in registered if name.startswith(f"{layers.PACKAGE}>") and issubclass(each, keras.Layer)
    }
    assert len(ours) == 5
    assert {each.__module__ for each in ours} == {layers.__name__}
