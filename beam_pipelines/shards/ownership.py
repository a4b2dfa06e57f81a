"""What a build may write and delete in the data set's folder: only files that its own lists name (`own_files.py`)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from beam_pipelines.contract import index, manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import lease, storage
from beam_pipelines.files.names import (
    BUILD,
    CARD,
    CARD_FOLDER,
    DATAFLOW,
    DUPLICATES,
    FINISHED,
    JOURNAL,
    KEPT_PLAN,
    LEASE,
    METADATA_FILES,
    PAIRING,
    PLAN,
    POLYGONS,
    PREVIOUS,
    PUBLISHED,
    RECIPE,
    REFUSED,
    SCRATCH,
    STAGED,
    TEMPORARIES,
    TOKENS,
    TRANSFORM_FILES,
    TRANSFORM_FOLDERS,
    TRANSFORM_GRAPH,
    is_token,
    names_of_shard,
    token_file,
)
from beam_pipelines.files.workspace import Workspace, journal_is_ours
from beam_pipelines.rejects import FILE_NAME as REJECTED
from beam_pipelines.shards.own_files import is_of_earlier_version, listed, names_in_build, of_transform, write_journal

_OF_OTHERS = (f"{DATAFLOW}/", f"{SCRATCH}/")  # whatever these folders hold
_OF_BUILD = (RECIPE, PLAN, PAIRING, POLYGONS, PUBLISHED, PREVIOUS, *REFUSED)
_LAST = (JOURNAL, LEASE)  # a lease alone is no build
_FOLDERS = (BUILD, TEMPORARIES, TOKENS, STAGED, FINISHED, index.FOLDER, CARD_FOLDER, *TRANSFORM_FOLDERS)
_TRANSFORM = (TRANSFORM_GRAPH, TRANSFORM_FILES)  # files of every transform_fn
_NAMED = 3  # names in a message ...
_TO_MOVE = 100  # ... of files that the user has to move


def claim(workspace: Workspace, overwrite: bool) -> None:
    """Raises BuildError if a folder that a build writes into is a link, or if `_build` was not made by a build. One of
    an earlier version, which kept no journal, can be overwritten, but not resumed.
    """
    for folder in _FOLDERS:
        path = storage.join(workspace.root, folder)
        if storage.is_link(path):
            raise BuildError(f"{path} is a symbolic link, which a build does not follow; choose another --output")
    there = names_in_build(workspace)
    if journal_is_ours(workspace) or all(_comes_before_the_journal(workspace, name) for name in there):
        return
    if is_of_earlier_version(workspace):
        if overwrite:
            return
        raise BuildError(
            f"{workspace.build} is an unfinished build of an earlier version, which this one can't resume: finish it "
            "with that version, choose another --output, or --overwrite to delete it first"
        )
    raise BuildError(
        f"{workspace.root} holds files in {BUILD} that no build wrote ({_some(sorted(there))}): choose another "
        f"--output, or move the folder {BUILD} away"
    )


def take(workspace: Workspace) -> Workspace:
    """Takes the folder for a new build. -> the workspace of that build, the only one that files are written for from
    now on: the workers of earlier ones may still run. See `Workspace`. Raises BuildError if the lease was lost.
    """
    lease.check(workspace.lease)  # or this would stop the build that holds it now
    taken = replace(workspace, token=uuid.uuid4().hex)
    storage.remove(workspace.root, _tokens(workspace))
    workspace.write(storage.join(workspace.root, token_file(taken.token)), b"")
    storage.remove(workspace.root, _temporaries(workspace))
    return taken


def refuse_foreign(workspace: Workspace, files: Iterable[str]) -> None:
    """Raises BuildError if a file that the build will write already exists and was not written by a build. `files` are
    all but those of every build.
    """
    own = (REJECTED, DUPLICATES, manifest.FILE_NAME, KEPT_PLAN, *CARD, METADATA_FILES)
    refuse(workspace, [*files, *own, *_TRANSFORM])


def refuse_foreign_transform(workspace: Workspace, files: Mapping[str, bytes]) -> None:
    """The same for the transform_fn's files, once their content is known: what is there with the same bytes is ours,
    left where only the other folder with the list of both was deleted.
    """
    same = [name for name in there(workspace, list(files)) if holds(workspace, name, files[name])]
    refuse(workspace, [name for name in (*files, TRANSFORM_FILES) if name not in same])


def holds(workspace: Workspace, name: str, data: bytes) -> bool:
    """Whether there is a plain file with this content."""
    with contextlib.suppress(OSError):
        return not _is_behind_link(workspace, name) and (storage.read_bytes(storage.join(workspace.root, name)) == data)
    return False


def refuse(workspace: Workspace, names: Sequence[str]) -> None:
    """Raises BuildError if one of the files `names` exists and was not written by a build."""
    found = foreign(workspace, names)
    if found:
        raise BuildError(
            f"{workspace.root} holds {_some(found, _TO_MOVE)}, which the build would overwrite, and which no "
            "build wrote: move that away, or choose another --output"
        )


def foreign(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Those of the files `names` that exist and were not written by a build."""
    ours = set(listed(workspace))
    return [name for name in there(workspace, names) if name not in ours or _is_behind_link(workspace, name)]


def there(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Those of the files `names` that exist."""
    if not storage.is_local(workspace.root):
        found = storage.sizes(workspace.root)
        return [name for name in names if name in found]
    return [name for name in names if storage.is_there(storage.join(workspace.root, name))]


def start(workspace: Workspace, files: Sequence[str]) -> None:
    """Starts the journal of a build of `files`, shards and indexes, and deletes what earlier builds wrote besides."""
    old, keep = listed(workspace), [*files, REJECTED, DUPLICATES, manifest.FILE_NAME, KEPT_PLAN, *CARD]
    write_journal(workspace, [*dict.fromkeys([*old, *keep])])
    storage.remove(workspace.root, [PREVIOUS, PUBLISHED, *REFUSED])  # of a build that this one does not go on with
    stale = [name for name in old if name not in {*files, REJECTED}]
    storage.remove(workspace.root, [*stale, *_of_shards(stale)])
    write_journal(workspace, keep)


def start_update(workspace: Workspace, files: Sequence[str], live: Collection[str]) -> None:
    """The same for an update of the data set that has the shards and indexes `live`, of which nothing is deleted."""
    old = [*listed(workspace), DUPLICATES]
    write_journal(workspace, [*dict.fromkeys([*old, *files, *CARD])])
    storage.remove(workspace.root, [PUBLISHED, *REFUSED])
    stale = [name for name in old if _is_of_shard(name) and name not in {*files, *live}]
    storage.remove(workspace.root, [*stale, *_of_shards(stale)])
    write_journal(workspace, [*dict.fromkeys([*(name for name in old if name not in stale), *files, *CARD])])


def _is_of_shard(name: str) -> bool:
    """Whether the name is that of a shard or of an index."""
    return name.endswith(".tfrecord") or name.startswith(f"{index.FOLDER}/")


def clear(workspace: Workspace) -> None:
    """Deletes what earlier builds wrote, the manifest first. The journal, the token and the lease are kept."""
    names = listed(workspace)
    earlier = _temporaries_of_earlier_version(workspace, names)
    write_journal(workspace, names)
    in_build = [*earlier, *_of_shards(names), *_OF_BUILD, *_of_scratch(workspace)]
    storage.remove(workspace.root, [manifest.FILE_NAME] if manifest.FILE_NAME in names else [])
    storage.remove(workspace.root, [*names, *in_build])


def finish(workspace: Workspace, is_last: bool = True) -> None:
    """Deletes everything that is not needed after the build; but for the lease, unless it `is_last`."""
    storage.remove(workspace.root, _tokens(workspace))  # before it is seen what its workers could still rename
    storage.remove(workspace.root, _temporaries(workspace))  # before the files that these could be renamed to
    in_build = [*_of_shards(listed(workspace)), *_OF_BUILD, *_of_scratch(workspace)]
    if storage.is_local(workspace.root):
        storage.prune(storage.join(workspace.root, TEMPORARIES))
    # What an update started from tells what the digest, the lists and the plan belong to: these go before it, and the
    # list without which no list is published goes before the other.
    first = ([PUBLISHED], [REFUSED[0]], [PLAN, REFUSED[1]])
    for names in (*first, in_build, *([name] for name in (_LAST if is_last else _LAST[:1]))):
        storage.remove(workspace.root, names)


def remove_unpublished(workspace: Workspace, published: Collection[str]) -> None:
    """Deletes shards and indexes that an update has written and not published: `published` are those of the data set,
    with those that a reader may still have open.
    """
    storage.remove(workspace.root, [name for name in listed(workspace) if _is_of_shard(name) and name not in published])


def publish_lists(workspace: Workspace) -> None:
    """Puts the lists of rejected pairs and of duplicates of a published update in the place of those before."""
    for new, name in zip(workspace.refused, (REJECTED, DUPLICATES), strict=True):
        if storage.exists(new):
            workspace.copy(new, storage.join(workspace.root, name))
        elif name == DUPLICATES and name in listed(workspace):
            storage.remove(workspace.root, [name])


def remove_transform(workspace: Workspace) -> None:
    """Deletes the transform_fn that builds have written."""
    storage.remove(workspace.root, of_transform(workspace))


def bytes_there(workspace: Workspace) -> int:
    """Bytes that builds have written, in `_build` and beside it."""
    names, there = set(listed(workspace)), storage.sizes(workspace.root)
    return sum(size for name, size in there.items() if name in names or name.startswith(f"{BUILD}/"))


def add_to_journal(workspace: Workspace, names: Sequence[str]) -> None:
    """Adds files that the build is about to write to the journal."""
    write_journal(workspace, [*dict.fromkeys([*listed(workspace), *names])])


def _comes_before_the_journal(workspace: Workspace, name: str) -> bool:
    """Whether this file may be there without the journal: left by a build that was killed before it wrote that, or by
    a worker that was killed after it was deleted.
    """
    if name == LEASE:
        text = storage.read_bytes(workspace.lease) or b""
        return not text.strip(b"\0 \n") or lease.is_lease(text)
    return is_token(name) or _is_temporary(name)


def _of_shards(files: Iterable[str]) -> Iterator[str]:
    """The names in `_build` of the shards among `files`."""
    for file in files:
        if file.endswith(".tfrecord"):
            yield from names_of_shard(file)


def _tokens(workspace: Workspace) -> list[str]:
    return list(filter(is_token, names_in_build(workspace)))


def _temporaries(workspace: Workspace) -> list[str]:
    return list(filter(_is_temporary, names_in_build(workspace)))


def _is_temporary(name: str) -> bool:
    return name.startswith(f"{TEMPORARIES}/") and storage.final_name(name) is not None


def _temporaries_of_earlier_version(workspace: Workspace, names: Iterable[str]) -> list[str]:
    """That version kept them in `_build` beside the files."""
    if not is_of_earlier_version(workspace):
        return []
    known = {*_of_shards(names), *_OF_BUILD}
    there = names_in_build(workspace)
    return [name for name in there if storage.final_name(name) in known]


def _of_scratch(workspace: Workspace) -> list[str]:
    return [name for name in names_in_build(workspace) if name.startswith(_OF_OTHERS)]


def _is_behind_link(workspace: Workspace, name: str) -> bool:
    return storage.is_local(workspace.root) and not storage.is_plain(workspace.root, name)


def _some(names: Sequence[str], most: int = _NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
