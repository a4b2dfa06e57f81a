"""The text of a label file: local, in a bucket, or a member of a zip archive."""

from __future__ import annotations

import codecs
import os

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTableError
from beam_pipelines.files.refusals import cannot_read
from beam_pipelines.inputs.label_files.errors import FileError
from beam_pipelines.rejects import BadInputError

_MAX_BYTES = 1_000_000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str, called: str) -> str:
    """Raises LabelTableError, which calls the file `called`, or FileError."""
    data = _read_local(path, called) if os.path.lexists(path) else _read_elsewhere(path, called)
    if len(data) > _MAX_BYTES:
        raise FileError(0, f"the file has more than {_MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if data.startswith(_UTF16) else "not UTF-8 text"
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(line, f"the file is {found}: save it as UTF-8") from error
    odd = next((place for place, letter in enumerate(text) if letter < " " and letter not in "\t\r\n"), None)
    if odd is not None:
        cure = ": save the file as UTF-8" if text[odd] == "\0" else ""
        line = text.count("\n", 0, odd) + 1
        raise FileError(line, f"the control character {ord(text[odd]):#04x} is not allowed{cure}")
    return text


def _read_local(path: str, called: str) -> bytes:
    if not os.path.isfile(path):
        raise LabelTableError(f"{called} is a folder, a pipe or a device: name a regular file")
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise LabelTableError(str(cannot_read(called, error))) from error


def _read_elsewhere(path: str, called: str) -> bytes:
    if "://" not in path and ".zip!/" not in path.lower():
        raise LabelTableError(f"{called} is neither a file nor one of {', '.join(BUILTIN_TABLES)}")
    from beam_pipelines.files.reader import FileReader  # loads Beam

    reader = FileReader(_MAX_BYTES)
    try:
        return reader.read(path)
    except BadInputError as error:
        raise LabelTableError(f"{called}: {error.detail.removeprefix(f'{path}: ')}") from error
    finally:
        reader.close()
