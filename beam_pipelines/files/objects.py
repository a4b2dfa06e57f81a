"""Many objects of a bucket with few requests; Beam would ask for each of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.io.filesystem import BeamIOError


def delete(paths: Sequence[str]) -> None:
    """Deletes objects of one bucket in batches. Objects that do not exist are ignored."""
    answers = _client().delete_batch(list(paths))
    refused = {path: status for path, status in answers if status}
    if refused:
        raise BeamIOError("objects can't be deleted", refused)


def list_states(folder: str) -> Iterator[tuple[str, int, int | None]]:
    """Yields (name below `folder`, bytes, CRC-32C) of every object there; None where the storage tells no CRC-32C."""
    bucket, _, prefix = folder.removeprefix("gs://").rstrip("/").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    found = _client().client.list_blobs(bucket, prefix=prefix, fields="items(name,size,crc32c),nextPageToken")
    for each in found:
        crc = int.from_bytes(base64.b64decode(each.crc32c), "big") if each.crc32c else None
        yield each.name.removeprefix(prefix), each.size, crc


def _client() -> Any:
    from apache_beam.io.gcp.gcsio import GcsIO
    from apache_beam.options.pipeline_options import PipelineOptions

    return GcsIO(pipeline_options=PipelineOptions([]))
