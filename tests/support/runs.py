"""Training runs by the command that users start, with a model so small that they take seconds; and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.builds import PROJECT

STARTED: list[subprocess.Popen[str]] = []  # by the test that runs
TINY = ("--model=tiny", "--global_batch=4", "--log_steps=1")
RESUMED = (
    "--epochs=4",
    "--deterministic",
    "--checkpoint_steps=3",
    "--steps_per_call=1",
    "--optimizer=adamw",
    "--ema=0.9",
)


def command(dataset: Path | str, output: Path | None, *arguments: str) -> list[str]:
    given = [] if output is None else [f"--output={output}"]
    return [sys.executable, "-m", "tests.support.tiny", f"--dataset={dataset}", *given, *TINY, *arguments]


def start(line: list[str], **environment: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(line, cwd=PROJECT, env={**os.environ, **environment}, text=True, **pipes)
    STARTED.append(process)
    return process


def train(dataset: Path | str, output: Path | None, *arguments: str, **environment: str) -> str:
    """-> what was printed."""
    process = start(command(dataset, output, *arguments), **environment)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


SEVERAL = """
import json, sys, tests.support.tiny
from trainer import task
for line in json.loads(sys.argv[1]):
    assert task.main(line) == 0
    print("the next run", flush=True)
"""


def train_several(dataset: Path, runs: dict[Path, tuple[str, ...]]) -> list[str]:
    """Runs one after the other in another process, which imports TensorFlow once. -> what each printed."""
    lines = [command(dataset, run, *options)[3:] for run, options in runs.items()]
    process = start([sys.executable, "-c", SEVERAL, json.dumps(lines)])
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out.split("the next run\n")[:-1]


def train_here(dataset: Path, output: Path | None, *arguments: str) -> int:
    """The same in this process, which has imported TensorFlow already. -> the exit code."""
    import tests.support.tiny  # noqa: F401  enters its model into the table
    from trainer import task

    return task.main(command(dataset, output, *arguments)[3:])


def rows(run: Path, split: str = "train") -> list[dict[str, Any]]:
    """What metrics.jsonl says, but for the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = {"images_per_second"}
    return [{k: v for k, v in line.items() if k not in timing} for line in lines if line["split"] == split]


def losses(run: Path) -> np.ndarray:
    return np.array([row["loss"] for row in rows(run)])


def variables(run: Path) -> dict[str, np.ndarray]:
    """All that the newest checkpoint holds, but its own count of saves."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def assert_same(run: Path, other: Path) -> None:
    assert rows(run) == rows(other)
    assert rows(run, "val") == rows(other, "val")
    mine, theirs = variables(run), variables(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the run has logged that step."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        path = run / "metrics.jsonl"
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} did not come")
