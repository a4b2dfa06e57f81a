"""Reads the indexes of a data set's shards."""

from __future__ import annotations

from beam_pipelines.contract import index
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace


def read_index(file: str, workspace: Workspace) -> tuple[Index, bytes]:
    """The index of the shard `file`, and its bytes. Raises BuildError if it is missing or damaged."""
    path = workspace.index(file)
    data = storage.read_bytes(path)
    try:
        return Index.from_bytes(data, path), data or b""
    except SchemaError as error:
        cure = f"restore {index.file_name(file)}, or build the data set again with --overwrite"
        raise BuildError(f"{error}: {cure}") from error
