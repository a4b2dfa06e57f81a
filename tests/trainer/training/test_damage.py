"""A finished run whose files are damaged, in a folder whose name has what others take for patterns.

The commands run in this process: each would import TensorFlow for longer than it works here.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support import tiny
from tests.support.matrix import standing_for
from tests.support.runs import TINY, rows
from trainer import evaluate, export, predict, task
from trainer.inference.model_file import load_model
from trainer.models import MODELS

pytestmark = [
    pytest.mark.usefixtures("without_transform"),
    pytest.mark.timeout(900),
    # TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

SHORT = ("--steps=4", "--checkpoint_steps=2", "--val_split=val")
FILES = [
    "config.json",
    "metrics.jsonl",
    "best.keras",
    "checkpoints/ckpt-4.index",
    "checkpoints/ckpt-4.data-00000-of-00001",
    "checkpoints/ckpt-4.json",
    "finished.json",
    "report-val/metrics.json",
    "report-val/confusion.png",
    "export/saved_model.pb",
    "export/variables/variables.index",
]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "NULs": lambda content: bytes(len(content)),
    "flipped": flip,
    "garbage": lambda content: random.Random(0).randbytes(len(content)),
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "deleted": lambda content: None,
}
EVERY = "all of them"
STANDING = [(EVERY, "flipped")]


def damage(run: Path, name: str, how: str) -> None:
    for file in FILES if name == EVERY else [name]:
        content = DAMAGES[how]((run / file).read_bytes())
        if content is None:
            (run / file).unlink()
        else:
            (run / file).write_bytes(content)


def command(dataset: Path, run: Path) -> list[str]:
    return [f"--dataset={dataset}", f"--output={run}", *TINY, *SHORT]


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert MODELS["tiny"].builder.startswith(tiny.__name__)  # known as --model=tiny
    run = tmp_path_factory.mktemp("runs") / "my run [1]*?, é"
    assert task.main(command(dataset, run)) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    copied = tmp_path / finished.name
    shutil.copytree(finished, copied)
    return copied


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was printed since the last call; at the end no traceback is among it."""
    heard: list[str] = []

    def since() -> str:
        heard.append("".join(capfd.readouterr()))
        return heard[-1]

    yield since
    since()
    assert not [text for text in heard if "Traceback" in text or "unexpected " in text], heard


def assert_whole(dataset: Path, run: Path, said: Callable[[], str]) -> None:
    assert task.main(command(dataset, run)) == 0
    assert "is already complete: 4 updates" in said()
    assert json.loads((run / "report-val" / "metrics.json").read_text())["images"] == 6
    assert load_model(str(run))[1].step == 4
    plain = run.parent / "served"  # TensorFlow takes the folder's name for a pattern
    shutil.rmtree(plain, ignore_errors=True)
    shutil.copytree(run / "export", plain)
    served = tf.saved_model.load(str(plain))
    assert len(served.signatures["labels"]()["names"]) == 11


def test_names_that_look_like_patterns_are_names(dataset: Path, run: Path, said: Callable[[], str]) -> None:
    mine = ["checkpoints/ckpt-old.index", "checkpoints/ckpt-1.index.bak", "metrics.jsonl.tmp", "export.tmp-0123abcd"]
    for name in mine:
        (run / name).write_text("mine")
    (run / "finished.json").unlink()
    assert task.main(command(dataset, run)) == 0
    assert "finished.json is missing: " in said()
    assert_whole(dataset, run, said)
    assert all((run / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize(("name", "how"), standing_for(STANDING, itertools.product([EVERY, *FILES], DAMAGES)))
def test_the_same_command_makes_again_what_is_damaged(
    name: str, how: str, dataset: Path, run: Path, said: Callable[[], str]
) -> None:
    damage(run, name, how)
    assert task.main(command(dataset, run)) == 0
    told = said()
    if name == EVERY:
        assert "rebuilt from the checkpoints" in told
        assert ("skipping a damaged checkpoint: " in told) == (how != "deleted")
    assert_whole(dataset, run, said)
    if name != "metrics.jsonl":  # nothing else holds what it said
        assert [row["step"] for row in rows(run, "val")] == [4]


# A zip archive may stand behind other bytes: two more at its start change nothing.
@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "not UTF-8"])
def test_a_damaged_model_is_refused_with_a_cure(
    how: str, dataset: Path, run: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    damage(run, "best.keras", how)
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "picture.png")
    output = tmp_path / "made"
    for main, arguments in (
        (evaluate.main, [f"--dataset={dataset}"]),
        (predict.main, [f"--images={tmp_path / 'picture.png'}", f"--output={output}"]),
        (export.main, [f"--output={output}"]),
    ):
        assert main([f"--model={run}", *arguments]) == 1
        told = said()
        assert told.startswith(f"error: {run}")
        cures = ("from a backup, or train the model again", "a training run writes it after its first evaluation")
        assert told.rstrip().endswith(cures), told
    assert not list(tmp_path.rglob("made/*/*"))


@pytest.mark.parametrize("how", standing_for(["garbage"], DAMAGES))
def test_a_sound_model_needs_none_of_the_other_files(
    how: str, dataset: Path, run: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    for name in FILES:
        if name != "best.keras":
            damage(run, name, how)
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "picture.png")
    assert evaluate.main([f"--model={run}", f"--dataset={dataset}"]) == 0
    assert json.loads((run / "report-val" / "metrics.json").read_text())["images"] == 6
    assert predict.main([f"--model={run}", f"--images={tmp_path / '*.png'}", f"--output={tmp_path / 'made'}"]) == 0
    assert (tmp_path / "made" / "ids" / "picture.png").exists()
    assert export.main([f"--model={run}", f"--output={run / 'export'}", "--overwrite"]) == 0
    said()


def test_a_best_model_that_is_gone_is_replaced_by_the_one_at_the_end(
    dataset: Path, run: Path, said: Callable[[], str]
) -> None:
    (run / "best.keras").unlink()
    assert task.main(command(dataset, run)) == 0
    assert "the current model replaces it" in said()
    assert_whole(dataset, run, said)
