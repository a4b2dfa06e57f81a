"""Whose files are in the data set's folder: a build replaces and deletes what lists of its own name, and nothing else.

The lists: the journal of a build that did not end, its plan and receipts, the manifest, the transform_fn's.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from beam_pipelines.contract import manifest, schema
from beam_pipelines.contract.schema import Count, Crc, Digest, NameBelow, PlainName, SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files import workspace as workspace_files
from beam_pipelines.files.seal import decoded, sealed, unsealed
from beam_pipelines.files.workspace import (
    BUILD,
    DATAFLOW,
    FINISHED,
    JOURNAL,
    LEASE,
    PAIRING,
    PLAN,
    PUBLISHED,
    RECIPE,
    SCRATCH,
    STAGED,
    TEMPORARIES,
    TRANSFORM_FILES,
    TRANSFORM_FOLDERS,
    TRANSFORM_GRAPH,
    Workspace,
    is_receipt,
    journal_is_ours,
    manifest_is_ours,
    names_of_shard,
    transform_is_ours,
)
from beam_pipelines.rejects import FILE_NAME as REJECTED
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards import plan

_TEMPORARY = re.compile(rf"[^/].*\.[0-9a-f]{{12}}{re.escape(storage.TEMPORARY)}")  # as storage.writing names them
_OF_OTHERS = (f"{DATAFLOW}/", f"{SCRATCH}/")  # whatever is in there
_OF_BUILD = (RECIPE, PLAN, PAIRING, PUBLISHED)
_LAST = (JOURNAL, LEASE)  # the lease alone is nobody's build
_FOLDERS = (BUILD, TEMPORARIES, STAGED, FINISHED, *TRANSFORM_FOLDERS)
_TRANSFORM = (TRANSFORM_GRAPH, TRANSFORM_FILES)  # what a transform_fn certainly has
# All that tensorflow-transform writes for our graph. Earlier versions kept no list of it.
_UNLISTED_TRANSFORM = (
    TRANSFORM_GRAPH,
    *(f"{TRANSFORM_FOLDERS[0]}/{name}" for name in ("fingerprint.pb", "variables/variables.index")),
    f"{TRANSFORM_FOLDERS[0]}/variables/variables.data-00000-of-00001",
    *(f"{TRANSFORM_FOLDERS[1]}/{name}" for name in ("schema.pbtxt", "asset_map")),
)
_NAMED = 3  # names in a message ...
_TO_MOVE = 100  # ... of files that the user is to move

_Journal = tuple[NameBelow, ...]
TransformFiles = dict[NameBelow, tuple[Count, Crc]]  # name -> bytes and CRC-32C


def claim(workspace: Workspace, overwrite: bool) -> None:
    """Raises BuildError where the folders that a build writes into are links, or `_build` is somebody else's. That of
    an earlier version, which kept no journal, is ours to overwrite, but not to resume.
    """
    for folder in _FOLDERS:
        path = storage.join(workspace.root, folder)
        if storage.is_link(path):
            raise BuildError(f"{path} is a symbolic link, and not written through; choose another --output")
    there = _in_build(workspace)
    if journal_is_ours(workspace) or all(_comes_before_the_journal(workspace, name) for name in there):
        return
    if is_of_earlier_version(workspace):
        if overwrite:
            return
        raise BuildError(
            f"{workspace.build} is a half-finished build of an earlier version, which this one can't resume: finish it "
            "with that version, choose another --output, or --overwrite to delete it first"
        )
    raise BuildError(
        f"{workspace.root} holds files that no list of this build names ({_some(sorted(there))}): choose another "
        f"--output, or move the folder {BUILD} away"
    )


def refuse_foreign(workspace: Workspace, files: Iterable[str]) -> None:
    """Raises BuildError where a file that the build will write is there already and is not ours."""
    _refuse(workspace, [*files, REJECTED, manifest.FILE_NAME, *_TRANSFORM])


def refuse_foreign_transform(workspace: Workspace, files: Mapping[str, bytes]) -> None:
    """The same for the transform_fn's files, once their content is known: what is there with the same bytes is ours,
    left where only the other folder with the list of both was deleted.
    """
    same = [name for name in _there(workspace, list(files)) if _has(workspace, name, files[name])]
    _refuse(workspace, [name for name in (*files, TRANSFORM_FILES) if name not in same])


def _has(workspace: Workspace, name: str, data: bytes) -> bool:
    """Whether there is a plain file with this content."""
    with contextlib.suppress(OSError):
        return not _is_behind_link(workspace, name) and (storage.read_bytes(storage.join(workspace.root, name)) == data)
    return False


def _refuse(workspace: Workspace, names: Sequence[str]) -> None:
    ours = set(listed(workspace))
    foreign = [name for name in _there(workspace, names) if name not in ours or _is_behind_link(workspace, name)]
    if foreign:
        raise BuildError(
            f"{workspace.root} holds {_some(foreign, _TO_MOVE)}, which the build would overwrite and no list of its "
            "own names: move that away, or choose another --output"
        )


def listed(workspace: Workspace) -> list[str]:
    """Names below `root` of what we wrote there, outside `_build`."""
    names = [*_of_manifest(workspace), *_of_transform(workspace)]
    if storage.exists(workspace.journal):
        journal = decoded(_Journal, storage.read_bytes(workspace.journal), workspace.journal)
        names += _without_journal(workspace) if journal is None else journal
    elif is_of_earlier_version(workspace):
        names += _of_earlier_version(workspace)
    return list(dict.fromkeys(names))


def start(workspace: Workspace, files: Sequence[str]) -> None:
    """Makes `_build` ours and the journal that of a build of the shards `files`: what other lists name is deleted."""
    old, keep = listed(workspace), [*files, REJECTED, manifest.FILE_NAME]
    write_journal(workspace, [*dict.fromkeys([*old, *keep])])
    stale = [name for name in old if name not in {*files, REJECTED}]
    storage.remove(workspace.root, [*stale, *_of_shards(stale), *_temporaries(workspace)])
    write_journal(workspace, keep)


def clear(workspace: Workspace) -> None:
    """Deletes what earlier builds wrote, the manifest first. The journal and the lease stay."""
    names = listed(workspace)
    earlier = _temporaries_of_earlier_version(workspace, names)
    write_journal(workspace, names)
    in_build = [*earlier, *_of_shards(names), *_OF_BUILD, *_temporaries(workspace), *_of_scratch(workspace)]
    storage.remove(workspace.root, [manifest.FILE_NAME] if manifest.FILE_NAME in names else [])
    storage.remove(workspace.root, [*names, *in_build])


def finish(workspace: Workspace) -> None:
    """Deletes all that only the build needed."""
    in_build = [*_of_shards(listed(workspace)), *_OF_BUILD, *_temporaries(workspace), *_of_scratch(workspace)]
    if storage.is_local(workspace.root):
        storage.prune(storage.join(workspace.root, TEMPORARIES))
    for names in (in_build, *([name] for name in _LAST)):
        storage.remove(workspace.root, names)


def bytes_there(workspace: Workspace) -> int:
    """Bytes of what we have written so far, in `_build` and beside it."""
    names, there = set(listed(workspace)), storage.sizes(workspace.root)
    return sum(size for name, size in there.items() if name in names or name.startswith(f"{BUILD}/"))


def write_journal(workspace: Workspace, names: Sequence[str]) -> None:
    """Names, below `root`, all that the build may have written outside `_build`."""
    workspace.write(workspace.journal, sealed(json.dumps(names, ensure_ascii=False)))


def add_to_journal(workspace: Workspace, names: Sequence[str]) -> None:
    """Names files that the build will write now."""
    write_journal(workspace, [*dict.fromkeys([*listed(workspace), *names])])


def _comes_before_the_journal(workspace: Workspace, name: str) -> bool:
    """Whether it is what a build that was killed before it wrote the journal left."""
    if name == LEASE:
        text = storage.read_bytes(workspace.lease) or b""
        return not text.strip(b"\0 \n") or text.startswith(b'{"host": ')
    return bool(re.fullmatch(rf"{TEMPORARIES}/{re.escape(JOURNAL)}\.[0-9a-f]{{12}}\.tmp", name))


def _of_manifest(workspace: Workspace) -> list[str]:
    """What the manifest, of whatever version, names; nothing where `dataset.json` is another tool's."""
    data = storage.read_bytes(workspace.manifest)
    if data is None:
        return []
    if not manifest_is_ours(workspace):
        return []
    own = [manifest.FILE_NAME, REJECTED] if data.strip(b"\0 \n") else [manifest.FILE_NAME]
    try:
        splits = json.loads(data)["splits"].values()
        return [*own, *(shard["file"] for split in splits for shard in split["shards"] if _is_name(shard["file"]))]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [*own, *_of_damaged_manifest(data, workspace)]


def _of_damaged_manifest(data: bytes, workspace: Workspace) -> Iterator[str]:
    """The shards whose lines can still be read, and whose files have the SHA-256 given there: a name alone may
    be what the damage made of it.
    """
    for line in data.splitlines():
        found = _SHARD_LINE.search(line)
        try:
            shard = schema.decode(_ShardFields, found[0], workspace.manifest) if found else None
        except SchemaError:
            continue
        if shard and _is_name(shard.file) and storage.holds(workspace.final(shard.file), shard.bytes, shard.sha256):
            yield shard.file


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".tfrecord") and "/" not in name


def _of_transform(workspace: Workspace) -> list[str]:
    data = storage.read_bytes(workspace.transform_files)
    if data is None:
        return _of_unlisted_transform(workspace)
    files = decoded(TransformFiles, data, workspace.transform_files)
    return [] if files is None else [*files, TRANSFORM_FILES]


def _of_unlisted_transform(workspace: Workspace) -> list[str]:
    """The transform_fn of a data set that an earlier version finished; this one writes none without its list."""
    if storage.exists(workspace.journal) or not transform_is_ours(workspace):
        return []
    try:
        found = workspace_files.read_manifest(workspace)
    except (manifest.ManifestError, BuildError):
        return []
    return [*_UNLISTED_TRANSFORM] if found and found.pixels.uniform else []


def _without_journal(workspace: Workspace) -> list[str]:
    """What a damaged journal certainly named."""
    return [REJECTED, manifest.FILE_NAME, *plan.list_files(workspace.plan), *_of_receipts(workspace)]


def _of_receipts(workspace: Workspace) -> Iterator[str]:
    """The shards whose receipts are whole."""
    for name in _receipts(workspace):
        path = storage.join(workspace.root, name)
        receipt = decoded(_Receipt, storage.read_bytes(path), path)
        if receipt and _is_name(receipt.shard.file):
            yield receipt.shard.file


def _receipts(workspace: Workspace) -> list[str]:
    return list(filter(is_receipt, _in_build(workspace)))


def is_of_earlier_version(workspace: Workspace) -> bool:
    """Whether `_build` is that of a version which sealed nothing and kept no journal, by its recipe."""
    data = storage.read_bytes(workspace.recipe)
    if data is None or unsealed(data) is not None or storage.exists(workspace.journal):
        return False
    return _unsealed_as(_EarlierRecipe, data) is not None


def _of_earlier_version(workspace: Workspace) -> Iterator[str]:
    """What its plan and its receipts name; `rejected.jsonl` where it is one."""
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
    """JSON that an earlier version wrote; None where it is not of the type `kind`."""
    try:
        return schema.decode(kind, data, "")
    except SchemaError:
        return None


class _ShardFields(msgspec.Struct):
    file: PlainName
    examples: Count
    bytes: Count
    sha256: str


_SHARD_LINE = re.compile(rb'\{"file": .*?\}')  # as the manifest has each shard


class _Receipt(msgspec.Struct):
    """What all receipts have, of whatever version."""

    shard: _ShardFields


class _EarlierRecipe(msgspec.Struct, forbid_unknown_fields=True):
    fingerprint: Digest
    recipe: dict[str, Any]


_EarlierLine: Any = tuple[PlainName, Count, Count, Digest, tuple[Any, ...]]  # split, index, count, digest, pairs


def _of_shards(files: Iterable[str]) -> Iterator[str]:
    """What `_build` holds of them."""
    for file in files:
        yield from names_of_shard(file)


def _in_build(workspace: Workspace) -> list[str]:
    """What `_build` holds, by its names below the data set's folder."""
    return [f"{BUILD}/{name}" for name in storage.sizes(workspace.build)]


def _temporaries(workspace: Workspace) -> list[str]:
    there = storage.sizes(storage.join(workspace.root, TEMPORARIES))
    return [f"{TEMPORARIES}/{name}" for name in there if _TEMPORARY.fullmatch(name)]


def _temporaries_of_earlier_version(workspace: Workspace, names: Iterable[str]) -> list[str]:
    """It had them in `_build` beside the files."""
    if not is_of_earlier_version(workspace):
        return []
    known = {*_of_shards(names), *_OF_BUILD}
    there = _in_build(workspace)
    return [name for name in there if _TEMPORARY.fullmatch(name) and name[: -len(".0123456789ab.tmp")] in known]


def _of_scratch(workspace: Workspace) -> list[str]:
    return [name for name in _in_build(workspace) if name.startswith(_OF_OTHERS)]


def _there(workspace: Workspace, names: Sequence[str]) -> list[str]:
    if not storage.is_local(workspace.root):
        there = storage.sizes(workspace.root)
        return [name for name in names if name in there]
    return [name for name in names if storage.is_there(storage.join(workspace.root, name))]


def _is_behind_link(workspace: Workspace, name: str) -> bool:
    return storage.is_local(workspace.root) and not storage.is_plain(workspace.root, name)


def _some(names: Sequence[str], most: int = _NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
