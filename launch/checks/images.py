"""The versions in the images that jobs run in, read from what makes or names those images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError
from launch.jobs import PREBUILT

_HERE = Path(__file__).parent.parent
CONSTRAINTS = _HERE.parent / "constraints.txt"


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image has: `python` as "3.11", the others as its releases are called; None where nothing tells."""

    name: str
    python: str
    beam: str | None = None
    tensorflow: str | None = None
    keras: str | None = None


def worker_image() -> Image:
    """A Dataflow worker of our own. Raises LaunchError where this is no checkout."""
    text = _read(_HERE / "Dockerfile.worker")
    return Image(
        name="launch/Dockerfile.worker", python=_find(r"^ARG PYTHON=(\S+)", text), beam=_find(r"^ARG BEAM=(\S+)", text)
    )


def trainer_image(tpu: bool) -> Image:
    """A trainer of our own. Raises LaunchError where this is no checkout."""
    dockerfile, pins = _read(_HERE / "Dockerfile.trainer"), _read(CONSTRAINTS)
    tensorflow = _find(r"tensorflow-tpu==([\d.]+)\.\*", dockerfile) if tpu else _find(r"^tensorflow==(\S+)", pins)
    return Image(
        name="launch/Dockerfile.trainer",
        python=_find(r"^FROM python:(\d+\.\d+)", dockerfile),
        tensorflow=tensorflow,
        keras=_find(r"^keras==(\S+)", pins),
    )


def prebuilt_image() -> Image:
    """Vertex AI's. Its Keras is brought up to date by launch.start."""
    major, minor, python = re.findall(r"(\d+)-(\d+)\.py(\d+)", PREBUILT)[0]
    return Image(name="Vertex AI's prebuilt image", python=f"{python[0]}.{python[1:]}", tensorflow=f"{major}.{minor}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LaunchError(f"there is no {path}: start from a checkout of the project") from error


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise LaunchError(f"nothing fits {pattern!r} in the files that make the images: restore them")
    return found[1]
