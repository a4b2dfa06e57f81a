"""Whole training runs that are killed, stopped and started again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import build, make_flat, no_transform
from tests.support.matrix import standing_for
from tests.support.runs import RESUMED, assert_same, command, losses, start, train, train_here, variables, wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("step", standing_for([15], [1, 8, 15]))
def test_a_killed_run_ends_as_if_undisturbed(dataset: Path, undisturbed: Path, tmp_path: Path, step: int) -> None:
    """Before the first checkpoint, between two, and around an evaluation."""
    process = start(command(dataset, tmp_path / "run", *RESUMED))
    wait_for(tmp_path / "run", step, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was over before"
    train(dataset, tmp_path / "run", *RESUMED)
    assert_same(tmp_path / "run", undisturbed)


def test_a_killed_run_draws_on_from_all_its_sources(dataset: Path, tmp_path: Path) -> None:
    """Two data sets, two splits of each, and class-uniform sampling."""
    make_flat(tmp_path / "flat", train=9, val=3, seed=1)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=float32", "--shards=train=2,val=1")
    with no_transform():
        assert build(f"--input={tmp_path / 'flat'}", f"--output={tmp_path / 'other'}", *options) == 0
    mixed = ["--train_split=train,val", "--val_split=", "--mix=0.7,0.3", "--sampling=class_uniform", *RESUMED]
    both = f"{dataset},{tmp_path / 'other'}"
    out = train(both, tmp_path / "undisturbed", *mixed)
    assert f"0.7 {dataset} + 0.3 {tmp_path / 'other'}: 36 images of train,val" in out
    assert "class-uniform" in out
    process = start(command(both, tmp_path / "run", *mixed))
    wait_for(tmp_path / "run", 17, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was over before"
    with pytest.raises(AssertionError, match=r"mix was .* and is"):
        train(both, tmp_path / "run", *mixed, "--mix=0.6,0.4")
    train(both, tmp_path / "run", *mixed)
    assert_same(tmp_path / "run", tmp_path / "undisturbed")


def test_sigterm_keeps_the_step_that_it_came_in(dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    rare = [*RESUMED[:2], "--checkpoint_steps=1000", "--evaluate_epochs=100", *RESUMED[3:]]
    process = start(command(dataset, tmp_path / "run", *rare))
    wait_for(tmp_path / "run", 7, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    kept = int(variables(tmp_path / "run")["state/0/.ATTRIBUTES/VARIABLE_VALUE"])
    assert 7 <= kept < 20
    assert f"stopped at step {kept}, which is saved" in out
    out = train(dataset, tmp_path / "run", *rare)
    assert f"resuming at step {kept}" in out
    np.testing.assert_array_equal(losses(tmp_path / "run"), losses(undisturbed))


# Preempted in its first evaluation, and once more in the evaluation that then comes first; and undisturbed.
PREEMPTED = """
import os, signal, sys, keras, tests.support.tiny
from trainer.config import parse_train
from trainer.training.run import run

class Preempted(keras.callbacks.Callback):
    def on_test_begin(self, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)

config = parse_train(sys.argv[1:])
for callbacks in ([Preempted()], [Preempted()], []):
    print("ended with", run(config, callbacks).exit_code)
    scored = '"split": "val"' in open(f"{config.places.output}/metrics.jsonl").read()
    assert scored != bool(callbacks), "what was stopped is not logged"
"""


def test_sigterm_in_an_evaluation_is_heard_and_the_evaluation_comes_first_later(
    dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    process = start([sys.executable, "-c", PREEMPTED, *command(dataset, tmp_path / "run", *RESUMED)[3:]])
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    ends = [int(line.removeprefix("ended with ")) for line in out.splitlines() if line.startswith("ended with ")]
    assert ends == [128 + signal.SIGTERM, 128 + signal.SIGTERM, 0]
    assert err.count("SIGTERM: saving, then stopping") == 2
    assert out.count("stopped at step 5, which is saved") == 2
    assert out.count("resuming at step 5") == 2
    assert_same(tmp_path / "run", undisturbed)


# Without the switch that a process has for good; it is not compared.
HERE = [option for option in RESUMED if option != "--deterministic"]


def test_a_finished_run_is_left_alone(dataset: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (undisturbed / "best.keras").stat().st_mtime_ns
    assert train_here(dataset, undisturbed, *HERE) == 0
    out = capsys.readouterr().out
    assert "is already complete" in out
    assert "going on" not in out
    assert (undisturbed / "best.keras").stat().st_mtime_ns == before


def test_another_run_in_the_same_folder_is_refused(
    dataset: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(dataset, undisturbed, *HERE, "--learning_rate=0.5") == 1
    told = "another run: learning_rate was 0.01 and is 0.5. Set another --output"
    assert told in capsys.readouterr().err
