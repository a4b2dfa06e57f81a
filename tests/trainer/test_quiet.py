"""TensorFlow's part is played by a small module that writes to the file descriptor as its native code does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builds import PROJECT
from tests.support.handmade import write_dataset

LOUD = """
import os
from types import SimpleNamespace

os.write(2, b"from native code at import\\n")
LEVEL = os.environ["TF_CPP_MIN_LOG_LEVEL"]

def list_physical_devices():
    os.write(2, b"from native code at the devices\\n")

config = SimpleNamespace(list_physical_devices=list_physical_devices)
"""

CODE = """
import sys
from trainer.console import import_tensorflow

print("before", file=sys.stderr)
import_tensorflow({})
print("after", file=sys.stderr)
import tensorflow
print(tensorflow.LEVEL)
"""

NATIVE = "from native code at import\nfrom native code at the devices\n"


COMMAND = """
import sys
from trainer.console import run_command

def work():
    if sys.argv[1:]:
        raise KeyboardInterrupt
    return 3

sys.exit(run_command(work))
"""


def run_beside(tensorflow: str, folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with `command`, which imports the source `tensorflow` under that name."""
    (folder / "tensorflow.py").write_text(tensorflow)
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env={**inherited, "PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def import_of(tensorflow: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_beside(tensorflow, folder, "-c", CODE.format(", ".join(arguments)), **environment)


def test_what_native_code_says_is_held_back(tmp_path: Path):
    done = import_of(LOUD, tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "before\nafter\n", "2\n")


def test_it_is_shown_to_who_asks(tmp_path: Path):
    done = import_of(LOUD, tmp_path, "verbose=True")
    assert (done.returncode, done.stderr, done.stdout) == (0, f"before\n{NATIVE}after\n", "0\n")


@pytest.mark.parametrize("failure", ["raise ImportError('no such symbol')", "raise SystemExit(3)"])
def test_it_is_shown_where_the_import_fails(failure: str, tmp_path: Path):
    done = import_of(f"{LOUD}\n{failure}\n", tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("before\nfrom native code at import\n")
    assert "after" not in done.stderr


def test_a_level_that_was_chosen_is_kept(tmp_path: Path):
    assert import_of(LOUD, tmp_path, TF_CPP_MIN_LOG_LEVEL="1").stdout == "1\n"


def test_ctrl_c_is_a_line_and_an_exit_code(tmp_path: Path):
    done = run_beside(LOUD, tmp_path, "-c", COMMAND)
    assert (done.returncode, done.stderr) == (3, "")
    done = run_beside(LOUD, tmp_path, "-c", COMMAND, "long")
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_ctrl_c_while_tensorflow_is_imported_does_not_show_its_log(tmp_path: Path):
    interrupted = 'import os\nos.write(2, b"from native code")\nraise KeyboardInterrupt\n'
    done = run_beside(interrupted, tmp_path, "-m", "trainer.export", "--model=a", "--output=b")
    assert (done.returncode, done.stderr) == (130, "stopped\n")


STOPPABLE = """
import time
from trainer import console

def work():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaned", flush=True)

console.run_main(lambda: console.run_command(work))
"""


@pytest.mark.parametrize(
    ("tensorflow", "command", "cleaned"),
    [
        (
            'import time\nprint("working", flush=True)\ntime.sleep(60)',
            ("-m", "trainer.export", "--model=a", "--output=b"),
            "",
        ),
        (LOUD, ("-c", STOPPABLE), "cleaned\n"),
    ],
    ids=["while TensorFlow is imported", "while it works"],
)
def test_ctrl_c_at_any_moment_is_a_line(tensorflow: str, command: tuple[str, ...], cleaned: str, tmp_path: Path):
    (tmp_path / "tensorflow.py").write_text(tensorflow)
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, cleaned, "stopped\n")


@pytest.mark.parametrize("command", ["task", "evaluate", "compare", "predict", "export", "convert"])
def test_ctrl_c_is_handled_before_anything_slow_is_imported(command: str):
    """The module of a command imports its options late."""
    code = f"import sys, trainer.{command}; print(*(set(sys.modules) & {{'argparse', 'trainer.settings', 'tempfile'}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


TASK = ("trainer.task", "--train_split=train", "--val_split=")
EVALUATE = ("trainer.evaluate", "--split=train", "--model=a")
SHARD = "train-00000-of-00001.tfrecord"


def run_on(dataset: Path, command: tuple[str, ...]) -> tuple[int, str]:
    """-> exit code and stderr of a command that ends with 3 where it imports TensorFlow."""
    done = run_beside("raise SystemExit(3)", dataset.parent, "-m", *command, f"--dataset={dataset}")
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "damage", "told"),
    [
        (TASK, lambda dataset: (dataset / "dataset.json").unlink(), "dataset.json"),
        (TASK, lambda dataset: (dataset / "dataset.json").write_bytes(bytes(999)), "dataset.json: "),
        (TASK, lambda dataset: (dataset / SHARD).unlink(), f"{SHARD} is missing: restore it"),
        (TASK, lambda dataset: (dataset / SHARD).write_bytes(b"0"), f"{SHARD} has 1 bytes, but dataset.json says"),
        (TASK, lambda dataset: dataset.rename(dataset.with_name("moved")), "there is no folder"),
        (EVALUATE, lambda dataset: (dataset / "dataset.json").write_bytes(b"{"), "dataset.json: "),
    ],
)
def test_a_damaged_data_set_is_told_before_tensorflow_is_imported(
    command: tuple[str, ...], damage: Callable[[Path], object], told: str, tmp_path: Path
):
    dataset = write_dataset(tmp_path / "data [1]", "raw_uint8", (3,))
    damage(dataset)
    code, said = run_on(dataset, command)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("error: ")
    assert told in said
    assert str(dataset) in said


@pytest.mark.parametrize("command", [TASK, EVALUATE])
def test_a_sound_data_set_is_read_with_tensorflow(command: tuple[str, ...], tmp_path: Path):
    assert run_on(write_dataset(tmp_path / "data [1]", "raw_uint8", (3,)), command) == (3, "")


def test_an_error_in_a_graph_is_told_by_its_cause() -> None:
    import tensorflow as tf

    from trainer.errors import cause_of, explain

    told = 'Graph execution error:\n\nDetected at node Add defined at (most recent call last):\n  File "x.py", line 1\n'
    full = tf.errors.ResourceExhaustedError(None, None, f"{told}OOM when allocating tensor")
    assert cause_of(full) == "OOM when allocating tensor"
    assert explain(full, "Give less") == "out of memory: OOM when allocating tensor. Give less"
    disk = tf.errors.ResourceExhaustedError(None, None, f"{told}write failed; No space left on device")
    assert "no space left to write" in str(explain(disk, "Give less"))
