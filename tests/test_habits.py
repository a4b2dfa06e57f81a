"""What the tools around the code promise: the hooks, the quick tests, and where tests keep what they share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parent.parent
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
TEST_FILES = sorted((PROJECT / "tests").rglob("*.py"))


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, with what BIN stands for."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, target
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def borrowed(source: str) -> list[str]:
    """The modules of tests, and the conftest, that `source` imports, also in the text of a program."""
    return re.findall(r"^\s*(?:from|import)\s+((?:\w+\.)*(?:test_\w+|conftest))\b", source, re.MULTILINE)


def test_hooks_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local", "nothing to download"
    hooks = repository["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"] for hook in hooks] == [command.removesuffix(" .") for command in recipe("lint")]


def test_quick_tests_are_where_the_makefile_says() -> None:
    found = re.search(r"^QUICK := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert found
    places = found[1].replace("\\\n", " ").split()
    assert places
    assert not [place for place in places if not (PROJECT / place).exists()]


@pytest.mark.parametrize("path", TEST_FILES, ids=[str(path.relative_to(PROJECT / "tests")) for path in TEST_FILES])
def test_tests_import_what_they_share_from_support(path: Path) -> None:
    assert not borrowed(path.read_text(encoding="utf-8"))


def test_the_probe_of_what_is_borrowed_can_fail() -> None:
    lines = ("import test_decode", "from conftest import PROJECT", "    from tests.trainer.test_steps import Training")
    assert borrowed("\n".join(lines)) == ["test_decode", "conftest", "tests.trainer.test_steps"]
    assert not borrowed("from tests.support.builds import build\nimport testing_tools")


def test_files_of_tests_have_names_of_their_own() -> None:
    """Their folders are no packages, so pytest can't import two of one name."""
    names = [path.name for path in TEST_FILES if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))
