"""The Python of the README is run as it stands there, with other folders and a network that trains in seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.builds import PROJECT
from trainer import evaluate


def blocks() -> list[str]:
    """The blocks of Python in the section "From Python"."""
    text = (PROJECT / "trainer" / "README.md").read_text()
    (section,) = re.findall(r"^## From Python\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_trained_by_plain_keras_is_loaded_and_evaluated(dataset: Path, tmp_path: Path) -> None:
    trains, loads = (block.replace("out/scenes", str(dataset)) for block in blocks())
    tiny = trains.replace('"deeplabv3plus"', '"tiny"').replace('{"backbone": "xception41"}', '{"dropout": 0.0}')
    assert tiny.count("tiny") == 2
    assert "backbone" not in tiny
    run("import tests.support.tiny\n" + tiny.replace("out/mine", str(tmp_path / "mine")))
    run(loads.replace("out/mine", str(tmp_path / "mine")) + "assert model.output_shape[-1] == 11")
    assert evaluate.main([f"--model={tmp_path / 'mine'}", f"--dataset={dataset}", "--strategy=one"]) == 0
    assert (tmp_path / "mine" / "report-val" / "metrics.json").exists()
