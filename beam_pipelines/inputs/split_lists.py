"""Splits that text files list, a key on each line, as Pascal VOC has them."""

from __future__ import annotations

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import read_text
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.templates import Template

_MAX_BYTES = 100_000_000
_UNIONS = ("trainval", "all")  # lists of several splits at once


def splits_of_lists(files: Files, names: Template) -> dict[str, str]:
    """Key -> split, from the lists that have these names; empty if there are none.

    Raises:
      BuildError: a key is in two splits, or a list can't be read.
    """
    found: dict[str, str] = {}
    for name in sorted(files):
        match = names.match(name)
        if match is None or match.folders[0] in _UNIONS:
            continue
        for key in _lines(files[name][0]):
            split = match.folders[0]
            if found.setdefault(key, split) != split:
                raise BuildError(f"{name}: {key} is in the lists of two splits, {found[key]} and {split}: remove one")
    return found


def _lines(path: str) -> list[str]:
    return [line.split()[0] for line in read_text(path, _MAX_BYTES).splitlines() if line.strip()]
