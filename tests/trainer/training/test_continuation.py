"""Whole training runs that are killed, stopped and started again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.matrix import standing_for
from tests.support.runs import RESUMED, assert_same, command, losses, rows, start, train, variables, wait_for

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


def test_sigterm_in_an_evaluation_is_heard_and_the_evaluation_comes_first_later(
    dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys, keras, tests.support.tiny\n"
        "from trainer.config import parse_train\n"
        "from trainer.training.run import run\n"
        "class Preempted(keras.callbacks.Callback):\n"
        "    def on_test_begin(self, logs=None):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(run(parse_train(sys.argv[1:]), [Preempted()]))\n"
    )
    arguments = command(dataset, tmp_path / "run", *RESUMED)[3:]
    for _ in range(2):  # once more in the evaluation that comes first
        process = start([sys.executable, "-c", script, *arguments])
        out, err = process.communicate(timeout=200)
        assert process.returncode == 128 + signal.SIGTERM, err
        assert "SIGTERM: saving, then stopping" in err
        assert "stopped at step 5, which is saved" in out
        assert not rows(tmp_path / "run", "val")
    train(dataset, tmp_path / "run", *RESUMED)
    assert_same(tmp_path / "run", undisturbed)


def test_a_finished_run_is_left_alone(dataset: Path, undisturbed: Path) -> None:
    before = (undisturbed / "best.keras").stat().st_mtime_ns
    out = train(dataset, undisturbed, *RESUMED)
    assert "is already complete" in out
    assert "going on" not in out
    assert (undisturbed / "best.keras").stat().st_mtime_ns == before


def test_another_run_in_the_same_folder_is_refused(dataset: Path, undisturbed: Path) -> None:
    process = start(command(dataset, undisturbed, *RESUMED, "--learning_rate=0.5"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "another run: learning_rate was 0.01 and is 0.5. Set another --output" in err
