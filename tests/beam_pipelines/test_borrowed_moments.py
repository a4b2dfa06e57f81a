"""Whose mean and std a data set is normalized by: another split's, or those of another data set or a training run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.verify import main as verify
from tests.support.builds import build, digests, make_flat, no_transform

OPTIONS = ("--labels=camvid11", "--image_size=native")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with no_transform():
        yield


def manifest_of(folder: Path) -> Manifest:
    return Manifest.from_json((folder / "dataset.json").read_text())


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make_flat(folder / "in", train=4, val=3)
    assert build(f"--input={folder / 'in'}", f"--output={folder / 'out'}", *OPTIONS) == 0
    return folder


def test_a_split_alone_is_normalized_by_its_own_moments_if_asked_for(trained_on: Path, tmp_path: Path, capsys) -> None:
    arguments = (f"--input={trained_on / 'in'}", f"--output={tmp_path / 'val'}", *OPTIONS, "--splits=val")
    assert build(*arguments) == 1
    assert "give --moments_split=val, or --moments_from=DATASET" in capsys.readouterr().err
    assert build(*arguments, "--moments_split=val") == 0
    found = manifest_of(tmp_path / "val")
    assert (found.moments_split, found.moments_from) == ("val", None)
    assert found.moments.pixels == 3 * 32 * 64
    assert verify([str(tmp_path / "val")]) == 0


def test_moments_of_another_data_set_give_the_bytes_of_the_split_there(trained_on: Path, tmp_path: Path) -> None:
    borrowed = f"--moments_from={trained_on / 'out'}"
    arguments = (f"--input={trained_on / 'in'}", f"--output={tmp_path / 'val'}", *OPTIONS, "--splits=val", borrowed)
    assert build(*arguments) == 0
    there = digests(trained_on / "out")
    assert digests(tmp_path / "val") == {name: sha for name, sha in there.items() if name.startswith("val-")}
    found, source = manifest_of(tmp_path / "val"), manifest_of(trained_on / "out")
    assert (found.moments, found.moments_split, found.moments_from) == (source.moments, "train", f"{trained_on}/out")
    assert verify([str(tmp_path / "val")]) == 0
    assert build(*arguments) == 0, "it is complete"
    again = (*arguments[:-1], f"--moments_from={tmp_path / 'val'}")
    assert build(*again) == 0, "moments that were borrowed are those of the first data set"


def test_a_training_run_names_the_data_set_whose_moments_it_used(trained_on: Path, tmp_path: Path, capsys) -> None:
    fingerprint = manifest_of(trained_on / "out").fingerprint
    run = tmp_path / "run"
    run.mkdir()
    value = {"identity": {"dataset": fingerprint}, "config": {"dataset": str(trained_on / "out")}}
    (run / "config.json").write_text(json.dumps(value))
    arguments = [f"--input={trained_on / 'in'}", f"--output={tmp_path / 'val'}", *OPTIONS, "--splits=val", "--plan"]
    assert build(*arguments, f"--moments_from={run}") == 0
    (run / "config.json").write_text(json.dumps(value | {"identity": {"dataset": "0" * 64}}))
    with pytest.raises(SystemExit):
        build(*arguments, f"--moments_from={run}")
    assert "was built again with another recipe" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build(*arguments, f"--moments_from={tmp_path}")
    assert "has neither dataset.json nor config.json" in capsys.readouterr().err
