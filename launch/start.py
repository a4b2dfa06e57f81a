"""`python -m launch.start` with the options of trainer.task: the program of a job in a public image of TensorFlow.

`launch.vertex.bootstrap` has installed the sdist of this project with its general requirements. This module installs
those of extras, and keeps the TensorFlow of the image. It must not import any of them itself. Then it becomes the
trainer, or another command.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from launch.errors import LaunchError, command
from trainer import console

DISTRIBUTION = "street-scenes"
EXTRAS = ("trainer", "weights")
_TRACK, _TRACKING = "--track", "tracking"  # an option of the trainer, and the extra that it needs
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")  # images without GPUs have the second one
_CUDA = ("and-cuda",)  # TensorFlow's extra with NVIDIA's libraries, in the versions that it supports
_COUNT_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


def main(argv: Sequence[str] | None = None) -> int:
    """Becomes the command; returns 1 if its requirements could not be installed, or a GPU is not there."""
    return install(argv) or _become(argv)


def extras_of(trainer_options: Iterable[str]) -> tuple[str, ...]:
    """The extras that a run with these options needs."""
    names = {option.partition("=")[0] for option in trainer_options}
    return (*EXTRAS, _TRACKING) if _TRACK in names else EXTRAS


@command
def install(argv: Sequence[str] | None = None) -> int:
    """Installs the requirements of the command. -> 0.

    Raises:
      LaunchError: pip failed, the image has another TensorFlow than the constraints, or TensorFlow finds too few GPUs.
    """
    console.raise_when_stopped()
    args, _ = _make_parser().parse_known_args(argv)
    needed = requirements_of(_requires(DISTRIBUTION), args.extras)
    if args.constraints:
        needed = _beside_tensorflow(needed, Path(args.constraints).read_text(encoding="utf-8"))
    if args.gpus:
        needed += requirements_of(_requires(_DISTRIBUTIONS[0]), _CUDA)
    _pip_install(needed, args.constraints)
    importlib.invalidate_caches()
    if args.gpus:
        _check_gpus(args.gpus)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    """The options of this program itself; all others go to the command."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--module", default="trainer.task")
    parser.add_argument("--extras", type=lambda text: text.split(","), default=EXTRAS)
    parser.add_argument("--constraints", metavar="FILE")
    parser.add_argument("--gpus", type=int, default=0)
    return parser


def _requires(distribution: str) -> Sequence[str]:
    return importlib.metadata.requires(distribution) or ()


def requirements_of(requires: Iterable[str], extras: Collection[str]) -> list[str]:
    """The requirements of some extras, without the name of the distribution, which may exist in an index."""
    found = ((line, re.search(r"extra == ['\"]([^'\"]+)", line)) for line in requires)
    return [line.partition(";")[0].strip() for line, extra in found if extra and extra[1] in extras]


def _beside_tensorflow(needed: Iterable[str], constraints: str) -> list[str]:
    """`needed` without TensorFlow, which the image has. Raises LaunchError if it is not that of the constraints."""
    pins = re.findall(r"^tensorflow==(\S+)", constraints, re.MULTILINE)
    found = [version for name in _DISTRIBUTIONS for version in _versions_of(name)][:1]
    if found != pins:
        have, want = (", ".join(versions) or "(none)" for versions in (found, pins))
        raise LaunchError(
            f"the image has TensorFlow {have}, and constraints.txt {want}: set --container to an image with the trainer"
        )
    return [line for line in needed if not re.match(r"tensorflow\b(?!-)", line)]


def _versions_of(distribution: str) -> Iterator[str]:
    """Yields the version that is installed, if any."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        yield importlib.metadata.version(distribution)


def _pip_install(needed: Sequence[str], constraints: str | None) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    bounds = ["--constraint", constraints] if constraints else []
    if subprocess.run([*pip, *bounds, *needed], check=False).returncode:
        raise LaunchError(
            f"the requirements ({', '.join(needed)}) could not be installed; on a network without a "
            "package index, set --container to an image that has them"
        )


def _check_gpus(count: int) -> None:
    """Raises LaunchError unless TensorFlow finds all GPUs: it would train on the CPU without a word."""
    command = [sys.executable, "-c", _COUNT_GPUS]
    counted = subprocess.run(command, env=_environment(), stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    if counted != str(count):
        raise LaunchError(
            f"TensorFlow finds {counted or 'none'} of the {count} GPUs of this host; set --build_container, or "
            "--container to an image built from launch/Dockerfile.trainer"
        )


def _environment() -> Mapping[str, str]:
    """This environment, in which TensorFlow finds the installed libraries of NVIDIA before those of the image."""
    nvidia = Path(sysconfig.get_path("purelib")) / "nvidia"
    added = {"LD_LIBRARY_PATH": nvidia.glob("*/lib"), "PATH": nvidia.glob("*/bin")}
    found = {name: [*map(str, sorted(folders))] for name, folders in added.items()}
    paths = {name: ":".join([*folders, os.environ.get(name, "")]) for name, folders in found.items() if folders}
    return {**os.environ, **paths}


def _become(argv: Sequence[str] | None) -> NoReturn:
    """Becomes the command, since a process can't change where it looks for libraries."""
    args, options = _make_parser().parse_known_args(argv)
    isolated = ["-I"] if sys.flags.isolated else []
    os.execve(sys.executable, [sys.executable, *isolated, "-m", args.module, *options], _environment())


if __name__ == "__main__":
    console.run_main(main)
