"""Keeps the data set and the pictures apart: neither may stand where the build writes or deletes the other."""

from __future__ import annotations

import os

from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.archives import is_archive
from beam_pipelines.files.workspace import BUILD, TRANSFORM_FOLDERS
from beam_pipelines.inputs.layouts import PICTURE_FOLDERS
from beam_pipelines.recipe import input_paths

_CURE = "choose an --output beside the input"


def check_apart(inputs: str, output: str) -> None:
    """Compares real paths, with links resolved; an output elsewhere below an input holds nothing that is looked for.

    Raises:
      BuildError: output and input are one folder, the output is among the pictures or below an archive, or the input
        is in a folder that a build deletes.
    """
    target = _real(output)
    for path in input_paths(inputs):
        source = _real(path)
        if source == target:
            raise BuildError(f"--output={output} is the input {path} itself: {_CURE}")
        inside = _below(source, target)
        if inside and is_archive(source) and not os.path.isdir(source):
            raise BuildError(f"--output={output} is below the archive {path}: {_CURE}")
        if inside and PICTURE_FOLDERS & {part.lower() for part in inside}:
            raise BuildError(f"--output={output} is among the pictures of the input {path}: {_CURE}")
        around = _below(target, source)
        if around and around[0] in (BUILD, *TRANSFORM_FOLDERS):
            raise BuildError(f"the input {path} is in a folder that builds in --output={output} delete: {_CURE}")


def _real(path: str) -> str:
    return os.path.realpath(path) if storage.is_local(path) else path.rstrip("/")


def _below(folder: str, path: str) -> list[str]:
    """The parts of `path` below `folder`; none where it is not below it."""
    start = storage.join(folder, "")
    return path.removeprefix(start).split("/") if path.startswith(start) and path != start else []
