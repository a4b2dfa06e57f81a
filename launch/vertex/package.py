"""The sdist that Vertex AI installs: built from a checkout of this project, without writing to it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from launch.errors import LaunchError

PROJECT = Path(__file__).parents[2]
_FILES = ("setup.py", "pyproject.toml", "LICENSE")


def build_sdist(folder: Path) -> Path:
    """Builds the project's sdist in `folder`. -> its path.

    Raises:
      LaunchError: this is not a checkout, or setuptools is missing.
    """
    if not (PROJECT / "setup.py").is_file():
        raise LaunchError(f"{PROJECT} has no setup.py: run launch.vertex from a checkout of the project")
    source = folder / "source"
    source.mkdir()
    for name in _FILES:
        shutil.copy(PROJECT / name, source)
    for package in PROJECT.glob("*/__init__.py"):
        name = package.parent.name
        shutil.copytree(package.parent, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LaunchError(
            f"the package could not be built ({last}): pip install '.[launch]' installs what the build needs"
        )
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def digest(sdist: Path) -> str:
    """SHA-256 of the names and contents of its files, in hex: the same for the same sources at any time."""
    total = hashlib.sha256()
    with tarfile.open(sdist) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)
            content = file.read() if file is not None else b""
            total.update(f"{member.name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def package_uri(sdist: Path, output: str) -> str:
    """Where the sdist is uploaded: changed code has another path, so that a running job keeps its own."""
    return f"{output}/packages/{digest(sdist)[:12]}/{sdist.name}"
