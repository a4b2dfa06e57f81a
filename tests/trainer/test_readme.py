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


def blocks(title: str) -> list[str]:
    """The blocks of Python in a section."""
    text = (PROJECT / "trainer" / "README.md").read_text()
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


TRAINS, LOADS = blocks("From Python")
SERVES, ASKS, RUNS_ONNX, RUNS_LITERT = blocks("Export and serving")


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


def test_a_saved_model_takes_files_and_tensors(mine: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "image.png")
    names: dict[str, Any] = {}
    assert export.main([f"--model={mine}", f"--output={tmp_path}/any"]) == 0
    code = SERVES.replace("out/run/export", f"{tmp_path}/any").replace("image.png", f"{tmp_path}/image.png")
    exec(code, names)
    ((signature, argument),) = re.findall(r'signature_name="(\w+)", inputs={"(\w+)"', ASKS)
    assert argument in names["served"].signatures[signature].structured_input_signature[1]
    assert names["ids"].shape == (2, 480, 640)
    assert names["probabilities"].shape == (2, 480, 640, 11)


def test_files_for_other_runtimes_are_loaded(mine: Path, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (extra `export`)")
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / "image.png")
    names: dict[str, Any] = {}
    found = []
    for block, form, suffix in ((RUNS_ONNX, "onnx", ".onnx"), (RUNS_LITERT, "litert", ".tflite")):
        assert export.main([f"--model={mine}", f"--format={form}", f"--output={tmp_path}/model{suffix}"]) == 0
        assert f'"out/model{suffix}"' in block
        exec(block.replace("out/", f"{tmp_path}/").replace("image.png", f"{tmp_path}/image.png"), names)
        found.append(names["class_map"])
    assert [(each.dtype, each.shape) for each in found] == [(np.uint8, (1, 8, 12))] * 2
    np.testing.assert_array_equal(*found)
    assert names["seen"]
