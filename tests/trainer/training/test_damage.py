"""A finished run whose files a power loss has damaged, in a folder whose name has what others take for patterns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import command, rows, start, train

pytestmark = [pytest.mark.usefixtures("without_transform"), pytest.mark.timeout(900)]

SHORT = ("--steps=4", "--checkpoint_steps=2", "--val_split=val")


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "my run [1]*?, é"
    train(dataset, run, *SHORT)
    return run


def test_names_that_look_like_patterns_are_names(dataset: Path, finished: Path, tmp_path: Path) -> None:
    again = tmp_path / finished.name
    shutil.copytree(finished, again)
    mine = ["checkpoints/ckpt-old.index", "checkpoints/ckpt-1.index.bak", "metrics.jsonl.tmp", "export.tmp-0123abcd"]
    for name in mine:
        (again / name).write_text("mine")
    assert "is complete already: 4 updates" in train(dataset, again, *SHORT)
    (again / "finished.json").unlink()
    assert "resuming at step 4" in train(dataset, again, *SHORT)
    assert all((again / name).read_text() == "mine" for name in mine)


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("how", [zeros, flip, lambda content: content[: len(content) // 2], lambda content: b"\xff"])
def test_what_is_damaged_is_made_again(
    dataset: Path, finished: Path, tmp_path: Path, how: Callable[[bytes], bytes]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    names = ["config.json", "best.keras", "finished.json", "report-val/metrics.json", "checkpoints/ckpt-4.index"]
    for name in names:
        (run / name).write_bytes(how((run / name).read_bytes()))
    process = start(command(dataset, run, *SHORT))
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "made again from what the checkpoints say" in out
    assert "damaged, using the checkpoint before it" in out
    assert json.loads((run / "report-val" / "metrics.json").read_text())["images"] == 6
    assert "is complete already" in train(dataset, run, *SHORT)


def test_a_best_model_that_is_gone_is_replaced_by_the_one_at_the_end(
    dataset: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "best.keras").unlink()
    assert "the current model replaces it" in train(dataset, run, *SHORT)
    assert (run / "best.keras").stat().st_size > 0
    assert "is complete already" in train(dataset, run, *SHORT)
    assert [row["step"] for row in rows(run, "val")] == [4]
