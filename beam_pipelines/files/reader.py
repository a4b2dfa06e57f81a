"""Reads whole files, members of zip archives without extracting them, and documents that planning wrote."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from beam_pipelines.contract.picture_errors import SIGNATURES
from beam_pipelines.errors import BuildError, first_line
from beam_pipelines.files import cloud
from beam_pipelines.files.refusals import ARCHIVE_ERRORS, cannot_read, refusal_of, refusal_of_status, root_cause
from beam_pipelines.files.spool import SpoolReader, reference_of
from beam_pipelines.files.storage import is_local, open_raw, open_read
from beam_pipelines.rejects import BadInputError

_MEMBER = re.compile(r"(\.zip)!/", re.IGNORECASE)  # ARCHIVE.zip!/MEMBER names a member of an archive
_LARGE_MEMBER = 1 << 20  # bytes; the beginning of a larger member is checked before the rest is decompressed
_BLOCK = 4 << 20  # bytes
_BEGINNINGS = (*SIGNATURES, b"{")  # of images, and of polygons in JSON
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLANK = codecs.BOM_UTF8 + b" \t\r\n"  # what may be before them in JSON
_BAD_BZIP2 = "Invalid data stream"  # an OSError of Python without an error number


def member_path(archive: str, member: str) -> str:
    """The path of an archive's member, as plans have it."""
    return f"{archive}!/{member}"


def is_member(path: str) -> bool:
    """Whether `path` names a member of an archive."""
    return _MEMBER.search(path) is not None


def modified(path: str) -> int:
    """When a local file, or the archive that it is a member of, was last changed, in ns; 0 if nothing tells."""
    if not is_local(path):
        return 0
    archive, _ = _split_member(path)
    try:
        return os.stat(archive).st_mtime_ns
    except OSError:
        return 0


def _split_member(path: str) -> tuple[str, str]:
    """-> (archive, member) of a path in a plan; (path, "") of a plain file."""
    found = _MEMBER.search(path)
    return (path[: found.end(1)], path[found.end() :]) if found else (path, "")


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A stream of a file that is not an image, or of such a member of an archive. Raises BuildError."""
    with _opened(path, path) as file:
        yield file


def read_text(path: str, limit: int, called: str = "") -> str:
    """The text of a file, or of a member of an archive, of at most `limit` bytes. Messages call it `called`, or else
    by its path.

    Raises:
      BuildError: it can't be read, is larger, or is not UTF-8.
    """
    data = read_bytes(path, limit, called)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if data.startswith(_UTF16) else "not UTF-8 text"
        line = data.count(b"\n", 0, error.start) + 1
        raise BuildError(f"{called or path}, line {line}: the file is {found}: save it as UTF-8") from error


def read_bytes(path: str, limit: int, called: str = "") -> bytes:
    """The bytes of such a file. Raises BuildError as `read_text` does."""
    with _opened(path, called or path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BuildError(f"{called or path} has more than {limit:,} bytes: check that it is the right file")
    return data


@contextlib.contextmanager
def _opened(path: str, called: str) -> Iterator[BinaryIO]:
    archive, member = _split_member(path)
    try:
        with cloud.errors(called), open_read(archive) as file:
            if not member:
                yield file
                return
            with zipfile.ZipFile(file) as members, members.open(member) as stream:
                yield stream  # type: ignore[misc]
    except KeyError as error:
        if not member:
            raise
        missing = FileNotFoundError(errno.ENOENT, "the archive has no such member", path)
        raise cannot_read(called, missing) from error
    except OSError as error:
        raise cannot_read(called, root_cause(error)) from error
    except ARCHIVE_ERRORS as error:
        if not member:
            raise
        raise BuildError(f"{called} can't be read: {first_line(error)}; create the archive again") from error


def _up_to(file: IO[bytes], limit: int) -> bytes:
    """The bytes of the file, at most `limit`: in blocks, since a read reserves memory for all that it asks for."""
    blocks, left = list[bytes](), limit
    while left and (block := file.read(min(left, _BLOCK))):
        blocks.append(block)
        left -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


class FileReader:
    """Reads whole files, and members of zip archives in place. Not shared between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._archives: dict[str, tuple[BinaryIO, zipfile.ZipFile]] = {}
        self._spools = SpoolReader()

    def read(self, path: str, head: int | None = None) -> bytes:
        """The whole file, or at most its first `head` bytes.

        Raises:
          BadInputError: of stage `read`, if only this file is at fault.
        """
        if reference := reference_of(path):
            return self._spools.read(reference)
        archive, member = _split_member(path)
        try:
            if head is not None:
                data = self._read_head(path, archive, member, head)
            else:
                data = self._read_member(path, archive, member) if member else self._read_file(path)
        except ARCHIVE_ERRORS as error:
            if not member:
                raise
            raise BadInputError("read", "bad_zip_member", f"{path}: {first_line(error)}") from error
        except (OSError, KeyError) as error:
            if member and str(error) == _BAD_BZIP2:
                raise BadInputError("read", "bad_zip_member", f"{path}: {error}") from error
            if isinstance(error, OSError) and not refusal_of(error).of_one_file:
                self.close()  # a broken connection, not a fault of the file: the bundle fails
                if is_local(path):
                    raise cannot_read(path, root_cause(error)) from error
                with cloud.errors(path):  # and is retried
                    raise
            raise BadInputError("read", "unreadable", f"{path}: {first_line(error)}") from error
        except Exception as error:
            status = cloud.status_of(error)
            if status is not None and refusal_of_status(status).of_one_file:
                raise BadInputError("read", "unreadable", str(cloud.refusal(path, error))) from error
            with cloud.errors(path):
                raise
        if not data:
            raise BadInputError("read", "empty_file", f"{path} has no bytes")
        if len(data) > self._max_bytes:
            raise self._too_large(path)
        return data

    def close(self) -> None:
        for file, archive in self._archives.values():
            archive.close()
            file.close()
        self._archives.clear()
        self._spools.close()

    def _read_head(self, path: str, archive: str, member: str, head: int) -> bytes:
        with self._opened(archive).open(member) if member else open_raw(path) as file:
            return file.read(head)

    def _read_file(self, path: str) -> bytes:
        with open_raw(path) as file:
            return _up_to(file, self._max_bytes + 1)

    def _read_member(self, path: str, archive: str, member: str) -> bytes:
        """The member's bytes; only the first ones if it is large and begins neither like an image nor like JSON."""
        opened = self._opened(archive)
        size = opened.getinfo(member).file_size
        if size > self._max_bytes:
            raise self._too_large(path)
        if size > _LARGE_MEMBER:
            with opened.open(member) as file:
                head = file.read(64)
            if not (head.startswith(_BEGINNINGS) or head.lstrip(BLANK).startswith(b"{")):
                return head
        with opened.open(member) as file:
            return _up_to(file, self._max_bytes + 1)

    def _too_large(self, path: str) -> BadInputError:
        limit = f"{self._max_bytes:,} bytes, the most for --max_image_pixels: raise that, if the file is an image"
        return BadInputError("read", "too_many_pixels", f"{path} has more than {limit}")

    def _opened(self, archive: str) -> zipfile.ZipFile:
        if archive not in self._archives:
            with contextlib.ExitStack() as opened:
                file = opened.enter_context(open_read(archive))
                self._archives[archive] = (file, zipfile.ZipFile(file))
                opened.pop_all()  # both are kept, for `close`
        return self._archives[archive][1]
