"""The versions in the container images of jobs, read from the files that build or name those images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError
from launch.vertex.image import CONSTRAINTS, PUBLIC, check_constraints

_LAUNCH = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image contains: `python` such as "3.11", the others as release numbers; None if unknown."""

    name: str
    python: str
    beam: str | None = None
    tensorflow: str | None = None
    keras: str | None = None


def worker_image() -> Image:
    """The custom image of Dataflow's workers. Raises LaunchError if this is not a checkout."""
    text = _read(_LAUNCH / "Dockerfile.worker")
    return Image(
        name="launch/Dockerfile.worker", python=_find(r"^ARG PYTHON=(\S+)", text), beam=_find(r"^ARG BEAM=(\S+)", text)
    )


def trainer_image(is_tpu: bool) -> Image:
    """The custom image of the trainer. Raises LaunchError if this is not a checkout."""
    dockerfile, pins = _read(_LAUNCH / "Dockerfile.trainer"), _read(CONSTRAINTS)
    tensorflow = _find(r"tensorflow-tpu==([\d.]+)\.\*", dockerfile) if is_tpu else _find(r"^tensorflow==(\S+)", pins)
    return Image(
        name="launch/Dockerfile.trainer",
        python=_find(r"^FROM python:(\d+\.\d+)", dockerfile),
        tensorflow=tensorflow,
        keras=_find(r"^keras==(\S+)", pins),
    )


def public_image(has_gpus: bool) -> Image:
    """The public image, after launch.start has installed the packages of the constraints.

    Raises:
      LaunchError: this is not a checkout, or the constraints have another TensorFlow than the image.
    """
    check_constraints()
    return Image(
        name=PUBLIC.uri(has_gpus),
        python=PUBLIC.python,
        tensorflow=PUBLIC.tensorflow,
        keras=_find(r"^keras==(\S+)", _read(CONSTRAINTS)),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LaunchError(f"{path} does not exist: run this command from a checkout of the project") from error


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise LaunchError(f"the files that build the images do not match {pattern!r}: restore them")
    return found[1]
