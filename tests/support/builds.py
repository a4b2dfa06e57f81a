"""Small data sets made here, and the commands as a user runs them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.build import main as build_main

if TYPE_CHECKING:
    from beam_pipelines.recipe import Recipe

PROJECT = Path(__file__).parent.parent.parent
REAL_DATA = PROJECT.parent / "shared" / "data"
HAS_BEAM = importlib.util.find_spec("apache_beam") is not None


SHOWN = "shown"  # a property of a test: a text for people, printed after the last test


def real_scenes(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real street scenes are not at hand: {folder} does not exist")
    return folder


def run_module(module: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `python -m beam_pipelines.MODULE ARGUMENTS` as a user would."""
    command = [sys.executable, "-m", f"beam_pipelines.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, **options)


def digests(dataset: Path) -> dict[str, str]:
    """SHA-256 of each shard."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(dataset.glob("*.tfrecord"))}


def make_flat(folder: Path, train: int = 12, val: int = 4, size: tuple[int, int] = (32, 64), seed: int = 0) -> Path:
    """A flat data set for the table camvid11: noise images, blocky masks of ids 0..11; `size` is (height, width)."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            mask = np.kron(rng.integers(0, 12, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(np.uint8)
            Image.fromarray(image).save(folder / "images" / split / f"{split}_{index:04d}.png")
            Image.fromarray(mask).save(folder / "masks" / split / f"{split}_{index:04d}.png")
    return folder


def make_uneven(folder: Path, **options: Any) -> Path:
    """Like `make_flat`, and one more pair of another size: built as native it has no one size, so no transform_fn,
    which takes seconds.
    """
    make_flat(folder, **options)
    image = np.random.default_rng(99).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(image).save(folder / "images" / "train" / "uneven.png")
    Image.fromarray(np.full((24, 40), 3, np.uint8)).save(folder / "masks" / "train" / "uneven.png")
    return folder


def build(*arguments: object) -> int:
    """`python -m beam_pipelines.build ARGUMENTS` in this process. -> the exit code.

    Where Beam is not installed the Python that PIPELINE_PYTHON names does it, and leaves out transform_fn: then the
    trainer reads here what the pipeline wrote elsewhere.
    """
    argv = [*map(str, arguments), *_ADDED]
    if HAS_BEAM:
        return build_main(argv)
    python = os.environ.get("PIPELINE_PYTHON")
    if not python:
        pytest.skip("apache-beam is not installed, and PIPELINE_PYTHON names no Python that has it")
    command = [python, "-m", "beam_pipelines.build", *argv, "--no_transform_fn"]
    return subprocess.run(command, cwd=PROJECT, check=False).returncode


_ADDED: list[str] = []  # arguments of every build


# What a build writes beside the shards, if the images differ in size: else there are TFDS's files, and transform_fn.
BESIDE_SHARDS = {
    "card",
    "croissant.json",
    "dataset.json",
    "index",
    "metadata_files.json",
    "plan.jsonl",
    "rejected.jsonl",
}
_SHARED = ("index/*.jsonl", "card/*", "duplicates.jsonl")  # files that two builds of the same inputs and recipe share


def file_names(shards: Iterable[str]) -> set[str]:
    """The names, without folders, of all files of such a data set with these shards."""
    indexes = {shard.replace(".tfrecord", ".jsonl") for shard in shards}
    card = {"index.html", "statistics.json"}
    return {*shards, *indexes, *card, *(BESIDE_SHARDS - {"card", "index"})}


Published: TypeAlias = tuple[dict[str, str], dict[str, Any], dict[str, str]]


def published(dataset: Path) -> Published:
    """What two builds of the same inputs and recipe share: the digests of the shards, the manifest but for `timing`,
    and the digests of other files.
    """
    manifest = json.loads((dataset / "dataset.json").read_text())
    del manifest["timing"]
    paths = sorted(path for pattern in _SHARED for path in dataset.glob(pattern))
    others = {str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return digests(dataset), manifest, others


@contextlib.contextmanager
def no_transform() -> Iterator[None]:
    """`build` leaves out transform_fn, which takes seconds in a process of its own."""
    _ADDED.append("--no_transform_fn")
    try:
        yield
    finally:
        _ADDED.pop()


def recipe_of(*arguments: str) -> Recipe:
    """The recipe that the command line `--input=in --output=out ARGUMENTS` gives."""
    from beam_pipelines.options import parse_build

    return parse_build(["--input=in", "--output=out", *arguments]).recipe


def upload(source: Path, target: str) -> None:
    """By Google's own client: a build's way, by temporary objects, takes three times as long."""
    from google.cloud.storage import Client

    bucket, _, folder = target.removeprefix("gs://").partition("/")
    with contextlib.closing(Client()) as client:
        for path in source.rglob("*"):
            if path.is_file():
                client.bucket(bucket).blob(f"{folder}/{path.relative_to(source)}").upload_from_filename(str(path))


def download(dataset: str, folder: Path) -> Path:
    from beam_pipelines.files import storage

    for name in storage.sizes(dataset):
        if not name or name.endswith("/"):
            continue  # TensorFlow's way to make a folder
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with storage.open_read(storage.join(dataset, name)) as file:
            (folder / name).write_bytes(file.read())
    return folder
