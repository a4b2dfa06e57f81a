"""Files, local or gs://, that are written atomically, flushed to the disk, and verified when they are read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.errors import BucketError

_DIGEST = "sha256"
_BLOCK = 2**20


class DamagedFileError(UserError, ValueError):
    """A file whose content is not what was written; the message says how it differs."""


def is_local(path: str) -> bool:
    """Whether `path` is on this machine, rather than gs:// or another service."""
    return "://" not in path


def write_whole(path: str, data: bytes) -> None:
    """Writes `path` atomically: it has the old or the new content, also after a power loss."""
    temporary = new_name(path)
    try:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(data)
        publish(temporary, path)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError, OSError):
            tf.io.gfile.remove(temporary)
        raise


def new_name(path: str) -> str:
    """A new, unique temporary name beside `path`."""
    return f"{path}.{uuid.uuid4().hex[:12]}.tmp"


def publish(temporary: str, path: str) -> None:
    """Flushes a complete file to the disk, then renames it to `path`."""
    flush(temporary)
    tf.io.gfile.rename(temporary, path, overwrite=True)
    flush(os.path.dirname(path) or ".")


def make_folder(folder: str) -> None:
    """Makes `folder` and what is above it, where they are missing.

    Raises:
      BucketError: there is no such bucket; TensorFlow alone would try for minutes to write into it.
    """
    if not folder.startswith("gs://"):
        tf.io.gfile.makedirs(folder)
        return
    bucket = "/".join(folder.split("/")[:3])
    # The role Storage Object Admin may write to a bucket, but not look at it, which makedirs does.
    with contextlib.suppress(tf.errors.PermissionDeniedError):
        if not is_folder(bucket):
            raise BucketError(f"{folder}: there is no bucket {bucket}; check its name")
    if folder.rstrip("/") != bucket:
        with contextlib.suppress(tf.errors.AlreadyExistsError):
            tf.io.gfile.mkdir(folder)


@contextlib.contextmanager
def made_folder(folder: str) -> Iterator[None]:
    """Makes a folder as `make_folder` does. What it made of local folders, and is empty in the end, is removed."""
    missing, above = [], folder.rstrip("/") or "/"
    while is_local(folder) and above and not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    try:
        make_folder(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            for each in missing:
                os.rmdir(each)


def make_parent(path: str) -> None:
    """Makes the folder of a file, and what is above it, where they are missing; objects of a bucket need none."""
    if not path.startswith("gs://"):
        tf.io.gfile.makedirs(os.path.dirname(path))


def flush(path: str) -> None:
    """Waits until a local file, or the entries of a local folder, are on the disk. Does nothing for a bucket."""
    if not is_local(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't flush folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: str) -> None:
    """Flushes all files and folders below a local `folder`, and `folder` itself."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(os.path.join(at, name))
        flush(at)


def is_folder(path: str) -> bool:
    """Whether `path` is a folder. Raises OpError if that can't be found out; tf.io.gfile.isdir returns False then."""
    found = _look(path)
    return found is not None and found.is_directory


def names_in(folder: str) -> list[str]:
    """The sorted names in a folder; empty if it does not exist. `folder` is not a pattern.

    Raises:
      OpError: the folder can't be read.
    """
    if not is_folder(folder):
        return []
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def files_below(folder: str) -> list[str]:
    """The sorted paths of the files in a folder and its subfolders, relative to it; empty if it does not exist.

    Raises:
      OpError: a folder can't be read.
    """
    files: list[str] = []
    for name in names_in(folder):
        path = f"{folder}/{name}"
        files += [f"{name}/{below}" for below in files_below(path)] if is_folder(path) else [name]
    return sorted(files)


def read_bytes(path: str, limit: int) -> bytes:
    """The content of a file. Raises FileNotFoundError, or DamagedFileError if it has more than `limit` bytes."""
    found = _look(path)
    if found is None or found.is_directory:
        raise FileNotFoundError(path)
    if found.length > limit:
        raise DamagedFileError(f"it has {found.length:,} bytes, more than {limit:,}")
    with tf.io.gfile.GFile(path, "rb") as file:
        data: bytes = file.read()
    return data


def sha256_of(path: str) -> str:
    """The SHA-256 digest of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sealed(value: Mapping[str, Any]) -> bytes:
    """`value` as JSON that contains its own digest, for `unsealed`."""
    content = json.loads(json.dumps(value))
    return (json.dumps(content | {_DIGEST: _digest(content)}, indent=1) + "\n").encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """The value that `sealed` has written. A value without a digest is not verified.

    Raises:
      DamagedFileError: it is not a JSON object, or its digest is wrong.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(_nature(data)) from error
    if not isinstance(value, dict):
        raise DamagedFileError("it is not a JSON object")
    expected = value.pop(_DIGEST, None)
    if expected is not None and expected != _digest(value):
        raise DamagedFileError("its content does not have the sha256 that it contains")
    return value


def _look(path: str) -> Any:
    """What TensorFlow knows of a file or folder; None if there is none. Raises OpError if that can't be found out."""
    try:
        return tf.io.gfile.stat(path)
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError:
        if is_local(path) and _leads_nowhere(path):
            return None
        raise


def _leads_nowhere(path: str) -> bool:
    """Whether there is a file or a loop of links in a local path, or a name longer than any file's."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
    return False


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _nature(data: bytes) -> str:
    if not data.strip(b"\0"):
        return f"it consists of {len(data):,} zero bytes" if data else "it is empty"
    return "it is truncated, or not JSON"
