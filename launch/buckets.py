"""Objects in Cloud Storage buckets, read with Google's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud import storage

from launch.account import google_errors
from launch.dataset import Files


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
