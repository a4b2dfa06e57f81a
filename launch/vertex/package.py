"""What a job gets of a checkout, made without writing to it: an sdist, or the sources of an image."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError
from launch.vertex.image import CONSTRAINTS, Built, built_image

PROJECT = Path(__file__).parents[2]
_FILES = ("setup.py", "pyproject.toml", "LICENSE")


@dataclass(frozen=True, kw_only=True)
class Package:
    """Files that a job reads, and the gs:// folder that they are uploaded to.

    Attributes:
      archive: the sdist, or the sources of an image.
      constraints: the versions of all other packages; None if the archive contains them.
    """

    folder: str
    archive: Path
    constraints: Path | None = None

    @property
    def uri(self) -> str:
        """The gs:// path of the archive."""
        return f"{self.folder}/{self.archive.name}"

    @property
    def uploads(self) -> dict[str, Path]:
        """gs:// path -> the file that is uploaded there."""
        files = [self.archive, *filter(None, [self.constraints])]
        return {f"{self.folder}/{file.name}": file for file in files}


@dataclass(frozen=True, kw_only=True)
class ImageBuild:
    """An image that Cloud Build makes, and its sources."""

    image: Built
    sources: Package


def make_package(scratch: Path, output: str) -> Package:
    """The sdist with its constraints, for an image that does not have the package.

    Raises:
      LaunchError: this is not a checkout, or setuptools is missing.
    """
    sdist = build_sdist(scratch)
    return Package(folder=_folder(output, sdist, CONSTRAINTS), archive=sdist, constraints=CONSTRAINTS)


def make_image_build(image: str, scratch: Path, output: str, is_tpu: bool) -> ImageBuild:
    """The image of launch/Dockerfile.trainer, as `image` with a tag. Raises LaunchError if this is not a checkout."""
    source = _copy_sources(scratch)
    shutil.copy(CONSTRAINTS, source)
    archive = scratch / "sources.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(source, ".")
    sources = Package(folder=_folder(output, archive), archive=archive)
    return ImageBuild(image=built_image(image, sources.folder.rpartition("/")[2], is_tpu), sources=sources)


def build_sdist(folder: Path) -> Path:
    """Builds the project's sdist in `folder`. -> its path.

    Raises:
      LaunchError: this is not a checkout, or setuptools is missing.
    """
    source = _copy_sources(folder)
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LaunchError(
            f"the package could not be built ({last}): pip install '.[launch]' installs what the build needs"
        )
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def _copy_sources(folder: Path) -> Path:
    """Copies what is built into `folder`. -> its path. Raises LaunchError if this is not a checkout."""
    if not (PROJECT / "setup.py").is_file():
        raise LaunchError(f"{PROJECT} has no setup.py: run launch.vertex from a checkout of the project")
    source = folder / "source"
    source.mkdir()
    for name in _FILES:
        shutil.copy(PROJECT / name, source)
    for package in PROJECT.glob("*/__init__.py"):
        name = package.parent.name
        shutil.copytree(package.parent, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    return source


def digest(archive: Path) -> str:
    """SHA-256 of the names and contents of its files, in hex: the same for the same sources at any time."""
    total = hashlib.sha256()
    with tarfile.open(archive) as opened:
        for member in sorted(opened.getmembers(), key=lambda member: member.name):
            file = opened.extractfile(member)
            content = file.read() if file is not None else b""
            total.update(f"{member.name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _folder(output: str, archive: Path, *others: Path) -> str:
    """Where files are uploaded: changed files have another folder, so that a running job keeps its own."""
    total = hashlib.sha256(digest(archive).encode())
    for path in others:
        total.update(path.read_bytes())
    return f"{output}/packages/{total.hexdigest()[:12]}"
