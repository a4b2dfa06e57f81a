"""Small files, plain or in an archive: their text, or one sentence that names the file and the cure."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import read_bytes, read_text

FILES = {"plain": "Straße\n".encode(), "marked": b"\xef\xbb\xbfa", "long": b"#" * 101, "other": b"a\n\xff"}


@pytest.fixture(params=["folder", "archive"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    if request.param == "folder":
        return f"{tmp_path}/"
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(tmp_path / name, name)
    return f"{tmp_path}/all.zip!/"


def test_text_is_read(place: str) -> None:
    assert [read_text(f"{place}{name}", 100) for name in ("plain", "marked")] == ["Straße\n", "a"]
    assert read_bytes(f"{place}long", 101) == FILES["long"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("long", " has more than 100 bytes: check that it is the right file"),
        ("other", ", line 2: the file is not UTF-8 text: save it as UTF-8"),
        ("missing", " can't be read: "),
    ],
)
def test_what_is_no_small_text_is_told_by_its_name(place: str, name: str, told: str) -> None:
    for called in ("", "--labels=x"):
        with pytest.raises(BuildError, match=f"^{re.escape(f'{called or place + name}{told}')}"):
            read_text(f"{place}{name}", 100, called)
