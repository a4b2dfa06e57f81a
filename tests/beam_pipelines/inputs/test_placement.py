"""Where the data set may stand, seen from the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.detection import detect
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layouts import REGION_FORMATS
from beam_pipelines.inputs.placement import check_apart, check_not_among
from beam_pipelines.inputs.region_files import RegionFiles
from beam_pipelines.inputs.sources import Source
from tests.support.builds import recipe_of


@pytest.mark.parametrize(
    ("given", "output", "problem"),
    [
        ("set", "set", "is the input"),
        ("set", "link", "is the input"),
        ("set.zip", "set.zip/out", "is below the archive"),
        ("out/_build/set", "out", "is in a folder that a build with"),
        ("out/transform_fn", "out", "is in a folder that a build with"),
        ("gs://bucket/set", "gs://bucket/set/", "is the input"),
    ],
)
def test_where_they_clash_they_are_refused(tmp_path: Path, given: str, output: str, problem: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    given, output = (path if "://" in path else f"{tmp_path}/{path}" for path in (given, output))
    with pytest.raises(BuildError, match=problem):
        check_apart(given, output)


@pytest.mark.parametrize(
    ("given", "output"),
    [("set", "link/images/out"), ("set", "set/Masks"), ("gs://bucket/set", "gs://bucket/set/masks/out")],
)
def test_among_the_images_it_is_refused(tmp_path: Path, given: str, output: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    given, output = (path if "://" in path else f"{tmp_path}/{path}" for path in (given, output))
    files = Files()
    files.add_source(f"{given}/")
    for name in ("images/train/a.png", "masks/train/a.png"):
        files.add(name, 1)
    source = Source(given, files, detect(files, recipe_of(), given))
    check_apart(given, output)
    with pytest.raises(BuildError, match="is among the images"):
        check_not_among(source, output)
    check_not_among(source, f"{given}/gtFine")  # a folder of another layout


def test_among_images_that_have_regions_it_is_refused(tmp_path: Path) -> None:
    source = Source(str(tmp_path), Files(), regions=RegionFiles(REGION_FORMATS[0], ("all.json",)))
    with pytest.raises(BuildError, match="is among the images"):
        check_not_among(source, f"{tmp_path}/Images/out")
    check_not_among(source, f"{tmp_path}/out")


@pytest.mark.parametrize(
    ("given", "output"), [("set", "set/out"), ("out/set", "out"), ("set", "set2"), ("gs://b/set", "gs://b/set-out")]
)
def test_where_nothing_can_clash_they_are_taken(tmp_path: Path, given: str, output: str) -> None:
    given, output = (path if "://" in path else f"{tmp_path}/{path}" for path in (given, output))
    check_apart(given, output)
