"""A build that is killed at random moments, again and again, ends with the bytes of one that never was."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.torture.run import PROJECT, Result


def torture_builds(seed: int, kills: int, folder: Path) -> Result:
    """Builds that are killed in the time that an undisturbed one takes, `kills` of them ("refused"), and started again.

    Each build that ends must have the bytes of the undisturbed one ("equal"); then the next one starts from nothing.
    """
    random, result = Random(seed), Result()
    _write_pictures(folder / "in", random)
    began = time.monotonic()
    expected = _build(folder, folder / "undisturbed")
    whole = time.monotonic() - began
    while result.refused < kills and not result.failures:
        process = subprocess.Popen(_command(folder, folder / "killed"), cwd=PROJECT, **_QUIET)
        try:
            process.wait(random.uniform(0.1 * whole, whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        result.tried += 1
        if process.returncode == -signal.SIGKILL:
            result.refused += 1
        else:
            _compare(folder, expected, result)
    began = time.monotonic()
    _compare(folder, expected, result)
    result.worst_s = time.monotonic() - began
    return result


def _compare(folder: Path, expected: dict[str, str], result: Result) -> None:
    """Ends the build that was killed before, compares its shards, and deletes them."""
    found = _build(folder, folder / "killed")
    if found == expected:
        result.equal += 1
    else:
        result.failures.append((result.tried, f"other bytes: {sorted(set(found.items()) ^ set(expected.items()))[:4]}"))
    shutil.rmtree(folder / "killed", ignore_errors=True)


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _command(folder: Path, output: Path) -> list[str]:
    recipe = ("--labels=camvid11", "--image_size=96x128", "--shards=train=12,val=4")
    return [sys.executable, "-m", "beam_pipelines.build", f"--input={folder / 'in'}", f"--output={output}", *recipe]


def _build(folder: Path, output: Path) -> dict[str, str]:
    """SHA-256 of each shard of a finished build."""
    done = subprocess.run(_command(folder, output), cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        return {"": f"ended with {done.returncode}: {done.stderr[-300:]}"}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.glob("*.tfrecord")}


def _write_pictures(folder: Path, random: Random) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    for split, count in (("train", 120), ("val", 24)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            name = f"{split}/{split}_{index:04d}.png"
            Image.fromarray(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)).save(folder / "images" / name)
            mask = np.kron(rng.integers(0, 12, (12, 16)), np.ones((8, 8))).astype(np.uint8)
            Image.fromarray(mask).save(folder / "masks" / name)
