"""Reads what Weights & Biases writes offline: a log of LevelDB's format, in which each record is a protobuf."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7  # bytes; a record's header: checksum (4), length (2), kind (1)
_WHOLE, _LAST = 1, 4  # kinds; between: the first and the middle parts of a record that does not fit into a block


def _payloads(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    at, begun = _FILE_HEADER, b""
    while at + _HEADER <= len(data):
        if _BLOCK - at % _BLOCK < _HEADER:  # the rest of a block is padding
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        begun += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (_WHOLE, _LAST):
            yield begun
            begun = b""


def records(path: Path) -> list[Any]:
    """The records of a `.wandb` file."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for payload in _payloads(path.read_bytes()):
        found.append(wandb_internal_pb2.Record())
        found[-1].ParseFromString(payload)
    return found


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items}


def history(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics, each with its `_step`."""
    lines = [record.history for record in records(path) if record.WhichOneof("record_type") == "history"]
    return [
        {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in line.item} for line in lines
    ]


def config(path: Path) -> dict[str, Any]:
    """The settings of the run."""
    runs = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
    return _values(runs[0].config.update)


def artifacts(path: Path) -> dict[str, list[str]]:
    """Name of an artifact -> the names of its files."""
    found = [record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact"]
    asked = [each.request.log_artifact.artifact for each in records(path) if each.HasField("request")]
    return {each.name: [entry.path for entry in each.manifest.contents] for each in (*found, *asked) if each.name}
