"""A local stand-in for a Dataflow worker: Python, Beam and the staged package, and nothing else of this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError

_NO_TENSORFLOW = """
import sys

class RefuseTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_transform", "keras"):
            raise ImportError(f"a worker has no {name}")

sys.meta_path.insert(0, RefuseTensorFlow())
"""


@dataclass(frozen=True)
class Loaded:
    """The result of unpickling a graph: step -> the class of its function, and the modules that were imported."""

    functions: Mapping[str, str]
    modules: list[str]


def make_worker(folder: Path, package: Path | None) -> Path:
    """Makes a virtual environment that has what a worker's container has. -> its Python.

    Beam and the requirements are those installed here: the environment sees this one's site-packages, but not its .pth
    files, through which an editable installation of this project would be visible. It refuses to import TensorFlow.

    Args:
      package: an sdist to install; None installs nothing.

    Raises:
      LaunchError: the package could not be installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "running.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    (site_packages / "sitecustomize.py").write_text(_NO_TENSORFLOW, encoding="utf-8")
    if package:
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(package)]
        done = subprocess.run(install, env=worker_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise LaunchError(f"a worker could not install {package.name}: {_last_line(done.stderr)}")
    return python


def worker_environment(**more: str) -> dict[str, str]:
    """The environment variables of this process and `more`, without the path to this project."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more


def run_worker(python: Path, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` in the folder `cwd`, with `more` environment variables."""
    command, environment = [str(python), *arguments], worker_environment(**more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def load_graph(graph: bytes, worker: Path | None = None) -> Loaded:
    """Unpickles a serialized pipeline in a new interpreter, as a worker does first.

    Args:
      worker: the Python of `make_worker`; None takes the running one, which sees all of this project.

    Raises:
      LaunchError: a step could not be unpickled there.
    """
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(graph)
        file.flush()
        arguments = ("-m", "launch.dataflow.unpickle", file.name)
        if worker:
            done = run_worker(worker, *arguments, cwd=worker.parent)
        else:
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LaunchError(f"a worker could not load the graph: {_last_line(done.stderr)}")
    found = json.loads(done.stdout)
    return Loaded(found["functions"], found["modules"])


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
