"""A Dataflow worker on this machine: a Python with Beam, the package that a job sends, and nothing else of ours."""

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

from beam_pipelines.errors import BuildError

_NO_TENSORFLOW = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_transform", "keras"):
            raise ImportError(f"a worker has no {name}")

sys.meta_path.insert(0, Refuse())
"""


@dataclass(frozen=True)
class Loaded:
    """What unpickling a graph took: step -> the class of its function, and the modules that were imported."""

    functions: Mapping[str, str]
    modules: list[str]


def make_worker(folder: Path, package: Path | None) -> Path:
    """What a worker's container is: a Python with Beam and what `package`, an sdist, needs, and of this project only
    the package. -> its executable. Beam and the requirements are those installed here: the virtual environment reads
    this one's site-packages, but not its .pth files, through which this project is seen; it refuses TensorFlow.

    Raises:
      BuildError: the package can't be installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (place,) = folder.glob("lib/python*/site-packages")
    (place / "of_this_one.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    (place / "sitecustomize.py").write_text(_NO_TENSORFLOW, encoding="utf-8")
    if package:
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(package)]
        done = subprocess.run(install, env=worker_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"a worker could not install {package.name}: {_last_line(done.stderr)}")
    return python


def worker_environment(**more: str) -> dict[str, str]:
    """This process's, without the way to this project, and `more`."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more


def run_worker(python: Path, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` away from the project."""
    command, environment = [str(python), *arguments], worker_environment(**more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def load_graph(graph: bytes, worker: Path | None = None) -> Loaded:
    """Unpickles a serialized pipeline in a new interpreter, which is what a worker does first: in that of `worker`,
    from `make_worker`, or in one like this, which has all of this project.

    Raises:
      BuildError: a step can't be unpickled there.
    """
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(graph)
        file.flush()
        arguments = ("-m", "launch.worker_imports", file.name)
        if worker:
            done = run_worker(worker, *arguments, cwd=worker.parent)
        else:
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"a worker could not load the graph: {_last_line(done.stderr)}")
    found = json.loads(done.stdout)
    return Loaded(found["functions"], found["modules"])


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
