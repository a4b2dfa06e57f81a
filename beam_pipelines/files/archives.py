"""The members of zip archives, with their names checked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud
from beam_pipelines.files.refusals import ARCHIVE_ERRORS, cannot_read, root_cause
from beam_pipelines.files.storage import open_read

_AGAIN = "create the archive again"


@dataclass(frozen=True)
class Member:
    """A file in an archive. `name` has slashes and no `./`; `stored` is the name in the archive."""

    name: str
    stored: str
    bytes: int
    crc: int


def is_archive(name: str) -> bool:
    """Whether `name` ends in `.zip`, in any case."""
    return name.lower().endswith(".zip")


def list_members(archive: str) -> Iterator[Member]:
    """Yields the files in a zip archive.

    Raises:
      BuildError: it is not a zip archive, is truncated, or has a member with an invalid name.
    """
    try:
        with cloud.errors(archive), open_read(archive) as file, zipfile.ZipFile(file) as opened:
            members = [info for info in opened.infolist() if not info.filename.endswith("/")]  # `is_dir` needs a name
    except FileNotFoundError as error:
        raise BuildError(f"{archive} does not exist") from error
    except OSError as error:
        raise cannot_read(archive, root_cause(error)) from error
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{archive}: the member name {error.object!r} is not UTF-8; rename it, and {_AGAIN}"
        ) from error
    except NotImplementedError as error:
        raise BuildError(f"{archive} can't be read: {error}; versions up to 6.3 are supported; {_AGAIN}") from error
    except ARCHIVE_ERRORS as error:
        raise BuildError(f"{archive} is not a zip archive, or is truncated: {error}; download it again") from error
    for info in members:
        name = _checked_name(archive, info)
        if not name.endswith("/"):  # an entry for a folder, as .NET writes it
            yield Member(name, info.filename, info.file_size, info.CRC)


def _checked_name(archive: str, info: zipfile.ZipInfo) -> str:
    """The name with slashes; .NET writes backslashes."""
    name = info.filename.replace("\\", "/").removeprefix("./")
    problem = next((problem for problem, holds in _name_problems(name, info.orig_filename) if holds), None)
    if problem:
        raise BuildError(f"{archive}: the member name {info.orig_filename!r} {problem}; rename it, and {_AGAIN}")
    return name


def _name_problems(name: str, original: str) -> Iterator[tuple[str, bool]]:
    yield "is empty", not name
    yield "holds a NUL character", "\0" in original
    yield "is absolute", name.startswith("/") or name[1:3] == ":/"
    yield "leads out of the archive (..)", ".." in name.split("/")
