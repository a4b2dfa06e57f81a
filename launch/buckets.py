"""Objects in Cloud Storage buckets, read with Google's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud import storage

from launch.account import LOGIN, google_errors, login
from launch.dataset import Files
from launch.errors import LaunchError

_SECONDS = 20.0  # timeout of a request of `read_here`


def split_path(path: str) -> tuple[str, str]:
    """gs://BUCKET/NAME -> (BUCKET, NAME)."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return bucket, name


def blob_at(client: storage.Client, path: str) -> storage.Blob:
    """The object at a gs:// path. Sends no request."""
    bucket, name = split_path(path)
    return client.bucket(bucket).blob(name)


def read_bytes(client: storage.Client, path: str, cures: Mapping[int, str], **options: Any) -> bytes | None:
    """The content of the object at a gs:// path; None if there is no such object.

    Args:
      cures: HTTP status -> what to do about it.
      options: of each request, such as `timeout`.

    Raises:
      LaunchError: Google refused, or could not be reached.
    """
    with google_errors(path, cures):
        blob = blob_at(client, path)
        return bytes(blob.download_as_bytes(**options)) if blob.exists(**options) else None


def read_here(path: str) -> bytes | None:
    """The content of the object at a gs:// path, with the account of this machine or, without one, as anybody.

    Raises:
      LaunchError: Google refused, or could not be reached.
    """
    try:
        client = storage.Client(project=None, credentials=login())
    except LaunchError:  # TensorFlow reads public buckets without an account, too
        client = storage.Client.create_anonymous_client()
    try:
        cures = dict.fromkeys((401, 403), f"give the account of this machine access to the bucket, or {LOGIN}")
        return read_bytes(client, path, cures, timeout=_SECONDS)
    finally:
        client.close()


def bucket_files(client: storage.Client, folder: str, cures: Mapping[int, str], **options: Any) -> Files:
    """The files of a gs:// folder; `cures` and `options` as in `read_bytes`."""
    bucket, prefix = split_path(folder)

    def sizes() -> dict[str, int]:
        with google_errors(folder, cures):
            blobs = client.list_blobs(bucket, prefix=f"{prefix}/", delimiter="/", **options)
            return {blob.name.rpartition("/")[2]: blob.size for blob in blobs}

    def read(name: str) -> bytes | None:
        return read_bytes(client, f"{folder}/{name}", cures, **options)

    return Files(sizes, read)
