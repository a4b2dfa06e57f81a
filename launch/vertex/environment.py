"""The virtual environments of a rehearsal: a temporary one, or one that is kept in a folder of its own."""

from __future__ import annotations

import site
import subprocess
import venv
from pathlib import Path

from launch.errors import LaunchError

MARK = "made-by-launch-vertex.txt"  # written first: a folder without it was made by somebody else
_TEXT = "`python -m launch.vertex --local` made this environment and installs into it. It may be deleted.\n"


def check_environment(folder: str) -> None:
    """Raises LaunchError unless `folder` is missing, empty, or an environment that `kept_environment` began."""
    root = Path(folder).absolute()
    if root.is_dir():
        found = sorted(path.name for path in root.iterdir())
        if not found or MARK in found:
            return
        first = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise LaunchError(
            f"--venv={folder} has files that this command did not make ({first}), and installing would overwrite "
            "them: choose another --venv, empty or new (or delete this one if an earlier version made it)"
        )
    if root.exists() or root.is_symlink():
        raise LaunchError(f"--venv={folder} is not a folder: choose another --venv")


def kept_environment(folder: str) -> Path:
    """The environment of earlier rehearsals, or a new one. -> its Python.

    Raises:
      LaunchError: the folder has files of somebody else, or the environment gets no pip.
    """
    check_environment(folder)
    root = Path(folder).absolute()
    python = root / "bin" / "python"
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).write_text(_TEXT, encoding="utf-8")
    if not _has_pip(python):  # pip is installed last: an environment without it was interrupted
        print(f"installing the trainer in {folder}: takes minutes and 2 GB, only once", flush=True)
        try:
            venv.create(root, with_pip=True)
        except subprocess.CalledProcessError as error:  # of ensurepip, which Debian's Python does not have
            raise LaunchError(
                f"pip could not be installed in {folder}: install python3-venv and run the same command again, or "
                "use the installed packages with --reuse_packages"
            ) from error
    return python


def temporary_environment(scratch: Path) -> Path:
    """An environment that sees the packages of the running Python. -> its Python."""
    folder = scratch / "venv"
    venv.create(folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # Not venv's system_site_packages, which skips the packages of a virtual environment.
    (site_packages / "running.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return folder / "bin" / "python"


def install(python: Path, sdist: Path, extras: str, reuse_packages: bool) -> None:
    """Installs the sdist, and what the trainer needs, once for all hosts. Raises LaunchError if pip fails."""
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet"]
    offline = ["--no-build-isolation", "--no-index"] if reuse_packages else []
    for arguments in (
        ["--force-reinstall", "--no-deps", str(sdist)],
        [f"{sdist}[{extras}]"],
    ):
        done = subprocess.run([*pip, *offline, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line.strip() for line in done.stderr.strip().splitlines()] or ["no message"]
            reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
            raise LaunchError(f"pip could not install {sdist.name}: {reason}")


def _has_pip(python: Path) -> bool:
    command = [str(python), "-I", "-m", "pip", "--version"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0
