"""The command line of the card: what it asks for, and what it says without a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipelines.card.__main__ import main as card
from tests.support.builds import run_module


def test_a_folder_without_a_data_set_is_told(tmp_path: Path) -> None:
    done = run_module("card", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path} has no dataset.json: there is no data set; give the folder")
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert card([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} does not exist: give the folder that")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["out", "--qqq"], "unrecognized arguments: --qqq"),
        ([], "the following arguments are required: DATASET"),
        ([""], "DATASET is empty: give the folder of a data set"),
        (["https://x"], "DATASET https://x: https: is not supported"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        card(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        card(["--help"])
    assert ended.value.code == 0
    assert "card/index.html" in capsys.readouterr().out
