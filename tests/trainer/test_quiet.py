"""TensorFlow's part is played by a small module that writes to the file descriptor as its native code does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builds import PROJECT
from trainer.console import interruptible

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


def import_of(tensorflow: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "tensorflow.py").write_text(tensorflow)
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", CODE.format(", ".join(arguments))],
        cwd=PROJECT,
        env={**inherited, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


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


def test_ctrl_c_is_a_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]):
    @interruptible
    def command(argv: list[str], code: int = 0) -> int:
        if argv:
            raise KeyboardInterrupt
        return code

    assert command([], code=3) == 3
    assert command(["long"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_ctrl_c_while_tensorflow_is_imported_does_not_show_its_log(tmp_path: Path):
    (tmp_path / "tensorflow.py").write_text('import os\nos.write(2, b"from native code")\nraise KeyboardInterrupt\n')
    done = subprocess.run(
        [sys.executable, "-m", "trainer.export", "--model=a", "--output=b"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "stopped\n")
