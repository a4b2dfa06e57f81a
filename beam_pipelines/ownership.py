"""Whose files are in the data set's folder: a build replaces and deletes what lists of its own name, and nothing else.

The lists: the journal of a build that did not end, its plan and receipts, the manifest, the transform_fn's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from beam_pipelines import plan, storage
from beam_pipelines.contract import manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.rejects import FILE_NAME as REJECTED
from beam_pipelines.seal import sealed, unsealed
from beam_pipelines.workspace import (
    BUILD,
    JOURNAL,
    TEMPORARIES,
    TRANSFORM_FILES,
    TRANSFORM_FOLDERS,
    Workspace,
    manifest_is_ours,
)

_TEMPORARY = re.compile(rf"[^/].*\.[0-9a-f]{{12}}{re.escape(storage.TEMPORARY)}")  # as storage.writing names them
# What a remote service is given for its own files, and TensorFlow for temporary ones.
_SCRATCH = (f"{BUILD}/dataflow/", f"{BUILD}/scratch/")
_OF_BUILD = tuple(f"{BUILD}/{name}" for name in ("recipe.json", "plan.jsonl", "pairing.jsonl", "published.json"))
_LAST = (f"{BUILD}/{JOURNAL}", f"{BUILD}/lease")  # the lease alone is nobody's build
_FOLDERS = (BUILD, TEMPORARIES, f"{BUILD}/staged", f"{BUILD}/finished", *TRANSFORM_FOLDERS)
_TRANSFORM = (f"{TRANSFORM_FOLDERS[0]}/saved_model.pb", TRANSFORM_FILES)  # what a transform_fn certainly has
_NAMED = 3  # names in a message


def claim(workspace: Workspace) -> None:
    """Raises BuildError where the folders that a build writes into are links, or `_build` is somebody else's."""
    for folder in _FOLDERS:
        path = storage.join(workspace.root, folder)
        if storage.is_link(path):
            raise BuildError(f"{path} is a symbolic link, and not written through; choose another --output")
    there = storage.sizes(workspace.build)
    if JOURNAL in there or all(_comes_before_the_journal(workspace, name) for name in there):
        return
    raise BuildError(
        f"{workspace.build} holds files that no list of this build names ({_some(sorted(there))}): choose another "
        "--output, or move the folder away (if a build of an earlier version left it, delete it)"
    )


def refuse_foreign(workspace: Workspace, files: Iterable[str]) -> None:
    """Raises BuildError where a file that the build will write is there already and is not ours."""
    _refuse(workspace, [*files, REJECTED, manifest.FILE_NAME, *_TRANSFORM])


def refuse_foreign_transform(workspace: Workspace, names: Sequence[str]) -> None:
    """The same for the transform_fn's files, once it is known which they are."""
    _refuse(workspace, [*names, TRANSFORM_FILES])


def _refuse(workspace: Workspace, names: Sequence[str]) -> None:
    ours = set(listed(workspace))
    foreign = [name for name in _there(workspace, names) if name not in ours or _is_behind_link(workspace, name)]
    if foreign:
        raise BuildError(
            f"{workspace.root} holds {_some(foreign)}, which the build would overwrite and no list of its own names: "
            "move that away, or choose another --output"
        )


def listed(workspace: Workspace) -> list[str]:
    """Names below `root` of what we wrote there, outside `_build`."""
    names = [*_of_manifest(workspace), *_of_transform(workspace)]
    if storage.exists(workspace.journal):
        journal = unsealed(storage.read_bytes(workspace.journal))
        names += json.loads(journal) if journal else _without_journal(workspace)
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
    write_journal(workspace, names)
    in_build = [*_of_shards(names), *_OF_BUILD, *_temporaries(workspace), *_of_scratch(workspace)]
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
    if name == "lease":
        text = storage.read_bytes(workspace.lease) or b""
        return not text.strip(b"\0 \n") or text.startswith(b'{"host": ')
    return bool(re.fullmatch(rf"temporary/{BUILD}/{re.escape(JOURNAL)}\.[0-9a-f]{{12}}\.tmp", name))


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
    except (ValueError, TypeError, KeyError, AttributeError):
        return own


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".tfrecord") and "/" not in name


def _of_transform(workspace: Workspace) -> list[str]:
    text = unsealed(storage.read_bytes(workspace.transform_files))
    return [*json.loads(text), TRANSFORM_FILES] if text else []


def _without_journal(workspace: Workspace) -> list[str]:
    """What a damaged journal certainly named."""
    return [REJECTED, manifest.FILE_NAME, *plan.list_files(workspace.plan), *_of_receipts(workspace)]


def _of_receipts(workspace: Workspace) -> Iterator[str]:
    """The shards whose receipts are whole."""
    for name in storage.sizes(workspace.build):
        if name.startswith(("staged/", "finished/")) and name.endswith(".tfrecord.json"):
            text = unsealed(storage.read_bytes(storage.join(workspace.build, name)))
            if text:
                yield json.loads(text)["shard"]["file"]


def _of_shards(files: Iterable[str]) -> Iterator[str]:
    """What `_build` holds of them."""
    for file in files:
        yield from (f"{BUILD}/staged/{file}", f"{BUILD}/staged/{file}.json", f"{BUILD}/finished/{file}.json")


def _temporaries(workspace: Workspace) -> list[str]:
    there = storage.sizes(storage.join(workspace.root, TEMPORARIES))
    return [f"{TEMPORARIES}/{name}" for name in there if _TEMPORARY.fullmatch(name)]


def _of_scratch(workspace: Workspace) -> list[str]:
    return [f"{BUILD}/{name}" for name in storage.sizes(workspace.build) if f"{BUILD}/{name}".startswith(_SCRATCH)]


def _there(workspace: Workspace, names: Sequence[str]) -> list[str]:
    if not storage.is_local(workspace.root):
        there = storage.sizes(workspace.root)
        return [name for name in names if name in there]
    return [name for name in names if storage.is_there(storage.join(workspace.root, name))]


def _is_behind_link(workspace: Workspace, name: str) -> bool:
    return storage.is_local(workspace.root) and not storage.is_plain(workspace.root, name)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
