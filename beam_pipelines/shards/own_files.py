"""Which files in the data set's folder builds have written: those that one of their lists names.

The lists are the journal, plan and receipts of an unfinished build, the manifest, and the lists of the transform_fn and
of the files for other libraries.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from beam_pipelines.contract import index, manifest, schema
from beam_pipelines.contract.index import Index
from beam_pipelines.contract.manifest_parts import ShardFields
from beam_pipelines.contract.schema import Count, Crc, Digest, NameBelow, PlainName, SchemaError
from beam_pipelines.contract.seal import decoded, sealed, unsealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.names import (
    BUILD,
    CARD,
    CARD_MARKS,
    DUPLICATES,
    KEPT_PLAN,
    METADATA_FILES,
    TRANSFORM_FILES,
    TRANSFORM_FOLDERS,
    TRANSFORM_GRAPH,
    is_receipt,
    names_of_shard,
)
from beam_pipelines.files.recipe_check import RecipeFields
from beam_pipelines.files.workspace import Workspace, manifest_is_ours, read_manifest, transform_is_ours
from beam_pipelines.rejects import FILE_NAME as REJECTED
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards import plan
from beam_pipelines.shards.leaks import is_list

# All files that tensorflow-transform writes for our graph. Earlier versions kept no list of them.
_UNLISTED_TRANSFORM = (
    TRANSFORM_GRAPH,
    *(f"{TRANSFORM_FOLDERS[0]}/{name}" for name in ("fingerprint.pb", "variables/variables.index")),
    f"{TRANSFORM_FOLDERS[0]}/variables/variables.data-00000-of-00001",
    *(f"{TRANSFORM_FOLDERS[1]}/{name}" for name in ("schema.pbtxt", "asset_map")),
)
_BEGINNING = 1000  # bytes in which the files of the card say what they are
_Names = tuple[NameBelow, ...]
TransformFiles = dict[NameBelow, tuple[Count, Crc]]  # name -> bytes and CRC-32C
_SHARD_LINE = re.compile(rb'\{"file": .*?\}')  # as the manifest has each shard
_EarlierLine: Any = tuple[PlainName, Count, Count, Digest, tuple[Any, ...]]  # split, index, count, digest, pairs


def listed(workspace: Workspace) -> list[str]:
    """Names, below `root`, of the files outside `_build` that builds have written."""
    names = [*_of_manifest(workspace), *of_transform(workspace), *of_metadata(workspace)]
    if storage.exists(workspace.journal):
        journal = decoded(_Names, storage.read_bytes(workspace.journal), workspace.journal)
        names += _without_journal(workspace) if journal is None else journal
    elif is_of_earlier_version(workspace):
        names += _of_earlier_version(workspace)
    return list(dict.fromkeys(names))


def write_journal(workspace: Workspace, names: Sequence[str]) -> None:
    """Lists all files, by their names below `root`, that the build may have written outside `_build`."""
    workspace.write(workspace.journal, sealed(json.dumps(names, ensure_ascii=False)))


def _of_manifest(workspace: Workspace) -> list[str]:
    """What the manifest names, whatever its version; nothing if `dataset.json` is of another tool."""
    data = storage.read_bytes(workspace.manifest)
    if data is None:
        return []
    if not manifest_is_ours(workspace):
        return []
    own = [manifest.FILE_NAME, REJECTED] if data.strip(b"\0 \n") else [manifest.FILE_NAME]
    try:
        value = json.loads(data)
        files = [shard["file"] for split in value["splits"].values() for shard in split["shards"]]
        added = value.get("additions", {})
        own += [DUPLICATES] if "duplicates" in added else []
        if added.get("indexed") is not True:
            return [*own, *filter(_is_name, files)]
        return [*own, KEPT_PLAN, *CARD, *_with_indexes(filter(_is_name, [*files, *added.get("superseded", [])]))]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [*own, *_of_damaged_manifest(data, workspace)]


def _of_damaged_manifest(data: bytes, workspace: Workspace) -> Iterator[str]:
    """The shards whose lines can still be read and whose files have the SHA-256 given there: the name itself may be
    damaged. Of other files, those that are as a build writes them.
    """
    for line in data.splitlines():
        found = _SHARD_LINE.search(line)
        try:
            shard = schema.decode(ShardFields, found[0], workspace.manifest) if found else None
        except SchemaError:
            continue
        if shard and _is_name(shard.file) and storage.holds(workspace.final(shard.file), shard.bytes, shard.sha256):
            yield shard.file
    yield from _whole_indexes(workspace)
    if unsealed(storage.read_bytes(workspace.kept_plan)) is not None:
        yield KEPT_PLAN
    yield from _whole_list(workspace)
    yield from _own_card(workspace)


def _whole_indexes(workspace: Workspace) -> Iterator[str]:
    """The indexes that are as a build wrote them."""
    folder = storage.join(workspace.root, index.FOLDER)
    for name in storage.sizes(folder):
        path = storage.join(folder, name)
        with contextlib.suppress(SchemaError):
            Index.from_bytes(storage.read_bytes(path), path)
            yield f"{index.FOLDER}/{name}"


def _own_card(workspace: Workspace) -> Iterator[str]:
    """The files of the card that a build wrote, whatever its version: each says at its beginning what it is."""
    for name, mark in CARD_MARKS.items():
        if mark in (storage.read_bytes(storage.join(workspace.root, name)) or b"")[:_BEGINNING]:
            yield name


def _whole_list(workspace: Workspace) -> Iterator[str]:
    """The list of duplicates, if it is as a build wrote it."""
    if is_list(storage.read_bytes(workspace.duplicates)):
        yield DUPLICATES


def _with_indexes(shards: Iterable[str]) -> Iterator[str]:
    for file in shards:
        yield from (file, index.file_name(file))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".tfrecord") and "/" not in name


def of_metadata(workspace: Workspace) -> list[str]:
    """The files for other libraries, and their list; nothing if the list is damaged or does not exist."""
    files = decoded(_Names, storage.read_bytes(workspace.metadata_files), workspace.metadata_files)
    return [] if files is None else [*files, METADATA_FILES]


def write_metadata_list(workspace: Workspace, names: Sequence[str]) -> None:
    """Lists the files for other libraries, once they are written."""
    workspace.write(workspace.metadata_files, sealed(json.dumps(names, ensure_ascii=False)))


def of_transform(workspace: Workspace) -> list[str]:
    """The files of the transform_fn, and their list; nothing if the list is damaged."""
    data = storage.read_bytes(workspace.transform_files)
    if data is None:
        return _of_unlisted_transform(workspace)
    files = decoded(TransformFiles, data, workspace.transform_files)
    return [] if files is None else [*files, TRANSFORM_FILES]


def _of_unlisted_transform(workspace: Workspace) -> list[str]:
    """The transform_fn of a data set that an earlier version finished: that version wrote no list of it."""
    if storage.exists(workspace.journal) or not transform_is_ours(workspace):
        return []
    try:
        found = read_manifest(workspace)
    except (manifest.ManifestError, BuildError):
        return []
    return [*_UNLISTED_TRANSFORM] if found and found.pixels.uniform else []


def _without_journal(workspace: Workspace) -> list[str]:
    """What a journal that is damaged has named."""
    shards = _with_indexes([*plan.list_files(workspace.plan), *_of_receipts(workspace)])
    return [REJECTED, manifest.FILE_NAME, KEPT_PLAN, *CARD, *shards, *_whole_list(workspace)]


def _of_receipts(workspace: Workspace) -> Iterator[str]:
    """The shards with an undamaged receipt."""
    for name in _receipts(workspace):
        path = storage.join(workspace.root, name)
        receipt = decoded(_Receipt, storage.read_bytes(path), path)
        if receipt and _is_name(receipt.shard.file):
            yield receipt.shard.file


def _receipts(workspace: Workspace) -> list[str]:
    return list(filter(is_receipt, names_in_build(workspace)))


def is_of_earlier_version(workspace: Workspace) -> bool:
    """Whether a version that sealed nothing and kept no journal made `_build`, judging by its recipe."""
    data = storage.read_bytes(workspace.recipe)
    if data is None or unsealed(data) is not None or storage.exists(workspace.journal):
        return False
    return _unsealed_as(RecipeFields, data) is not None


def _of_earlier_version(workspace: Workspace) -> Iterator[str]:
    """What its plan and its receipts name, and `rejected.jsonl` if it is valid."""
    for line in (storage.read_bytes(workspace.plan) or b"").splitlines():
        found = _unsealed_as(_EarlierLine, line)
        if found:
            yield plan.file_name(*found[:3])
    for name in _receipts(workspace):
        receipt = _unsealed_as(_Receipt, storage.read_bytes(storage.join(workspace.root, name)) or b"")
        if receipt and name in names_of_shard(receipt.shard.file):
            yield receipt.shard.file
    lines = (storage.read_bytes(workspace.rejected) or b"").splitlines()
    with contextlib.suppress(SchemaError):
        for line in lines:
            Rejected.from_json(line)
        yield REJECTED


def _unsealed_as(kind: Any, data: bytes) -> Any:
    """JSON that an earlier version wrote; None if it is not of the type `kind`."""
    try:
        return schema.decode(kind, data, "")
    except SchemaError:
        return None


class _Receipt(msgspec.Struct):
    """The part that receipts of all versions have."""

    shard: ShardFields


def names_in_build(workspace: Workspace) -> list[str]:
    """The files in `_build`, by their names below the data set's folder."""
    return [f"{BUILD}/{name}" for name in storage.sizes(workspace.build)]
