"""The pictures that tortured builds read, the command that builds of them, and what an undisturbed build gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.builds import make_flat, make_uneven, published
from tests.torture.sandbox import STRANGER, Ended, Sandbox

SIZE = (96, 128)
RECIPE = ("--labels=camvid11", "--shards=train=12,val=4")
ONE_SIZE = (*RECIPE, "--image_size=96x128")  # the slower one, with transform_fn
UNEVEN = (*RECIPE, "--image_size=native", "--image_encoding=uint8")
UNDISTURBED = "undisturbed"


def command(source: Path, output: Path, *options: str) -> list[str]:
    return ["-m", "beam_pipelines.build", f"--input={source}", f"--output={output}", *options]


def prepare(sandbox: Sandbox, *options: str, uneven: bool = False, train: int = 120, val: int = 24) -> Ended:
    """Pictures and what an undisturbed build makes of them, once for each sandbox. -> how that build ended."""
    undisturbed = sandbox.folder / UNDISTURBED
    make = make_uneven if uneven else make_flat
    make(sandbox.source, train=train, val=val, size=SIZE)
    ended = sandbox.run(command(sandbox.source, undisturbed, *options))
    if ended.code:
        raise RuntimeError(f"the undisturbed build ended with {ended.code}: {ended.errors[-2000:]}")
    return ended


def change(source: Path) -> None:
    """One picture is removed, one is another, one is new."""
    pictures = {kind: source / kind / "train" for kind in ("images", "masks")}
    for folder in pictures.values():
        (folder / "train_0001.png").unlink()
        shutil.copy(folder / "train_0002.png", folder / "train_0500.png")
    other = np.random.default_rng(7).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(other).save(pictures["images"] / "train_0003.png")


def assert_same_build(output: Path, undisturbed: Path) -> None:
    (output / STRANGER).unlink(missing_ok=True)
    assert published(output) == published(undisturbed), "other bytes than an undisturbed build"
    left = sorted(path.name for path in output.iterdir())
    assert left == sorted(path.name for path in undisturbed.iterdir() if path.name != STRANGER), f"it left {left}"
