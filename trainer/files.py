"""Files that a run trusts later, local or gs://: written whole, flushed to the disk, and checked when they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.errors import BucketError

_DIGEST = "sha256"
_BLOCK = 2**20


class DamagedFileError(UserError, ValueError):
    """A file that is not as it was written; the message says in what."""


def is_local(path: str) -> bool:
    """Whether `path` is on this machine, not gs:// or another service."""
    return "://" not in path


def write_whole(path: str, data: bytes) -> None:
    """Replaces `path` at once: it has the old content or the new one, also after a power loss."""
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
    """A temporary name beside `path` that nobody else has."""
    return f"{path}.{uuid.uuid4().hex[:12]}.tmp"


def publish(temporary: str, path: str) -> None:
    """Flushes a finished file to the disk, then gives it its name."""
    flush(temporary)
    tf.io.gfile.rename(temporary, path, overwrite=True)
    flush(os.path.dirname(path) or ".")


def make_folder(folder: str) -> None:
    """Makes `folder` and what is above it, where they are missing.

    Raises:
      BucketError: there is no such bucket; TensorFlow alone would try for minutes to write into it.
    """
    bucket = "/".join(folder.split("/")[:3])
    if bucket.startswith("gs://") and not tf.io.gfile.isdir(bucket):
        raise BucketError(f"{folder} can't be written: there is no bucket {bucket}; check its name")
    tf.io.gfile.makedirs(folder)


def flush(path: str) -> None:
    """Waits until a local file, or the names in a local folder, are on the disk. Buckets do so by themselves."""
    if not is_local(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems flush no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: str) -> None:
    """Flushes all files and folders below a local `folder`, and `folder` itself."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(os.path.join(at, name))
        flush(at)


def names_in(folder: str) -> list[str]:
    """The names in a folder, sorted; none where there is no folder. No character of `folder` is a pattern."""
    if not tf.io.gfile.isdir(folder):
        return []
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def read_bytes(path: str, limit: int) -> bytes:
    """Raises DamagedFileError where it has more than `limit` bytes, FileNotFoundError where there is none."""
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise FileNotFoundError(path)
    size = tf.io.gfile.stat(path).length
    if size > limit:
        raise DamagedFileError(f"it has {size:,} bytes, and at most {limit:,} are read")
    with tf.io.gfile.GFile(path, "rb") as file:
        data: bytes = file.read()
    return data


def sha256_of(path: str) -> str:
    """The digest of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sealed(value: Mapping[str, Any]) -> bytes:
    """`value` as JSON with its own digest in it, for `unsealed`."""
    content = json.loads(json.dumps(value))
    return (json.dumps(content | {_DIGEST: _digest(content)}, indent=1) + "\n").encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """The value that was sealed; one without a digest as it is.

    Raises:
      DamagedFileError: it is no JSON object, or not as it was written.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(_nature(data)) from error
    if not isinstance(value, dict):
        raise DamagedFileError("it is no JSON object")
    expected = value.pop(_DIGEST, None)
    if expected is not None and expected != _digest(value):
        raise DamagedFileError("its content does not have the sha256 that it names")
    return value


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _nature(data: bytes) -> str:
    if not data.strip(b"\0"):
        return f"it holds {len(data):,} zero bytes" if data else "it is empty"
    return "it is cut off, or no JSON"
