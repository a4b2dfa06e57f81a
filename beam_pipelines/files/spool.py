"""Documents of images, one a line of a file of ours, and references to them in the place of paths.

Annotations of many images in one file are too large for each worker to parse. Planning parses them once and spools a
document for each image; a plan then holds `PATH#OFFSET+BYTES:CRC@SOURCE`, where SOURCE is the user's file.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from dataclasses import dataclass, replace
from typing import BinaryIO

import google_crc32c

from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud
from beam_pipelines.files.names import POLYGONS
from beam_pipelines.files.refusals import cannot_read, cannot_write, root_cause
from beam_pipelines.files.storage import open_read

DOCUMENTS = POLYGONS.rpartition("/")[2]  # the name of every file of documents, or its end
_REFERENCE = re.compile(rf"(.*?{re.escape(DOCUMENTS)})#(\d+)\+(\d+):([0-9a-f]{{8}})@(.*)", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """`length` bytes of the file `path` from `offset` on, with their CRC-32C; `source` is the file they were in."""

    path: str
    offset: int
    length: int
    crc: int
    source: str

    def __str__(self) -> str:
        return f"{self.path}#{self.offset}+{self.length}:{self.crc:08x}@{self.source}"

    @property
    def content(self) -> str:
        """What the reference says of the document wherever it lies."""
        return f"#{self.length}:{self.crc:08x}@{self.source}"

    def at(self, path: str, offset: int) -> Reference:
        """The same document in another place."""
        return replace(self, path=path, offset=offset)


def reference_of(path: str) -> Reference | None:
    """The reference that a path in a plan is; None if it is the path of a file."""
    found = _REFERENCE.fullmatch(path) if f"{DOCUMENTS}#" in path else None
    return Reference(found[1], int(found[2]), int(found[3]), int(found[4], 16), found[5]) if found else None


def source_of(path: str) -> str:
    """The user's file that `path`, a path in a plan, comes from."""
    reference = reference_of(path)
    return reference.source if reference else path


def content_of(path: str) -> str:
    """`path`, or what it says of a document wherever that lies: plans with the same documents are the same."""
    reference = reference_of(path)
    return reference.content if reference else path


class Spool:
    """Takes documents into a temporary file, which exists until `close`, the end of the object, or that of the process.

    With no document there is no file.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._bytes = 0

    def add(self, document: bytes, source: str) -> str:
        """Writes a document of one line. -> its reference.

        Raises:
          BuildError: the disk of temporary files is full.
        """
        offset, self._bytes = self._bytes, self._bytes + len(document) + 1
        path = ""
        try:
            file = self._opened()
            path = file.name
            file.write(document + b"\n")
            file.flush()  # others read it through its path
        except OSError as error:
            raise cannot_write(path or tempfile.gettempdir(), error) from error
        return str(Reference(path, offset, len(document), google_crc32c.value(document), source))

    def close(self) -> None:
        """Deletes the file. Its documents can't be read any more, and none can be added."""
        if self._file:
            self._end()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            folder = tempfile.mkdtemp()
            self._file = open(os.path.join(folder, DOCUMENTS), "wb")  # noqa: SIM115 - until `close`
            self._end = weakref.finalize(self, _delete, self._file, folder)
        return self._file


def _delete(file: BinaryIO, folder: str) -> None:
    file.close()
    shutil.rmtree(folder, ignore_errors=True)


class SpoolReader:
    """Reads documents; the files remain open, since the pairs of a shard are neighbors in them."""

    def __init__(self) -> None:
        self._files: dict[str, BinaryIO] = {}

    def read(self, reference: Reference) -> bytes:
        """Raises BuildError if the file can't be read, or has other bytes there."""
        path = reference.path
        try:
            with cloud.errors(path):
                if path not in self._files:
                    self._files[path] = open_read(path)
                self._files[path].seek(reference.offset)
                data = self._files[path].read(reference.length)
        except OSError as error:
            self.close()
            raise cannot_read(path, root_cause(error)) from error
        if google_crc32c.value(data) != reference.crc:
            self.close()
            raise BuildError(
                f"{path} is damaged at byte {reference.offset:,}: another program changed it; run the same command "
                "again, which writes it again"
            )
        return data

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
