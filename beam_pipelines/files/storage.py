"""Files, local and gs:// alike, through Beam's FileSystems; a file appears under its name whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import re
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import google_crc32c
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.errors import BuildError, first_line
from beam_pipelines.files import cloud, listing
from beam_pipelines.files.refusals import (
    ARCHIVE_ERRORS,
    cannot_read,
    cannot_write,
    refusal_of,
    refusal_of_status,
    root_cause,
)
from beam_pipelines.rejects import BadInputError

TEMPORARY = ".tmp"
_MEMBER = re.compile(r"(\.zip)!/", re.IGNORECASE)  # ARCHIVE.zip!/MEMBER names a member of an archive
_LARGE_MEMBER = 1 << 20  # bytes; of a larger member the first bytes are looked at before the rest is inflated
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II", b"MM", b"RIFF")  # how the pictures that are read begin
_BAD_BZIP2 = "Invalid data stream"  # Python has an OSError without a number for it
_READ_BYTES = 1 << 23


def is_local(path: str) -> bool:
    """Whether `path` is on this machine, not gs:// or another service."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for local folders and buckets."""
    return "/".join([folder.rstrip("/"), *names])


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """Yields (path below `folder`, bytes) of every regular file below it, in no certain order; follows links.

    Raises:
      BuildError: the folder does not exist, or can't be listed.
    """
    if is_local(folder):
        yield from listing.list_local(folder)
        return
    with cloud.errors(folder):
        (match,) = FileSystems.match([join(_escaped(folder), "**")])
        for found in match.metadata_list:
            yield found.path[len(folder.rstrip("/")) + 1 :], found.size_in_bytes


def open_read(path: str) -> BinaryIO:
    """A seekable stream of the file's bytes as they are. Raises FileNotFoundError, whatever the file system."""
    try:
        return _open(path)
    except Exception as error:
        if cloud.status_of(error) == 404:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path) from error
        raise


def check_regular(path: str) -> None:
    """Raises OSError where the local `path` is a pipe, a socket or a device: reading those may never end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file", path)


def _open(path: str) -> BinaryIO:
    if is_local(path):
        check_regular(path)
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)  # type: ignore[no-any-return]


def read_text(path: str) -> str | None:
    """None where there is no such file. Raises BuildError where it is not UTF-8."""
    data = read_bytes(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is damaged: it is not UTF-8 ({error.reason} at byte {error.start:,})") from error


def read_bytes(path: str) -> bytes | None:
    """None where there is no such file."""
    try:
        with cloud.errors(path), open_read(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot_read(path, root_cause(error)) from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8 text: {error}; restore the file or build the data set again") from error


def exists(path: str) -> bool:
    """Whether there is a file, or a folder, at `path`."""
    with cloud.errors(path):
        return bool(FileSystems.exists(path))


def size_of(path: str) -> int | None:
    """Bytes of a file; None where there is none."""
    with cloud.errors(path):
        found = FileSystems.exists(path)
        return FileSystems.get_filesystem(path).size(path) if found else None


def sizes(folder: str) -> dict[str, int]:
    """Name -> bytes of the files directly in `folder`, and below it; empty where there is no such folder."""
    if is_local(folder) and not os.path.isdir(folder):
        return {}
    return dict(list_files(folder))


def crc32c_of(path: str) -> int:
    """CRC-32C of a whole file: of a local one as it is read, of an object as its bucket knows it."""
    with cloud.errors(path):
        if not is_local(path):
            return int.from_bytes(base64.b64decode(FileSystems.checksum(path)), "big")
        crc = 0
        try:
            with open(path, "rb") as file:
                while part := file.read(_READ_BYTES):
                    crc = google_crc32c.extend(crc, part)
        except OSError as error:
            raise cannot_read(path, error) from error
        return crc


def holds(path: str, size: int, sha256: str) -> bool:
    """Whether there is a file of so many bytes with this SHA-256, in hex."""
    if size_of(path) != size:
        return False
    digest = hashlib.sha256()
    try:
        with cloud.errors(path), open_read(path) as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
    except (FileNotFoundError, IsADirectoryError):
        return False
    except OSError as error:
        raise cannot_read(path, root_cause(error)) from error
    return digest.hexdigest() == sha256


def is_link(path: str) -> bool:
    """Whether a symbolic link stands at `path`."""
    return is_local(path) and os.path.islink(path)


def is_there(path: str) -> bool:
    """Whether anything local stands at `path`, a broken link among the rest."""
    return os.path.lexists(path)


def write(path: str, data: bytes, temporary: str | None = None) -> None:
    """Writes a whole file; see `writing`."""
    with writing(path, temporary) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: str, temporary: str | None = None) -> Iterator[BinaryIO]:
    """A stream under a temporary name, which becomes `path` when the block ends without an error; a local file is on
    the disk by then. The temporary name begins with `temporary`, by default with `path`.

    Raises:
      BuildError: the disk is full, the folder can't be written, the bucket does not exist.
    """
    temporary = f"{temporary or path}.{uuid.uuid4().hex[:12]}{TEMPORARY}"
    try:
        with cloud.errors(path):
            with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                yield file
                if is_local(path):
                    file.flush()
                    os.fsync(file.fileno())
            if is_local(path):
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            FileSystems.rename([temporary], [path])
            if is_local(path):
                _flush_folder(os.path.dirname(path) or ".")
    except BaseException as error:
        with contextlib.suppress(Exception):
            delete([temporary])
        if isinstance(error, OSError):
            raise cannot_write(path, root_cause(error)) from error
        raise


def delete(paths: list[str]) -> None:
    """Deletes files, never folders; those that do not exist are no error."""
    for path in filter(is_local, paths):
        _delete_local(path)
    _delete_objects([path for path in paths if not is_local(path)])


def remove(root: str, names: Iterable[str]) -> None:
    """Deletes the files `names` below the folder `root`, and their folders below it that are empty then. What is no
    plain file, or is behind a symbolic link, stays.
    """
    names = set(names)
    if not is_local(root):
        _delete_objects([join(root, name) for name in sorted(names & sizes(root).keys())])
        return
    for name in names:
        if is_plain(root, name):
            _delete_local(join(root, name))
    _remove_empty(root, names)


def prune(folder: str) -> None:
    """Deletes the empty local folders in `folder`, and itself where nothing is left in it."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def is_plain(root: str, name: str) -> bool:
    """Whether the local file `name` below `root` exists, is not a link, and is not behind one."""
    parts = name.split("/")
    paths = [join(root, *parts[:end]) for end in range(1, len(parts) + 1)]
    return not any(map(os.path.islink, paths)) and os.path.isfile(paths[-1])


def member_path(archive: str, member: str) -> str:
    """What names a member of an archive in a plan."""
    return f"{archive}!/{member}"


def is_member(path: str) -> bool:
    """Whether `path` names a member of an archive."""
    return _MEMBER.search(path) is not None


def modified(path: str) -> int:
    """When a local file, or the archive that it is a member of, was last changed, in ns; 0 where nothing tells."""
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


class FileReader:
    """Reads whole files, and members of zip archives in place; each worker thread has one of its own."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._archives: dict[str, tuple[BinaryIO, zipfile.ZipFile]] = {}

    def read(self, path: str) -> bytes:
        """Raises BadInputError of stage `read` where the fault lies with this one file."""
        archive, member = _split_member(path)
        try:
            data = self._read_member(path, archive, member) if member else self._read_file(path)
        except ARCHIVE_ERRORS as error:
            if not member:
                raise
            raise BadInputError("read", "bad_zip_member", f"{path}: {first_line(error)}") from error
        except (OSError, KeyError) as error:
            if member and str(error) == _BAD_BZIP2:
                raise BadInputError("read", "bad_zip_member", f"{path}: {error}") from error
            if isinstance(error, OSError) and not refusal_of(error).of_one_file:
                self.close()  # a broken connection is no fault of the file: the bundle fails, and is tried again
                with cloud.errors(path):
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

    def _read_file(self, path: str) -> bytes:
        with _open(path) as file:
            return file.read(self._max_bytes + 1)

    def _read_member(self, path: str, archive: str, member: str) -> bytes:
        """The member's bytes; of a large one that does not begin like a picture only the first."""
        opened = self._opened(archive)
        size = opened.getinfo(member).file_size
        if size > self._max_bytes:
            raise self._too_large(path)
        if size > _LARGE_MEMBER:
            with opened.open(member) as file:
                head = file.read(64)
            if not head.startswith(_SIGNATURES):
                return head
        with opened.open(member) as file:
            return file.read(self._max_bytes + 1)

    def _too_large(self, path: str) -> BadInputError:
        return BadInputError("read", "too_many_pixels", f"{path} has more than {self._max_bytes:,} bytes")

    def _opened(self, archive: str) -> zipfile.ZipFile:
        if archive not in self._archives:
            with contextlib.ExitStack() as opened:
                file = opened.enter_context(open_read(archive))
                self._archives[archive] = (file, zipfile.ZipFile(file))
                opened.pop_all()  # both are kept, for `close`
        return self._archives[archive][1]


def _delete_local(path: str) -> None:
    """Not by Beam, for whom the brackets of `data [1]` are a pattern."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error


def _remove_empty(root: str, names: Iterable[str]) -> None:
    folders = {parent for name in names for parent in _parents(name)}
    for folder in sorted(folders, key=lambda folder: folder.count("/"), reverse=True):
        with contextlib.suppress(OSError):  # it holds something else, or is a link
            os.rmdir(join(root, folder))


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _flush_folder(folder: str) -> None:
    """Puts the names in a local folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def _delete_objects(paths: Sequence[str]) -> None:
    """Objects of one bucket, in batches: Beam's own deletion lists and deletes them one by one."""
    if not paths:
        return
    with cloud.errors(paths[0]):
        if not paths[0].startswith("gs://"):
            FileSystems.delete([_escaped(path) for path in paths])
            return
        from apache_beam.io.gcp.gcsio import GcsIO
        from apache_beam.options.pipeline_options import PipelineOptions

        answers = GcsIO(pipeline_options=PipelineOptions([])).delete_batch(list(paths))
        refused = {path: status for path, status in answers if status}
        if refused:
            raise BeamIOError("objects can't be deleted", refused)


def _escaped(path: str) -> str:
    """A pattern of Beam's that `path` fits; where it has a bracket, Python warns of the plain way, `[[]`."""
    return re.sub(r"[*?[]", lambda found: r"[\[]" if found[0] == "[" else f"[{found[0]}]", path)
