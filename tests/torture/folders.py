"""Folders of files as one sample: an archive, of which one file is damaged."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.torture import mutations
from tests.torture.mutations import Mutation

_DAMAGES: Mapping[str, Mutation] = {
    ".npz": mutations.mutate_zip,
    ".json": mutations.mutate_json,
    ".jsonl": mutations.mutate_json_lines,
    ".index": mutations.mutate_table,
}
_LEFT_OUT = 0.05  # share of the cases in which a file is missing


def packed(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files; the same files give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def packed_folder(folder: Path) -> bytes:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return packed({name: (folder / name).read_bytes() for name in names})


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(data: bytes, folder: Path) -> Path:
    """The files of the archive in `folder`, and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
    return folder


def mutate_one(data: bytes, random: Random) -> bytes:
    """One of the files in a sound archive is damaged, by a way that fits it, or is left out."""
    files = unpacked(data)
    name = random.choice(list(files))
    if random.random() < _LEFT_OUT:
        del files[name]
        return packed(files)
    damage = _DAMAGES.get(Path(name).suffix, mutations.mutate)
    return packed({**files, name: damage(files[name], random)})
