"""Errors of local storage and of the cloud: a table of codes with their fixes, and the messages made from it."""

from __future__ import annotations

import errno
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass

from beam_pipelines.errors import BuildError, first_line

LOGIN = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
NO_ANSWER = 0  # in place of an HTTP status
_AGAIN = "fix this and run the same command again"
_SPACE = "free some space"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An error code and its fixes.

    Attributes:
      codes: errno values, or HTTP statuses, which are larger than these.
      read: the fix after a failed read or listing.
      write: the fix after a failed write.
      of_one_file: whether only the file at hand is at fault, so that its pair is rejected and the build continues.
      resumes: whether to say that finished shards are kept.
    """

    codes: tuple[int, ...]
    read: str = _AGAIN
    write: str = _AGAIN
    of_one_file: bool = False
    resumes: bool = False


REFUSALS = (
    Refusal(codes=(errno.ENOSPC,), write=_SPACE, resumes=True),
    Refusal(codes=(errno.EDQUOT,), write=f"the disk quota is used up: {_SPACE}", resumes=True),
    Refusal(
        codes=(errno.EFBIG,),
        write="the file size limit (ulimit -f) is reached: raise it, or lower --shard_size_mb",
        resumes=True,
    ),
    Refusal(
        codes=(errno.EACCES, errno.EPERM),
        read="ask for permission to read it",
        write="choose another folder, or ask for permission to write there",
        of_one_file=True,
    ),
    Refusal(codes=(errno.EROFS,), write="the file system is read-only: choose another folder"),
    Refusal(
        codes=(errno.ENOTDIR,),
        read="a part of the path is a file: check the path",
        write="a part of the path is a file: choose another folder",
        of_one_file=True,
    ),
    Refusal(
        codes=(errno.ENOENT, errno.EISDIR, errno.EINVAL),
        read="check the path",
        write="check the path, or choose another folder",
        of_one_file=True,
    ),
    Refusal(
        codes=(errno.ENAMETOOLONG, errno.ELOOP),
        read="shorten the name, or remove the loop of links",
        write="choose a folder with a shorter path, without a loop of links",
        of_one_file=True,
    ),
    Refusal(
        codes=(errno.EIO,),
        read="check the disk, and restore the file",
        write="check the disk, or choose another folder",
        of_one_file=True,
    ),
    Refusal(codes=(401,), read=LOGIN, write=LOGIN),
    Refusal(
        codes=(403,),
        read="ask for read and write access to the bucket",
        write="ask for read and write access to the bucket",
        of_one_file=True,
    ),
    Refusal(
        codes=(404,), read="check the bucket and the path", write="check the bucket and the path", of_one_file=True
    ),
)
_OF_CODE = {code: row for row in REFUSALS for code in row.codes}
_LATER = Refusal(codes=(), read="run the same command again later", write="run the same command again later")
_UNKNOWN = Refusal(codes=())

# What Python raises for a zip archive that is damaged, encrypted, or not supported.
ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, OverflowError, RuntimeError),  # NotImplementedError is a RuntimeError
)


def refusal_of(error: OSError) -> Refusal:
    """The row for an error of the operating system."""
    return _OF_CODE.get(error.errno or 0, _UNKNOWN)


def refusal_of_status(status: int) -> Refusal:
    """The row for an HTTP status; one that is not in the table may go away later."""
    return _OF_CODE.get(status, _LATER)


def cannot_write(path: str, error: OSError) -> BuildError:
    """The `BuildError` for a failed write to `path`."""
    row = refusal_of(error)
    kept = "; finished shards are kept, run the same command again to continue" if row.resumes else ""
    return BuildError(f"cannot write {path}: {error.strerror or error}; {row.write}{kept}")


def cannot_read(path: str, error: OSError, done: str = "read") -> BuildError:
    """The `BuildError` for a `path` that could not be `done`: read, or listed."""
    return BuildError(f"{path} can't be {done}: {error.strerror or error}; {refusal_of(error).read}")


def of_system(error: OSError) -> str:
    """The sentence for an error that nothing is known about but its number."""
    place = f"{error.filename}: " if error.filename else ""
    cure = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "fix this"
    return f"{place}{error.strerror or first_line(error)}; {cure} and run the same command again"


def root_cause(error: OSError) -> OSError:
    """The OSError with an error number at the bottom of what Beam wrapped it in."""
    nested = list((getattr(error, "exception_details", None) or {}).values()) + list(error.args) + [error.__cause__]
    found = next((item for item in nested if isinstance(item, OSError)), None)
    return root_cause(found) if error.errno is None and found is not None else error
