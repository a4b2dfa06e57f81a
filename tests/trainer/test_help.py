"""The help of every command is there before anything heavy is imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.builds import PROJECT

COMMANDS = sorted(
    f"trainer.{path.stem}" for path in (PROJECT / "trainer").glob("*.py") if "__main__" in path.read_text()
)
HEAVY = {"PIL", "apache_beam", "google", "google_crc32c", "h5py", "keras", "matplotlib", "msgspec", "numpy", "rich"}
HEAVY |= {"tensorflow", "tensorflow_transform", "yaml"}


def loaded_by(*arguments: str) -> tuple[set[str], str]:
    """-> the packages that `python ARGUMENTS` imports in a clean interpreter, and what it prints."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    names = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    return {name.split(".")[0] for name in names}, done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light(command: str) -> None:
    loaded, shown = loaded_by("-m", command, "--help")
    assert f"python -m {command}" in shown
    assert "argparse" in loaded
    assert not loaded & HEAVY


def test_every_command_is_tried_and_the_probe_can_fail() -> None:
    assert {f"trainer.{name}" for name in ("task", "evaluate", "compare", "predict", "export", "convert")} <= set(
        COMMANDS
    )
    assert "numpy" in loaded_by("-c", "import numpy")[0]
