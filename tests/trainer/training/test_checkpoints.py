from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.training.checkpoints import KEPT, CheckpointError, Checkpoints


class Run:
    """Variables as a run has them, and their checkpoints in `folder`; `set` gives each of them a value of `step`."""

    def __init__(self, folder: Path, *, classes: int = 5, layers: int = 1, is_chief: bool = True) -> None:
        weights = [keras.Variable(np.zeros((64, classes)), dtype="float32") for _ in range(layers)]
        self.state = [tf.Variable(0, dtype=tf.int64), tf.Variable(-1.0, dtype=tf.float64)]
        self.variables = [*(weight.value for weight in weights), *self.state]
        self.checkpoints = Checkpoints(str(folder), {"model": weights, "state": self.state, "averages": []}, is_chief)

    def set(self, step: int) -> None:
        for index, variable in enumerate(self.variables):
            variable.assign(tf.cast(tf.fill(variable.shape, 10 * index + step), variable.dtype))

    def break_one(self, value: float) -> None:
        self.variables[0][3, 1].assign(value)

    def save(self, *steps: int) -> Run:
        for step in steps:
            self.set(step)
            self.checkpoints.save(step)
        return self

    def holds(self, step: int) -> bool:
        return all((variable.numpy() == 10 * index + step).all() for index, variable in enumerate(self.variables))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def checkpoint_files(*steps: int) -> set[str]:
    return {f"ckpt-{step}.{end}" for step in steps for end in ("index", "data-00000-of-00001", "json")} | {"checkpoint"}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [cut, overwrite, empty, Path.unlink]


def damage(folder: Path, step: int, part: str, how: Callable[[Path], None]) -> None:
    (path,) = folder.glob(f"ckpt-{step}.{part}*")
    how(path)


def test_a_state_comes_back_in_another_process_s_variables(tmp_path: Path):
    Run(tmp_path).save(7)
    again = Run(tmp_path)
    assert again.checkpoints.restore()
    assert again.holds(7)
    assert again.checkpoints.newest_step == 7


def test_there_is_nothing_to_go_on_from_at_first(tmp_path: Path):
    run = Run(tmp_path / "none")
    run.set(3)
    assert not run.checkpoints.restore()
    assert run.holds(3)
    assert run.checkpoints.newest_step is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_value_is_seen(value: float, tmp_path: Path):
    run = Run(tmp_path)
    run.set(3)
    assert run.checkpoints.is_finite()
    run.break_one(value)
    assert not run.checkpoints.is_finite()


def test_the_newest_are_kept(tmp_path: Path):
    Run(tmp_path).save(1, 2, 3)
    assert files(tmp_path) == checkpoint_files(2, 3)
    assert KEPT == 2
    again = Run(tmp_path)
    assert again.checkpoints.restore()
    assert again.holds(3)
    again.save(10)
    assert files(tmp_path) == checkpoint_files(3, 10)
    assert again.checkpoints.newest_step == 10


def test_the_same_step_can_be_saved_twice(tmp_path: Path):
    run = Run(tmp_path).save(1, 2)
    run.set(5)
    run.checkpoints.save(2)
    assert files(tmp_path) == checkpoint_files(1, 2)
    again = Run(tmp_path)
    assert again.checkpoints.restore()
    assert again.holds(5)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("part", ["index", "data"])
def test_a_damaged_state_falls_back_on_the_one_before(part: str, how: Callable[[Path], None], tmp_path: Path):
    Run(tmp_path).save(10, 20)
    damage(tmp_path, 20, part, how)
    again = Run(tmp_path)
    assert again.checkpoints.restore()
    assert again.holds(10)
    again.save(20)
    last = Run(tmp_path)
    assert last.checkpoints.restore()
    assert last.holds(20)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("part", ["index", "data"])
def test_a_run_does_not_start_over_where_all_states_are_damaged(part: str, how: Callable[[Path], None], tmp_path: Path):
    Run(tmp_path).save(10, 20)
    for step in (10, 20):
        damage(tmp_path, step, part, how)
    found = rf"no checkpoint can be read: {tmp_path}/ckpt-20: .+; {tmp_path}/ckpt-10: .+\. .* delete {tmp_path} to"
    with pytest.raises(CheckpointError, match=f"^{found} start over$"):
        Run(tmp_path).checkpoints.restore()


def test_a_state_of_an_earlier_version_lacks_what_was_added(tmp_path: Path):
    Run(tmp_path).save(10)
    again, count = Run(tmp_path), tf.Variable(3)
    groups: dict[str, Any] = {"model": again.variables[:1], "state": again.state, "averages": [], "progress": [count]}
    for _ in range(2):  # also where it is there
        checkpoints = Checkpoints(str(tmp_path), groups, is_chief=True, added=["progress"])
        assert checkpoints.restore()
        assert (again.holds(10), int(count)) == (True, 3)
        checkpoints.save(10)
        again.set(0)


def test_a_state_may_lack_nothing_else(tmp_path: Path):
    Run(tmp_path).save(10)
    again = Run(tmp_path)
    groups: dict[str, Any] = {"model": again.variables[:1], "state": again.state, "progress": [tf.Variable(3)]}
    with pytest.raises(CheckpointError, match=f"^no checkpoint can be read: {re.escape(str(tmp_path))}/ckpt-10"):
        Checkpoints(str(tmp_path), groups, is_chief=True).restore()


@pytest.mark.parametrize("other", [{"classes": 6}, {"layers": 2}, {"layers": 0}])
def test_the_state_of_another_model_is_refused(other: dict[str, Any], tmp_path: Path):
    Run(tmp_path, **other).save(10)
    with pytest.raises(CheckpointError, match=f"^no checkpoint can be read: {re.escape(str(tmp_path))}/ckpt-10: "):
        Run(tmp_path).checkpoints.restore()


def test_only_the_chief_leaves_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    Run(tmp_path / "run", is_chief=False).save(1, 2)
    assert files(tmp_path) == {"scratch"}
    assert files(scratch) == set()


def test_the_others_restore_what_the_chief_saved(tmp_path: Path):
    Run(tmp_path).save(4)
    other = Run(tmp_path, is_chief=False)
    assert other.checkpoints.restore()
    assert other.holds(4)


def test_a_state_that_can_not_be_written_is_reported(tmp_path: Path):
    (tmp_path / "file").touch()
    run = Run(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(tmp_path))}/file/checkpoints: step 3 can't be saved: "):
        run.save(3)
