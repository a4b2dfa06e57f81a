"""Local files and objects of gs:// through Beam's FileSystems. A file appears under its name whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import google_crc32c
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, listing, objects
from beam_pipelines.files.refusals import (
    cannot_read,
    cannot_write,
    root_cause,
)

_TEMPORARY = re.compile(r"([^/].*)\.[0-9a-f]{12}\.tmp")  # the names that `writing` makes
_READ_BYTES = 1 << 23


def is_local(path: str) -> bool:
    """Whether `path` is on this machine, not gs:// or another service."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for local folders and buckets."""
    return "/".join([folder.rstrip("/"), *names])


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """Yields (path below `folder`, bytes) of every regular file below it, in any order; follows links.

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
    """A seekable stream of the file's bytes, never decompressed. Raises FileNotFoundError on every file system."""
    try:
        return open_raw(path)
    except Exception as error:
        if cloud.status_of(error) == 404:
            raise FileNotFoundError(errno.ENOENT, "the object does not exist", path) from error
        raise


def check_regular(path: str) -> None:
    """Raises OSError if the local `path` is a pipe, a socket or a device: reading one may never end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file", path)


def open_raw(path: str) -> BinaryIO:
    """Like `open_read`, but for a missing object it raises the error of the cloud."""
    if is_local(path):
        check_regular(path)
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)  # type: ignore[no-any-return]


def read_text(path: str) -> str | None:
    """None if the file does not exist. Raises BuildError if it is not UTF-8."""
    data = read_bytes(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is damaged: it is not UTF-8 ({error.reason} at byte {error.start:,})") from error


def read_bytes(path: str) -> bytes | None:
    """None if the file does not exist."""
    try:
        with cloud.errors(path), open_read(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot_read(path, root_cause(error)) from error


def exists(path: str) -> bool:
    """Whether a file or folder exists at `path`."""
    with cloud.errors(path):
        return bool(FileSystems.exists(path))


def size_of(path: str) -> int | None:
    """Bytes of a file; None if it does not exist."""
    with cloud.errors(path):
        found = FileSystems.exists(path)
        return FileSystems.get_filesystem(path).size(path) if found else None


def sizes(folder: str) -> dict[str, int]:
    """Path below `folder` -> bytes, of all files there; empty if the folder does not exist."""
    if is_local(folder) and not os.path.isdir(folder):
        return {}
    return dict(list_files(folder))


def states(folder: str) -> dict[str, tuple[int, int | None]]:
    """Path below `folder` -> (bytes, CRC-32C) of all files there; None for the CRC-32C of a local file."""
    if not folder.startswith("gs://"):
        return {name: (size, None) for name, size in sizes(folder).items()}
    with cloud.errors(folder):
        return {name: (size, crc) for name, size, crc in objects.list_states(folder)}


def crc32c_of(path: str) -> int:
    """CRC-32C of a file: computed for a local file, taken from the metadata of an object."""
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
    """Whether `path` is a file of `size` bytes with this SHA-256 (in hex)."""
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
    """Whether `path` is a symbolic link."""
    return is_local(path) and os.path.islink(path)


def is_there(path: str) -> bool:
    """Whether anything exists at the local `path`, even a broken link."""
    return os.path.lexists(path)


def write(path: str, data: bytes, temporary: str | None = None) -> None:
    """Writes a whole file; see `writing`."""
    with writing(path, temporary) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: str, temporary: str | None = None, confirm: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """A stream to a temporary file, which is renamed to `path` if the block ends without an error; a local file is
    flushed to the disk first. The temporary name begins with `temporary`, by default with `path`.

    confirm: called between the two, with the temporary file complete; if it raises an error, nothing is renamed.

    Raises:
      BuildError: the disk is full, the folder can't be written, the bucket does not exist.
    """
    temporary = f"{temporary or path}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with cloud.errors(path):
            with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                yield file
                if is_local(path):
                    file.flush()
                    os.fsync(file.fileno())
            confirm()
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


def final_name(name: str) -> str | None:
    """The name from which `writing` made the name of a temporary file; None if it did not make `name`."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def delete(paths: list[str]) -> None:
    """Deletes files, never folders. Files that do not exist are ignored."""
    for path in filter(is_local, paths):
        _delete_local(path)
    _delete_objects([path for path in paths if not is_local(path)])


def remove(root: str, names: Iterable[str]) -> None:
    """Deletes the files `names` below the folder `root`, and those of their folders that are empty then. Keeps what is
    not a plain file, or is reached through a symbolic link.
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
    """Deletes the empty local folders below `folder`, and `folder` itself if nothing is left in it."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def is_plain(root: str, name: str) -> bool:
    """Whether `name` below the local folder `root` is a regular file that is reached through no link."""
    parts = name.split("/")
    paths = [join(root, *parts[:end]) for end in range(1, len(parts) + 1)]
    return not any(map(os.path.islink, paths)) and os.path.isfile(paths[-1])


def _delete_local(path: str) -> None:
    """Without Beam, which would read the brackets of `data [1]` as a pattern."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error


def _remove_empty(root: str, names: Iterable[str]) -> None:
    folders = {parent for name in names for parent in _parents(name)}
    for folder in sorted(folders, key=lambda folder: folder.count("/"), reverse=True):
        with contextlib.suppress(OSError):  # not empty, or a link
            os.rmdir(join(root, folder))


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _flush_folder(folder: str) -> None:
    """Flushes the names in a local folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not support it
            raise
    finally:
        os.close(descriptor)


def _delete_objects(paths: Sequence[str]) -> None:
    """Deletes objects of one bucket."""
    if not paths:
        return
    with cloud.errors(paths[0]):
        if paths[0].startswith("gs://"):
            objects.delete(paths)
        else:
            FileSystems.delete([_escaped(path) for path in paths])


def _escaped(path: str) -> str:
    """`path` as a pattern for Beam; a bracket is not escaped as `[[]`, since Python warns about that."""
    return re.sub(r"[*?[]", lambda found: r"[\[]" if found[0] == "[" else f"[{found[0]}]", path)
