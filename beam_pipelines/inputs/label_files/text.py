"""The text of a label file: local, in a bucket, or a member of a zip archive."""

from __future__ import annotations

import os

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTableError
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.label_files.errors import FileError

_MAX_BYTES = 1_000_000


def text_of(path: str, called: str) -> str:
    """Raises LabelTableError, which calls the file `called`."""
    from beam_pipelines.files.reader import is_member, read_text  # loads Beam

    if not (os.path.lexists(path) or "://" in path or is_member(path)):
        raise LabelTableError(f"{called} is neither a file nor one of {', '.join(BUILTIN_TABLES)}")
    try:
        return read_text(path, _MAX_BYTES, called)
    except BuildError as error:
        raise LabelTableError(str(error)) from error


def check_letters(text: str) -> None:
    """Raises FileError if there are control characters."""
    odd = next((place for place, letter in enumerate(text) if letter < " " and letter not in "\t\r\n"), None)
    if odd is not None:
        cure = ": save the file as UTF-8" if text[odd] == "\0" else ""
        line = text.count("\n", 0, odd) + 1
        raise FileError(line, f"the control character {ord(text[odd]):#04x} is not allowed{cure}")
