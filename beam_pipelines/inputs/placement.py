"""Keeps the data set and its input apart, so that a build neither writes into nor deletes the input."""

from __future__ import annotations

import os

from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.archives import is_archive
from beam_pipelines.files.names import BUILD, TRANSFORM_FOLDERS
from beam_pipelines.inputs.layouts import IMAGE_FOLDERS
from beam_pipelines.inputs.sources import Source
from beam_pipelines.recipe import input_paths

_CURE = "choose an --output beside the input"


def check_apart(inputs: str, output: str) -> None:
    """Compares paths with their links resolved.

    Raises:
      BuildError: output and input are the same folder, the output is below an archive, or the input is in a folder that
        a build deletes.
    """
    target = _real(output)
    for path in input_paths(inputs):
        source = _real(path)
        if source == target:
            raise BuildError(f"--output={output} is the input {path} itself: {_CURE}")
        inside = _below(source, target)
        if inside and is_archive(source) and not os.path.isdir(source):
            raise BuildError(f"--output={output} is below the archive {path}: {_CURE}")
        around = _below(target, source)
        if around and around[0] in (BUILD, *TRANSFORM_FOLDERS):
            raise BuildError(f"the input {path} is in a folder that a build with --output={output} deletes: {_CURE}")


def check_not_among(source: Source, output: str) -> None:
    """Raises BuildError if the output is in a folder that holds images or masks of the layout, or images that have
    regions.
    """
    if source.detected is None and source.regions is None:
        return
    folders = source.detected.layout.folders if source.detected else IMAGE_FOLDERS
    target = _real(output)
    for path in input_paths(source.inputs):
        inside = _below(_real(path), target)
        if {part.lower() for part in inside} & {name.lower() for name in folders}:
            raise BuildError(f"--output={output} is among the images of the input {path}: {_CURE}")


def _real(path: str) -> str:
    return os.path.realpath(path) if storage.is_local(path) else path.rstrip("/")


def _below(folder: str, path: str) -> list[str]:
    """The parts of `path` below `folder`; empty if it is not below it."""
    start = storage.join(folder, "")
    return path.removeprefix(start).split("/") if path.startswith(start) and path != start else []
