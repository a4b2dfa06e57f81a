"""Looking at folders: what is not there is not mixed up with what can't be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from trainer.files import files_below, is_folder, made_folder, names_in, read_bytes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/1", "a/[b]*/2", "3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path


def test_a_folder_is_listed(tree: Path) -> None:
    assert names_in(str(tree)) == ["3", "a", "gone", "loop"]
    assert files_below(str(tree)) == ["3", "a/1", "a/[b]*/2", "gone", "loop"]
    assert [name for name in names_in(str(tree)) if is_folder(f"{tree}/{name}")] == ["a"]


@pytest.mark.parametrize("name", ["absent", "absent/x", "3", "3/x", "gone", "loop", 300 * "x"])
def test_what_is_no_folder_has_no_files(name: str, tree: Path) -> None:
    path = f"{tree}/{name}"
    assert (is_folder(path), names_in(path), files_below(path)) == (False, [], [])


@pytest.mark.parametrize("name", ["absent", "3/x", "a", "gone"])
def test_what_is_no_file_is_not_found(name: str, tree: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{tree}/{name}", 9)


@pytest.mark.parametrize("look", [is_folder, names_in, files_below, lambda path: read_bytes(path, 9)])
def test_a_folder_that_can_not_be_read_is_not_taken_for_an_empty_one(
    look: Callable[[str], object], tmp_path: Path
) -> None:
    (tmp_path / "closed" / "in").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(tf.errors.PermissionDeniedError):
            look(f"{tmp_path}/closed/in")
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o755)


def test_a_folder_that_stays_empty_goes_with_what_was_made_above_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "new" / "deep"):
        with contextlib.suppress(KeyboardInterrupt), made_folder(f"{folder}/"):
            assert folder.is_dir()
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with made_folder(str(tmp_path / "new" / "deep")):
        (tmp_path / "new" / "deep" / "report").touch()
    assert (tmp_path / "new" / "deep" / "report").exists()
