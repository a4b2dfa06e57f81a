"""Checks size and content of what an earlier run left, before it is used; damaged parts are built again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.seal import decoded, unsealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import names, storage
from beam_pipelines.files.names import TRANSFORM_FILES
from beam_pipelines.files.workspace import Workspace, manifest_is_damaged, transform_is_ours
from beam_pipelines.machine import cores
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.own_files import TransformFiles
from beam_pipelines.shards.plan import ShardPlan
from beam_pipelines.shards.receipts import StagedShard, finished_receipt, staged_receipt

_NAMED = 3  # shards in a message


def forget_damaged(shards: Sequence[ShardPlan], recipe: Recipe, workspace: Workspace) -> dict[str, str]:
    """Reads each shard that has a receipt, and deletes the receipts of damaged shards. -> file -> its damage.

    Raises:
      BuildError: a file can't be read, or another build has taken the folder (ReplacedBuildError).
    """
    there = storage.sizes(workspace.root)
    files = [shard.file for shard in shards]
    staged = [(file, names.staged_receipt(file)) for file in files]
    finished = [(file, names.finished_receipt(file)) for file in files]
    work = [item for item in (*staged, *finished) if item[1] in there]

    def check(item: tuple[str, str]) -> str | None:
        return _damage(*item, recipe, workspace, there)

    with ThreadPoolExecutor(cores() if storage.is_local(workspace.root) else 1) as pool:
        found = {item: damage for item, damage in zip(work, pool.map(check, work), strict=True) if damage}
    workspace.check()  # reading them may have taken hours
    storage.delete([storage.join(workspace.root, receipt) for _, receipt in found])
    return {file: damage for (file, _), damage in found.items()}


def made_again(damaged: Mapping[str, str]) -> str:
    """A line that tells how many shards are built again, which, and why."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(damaged.values()).most_common())
    more = ", ..." if len(damaged) > _NAMED else ""
    return f"building again what an earlier run left damaged ({reasons}): {', '.join(sorted(damaged)[:_NAMED])}{more}"


def say_damaged(workspace: Workspace) -> Iterator[str]:
    """A line for each damaged list of an unfinished build; the lists are written again."""
    for path in (workspace.journal, workspace.recipe, workspace.plan, workspace.pairing):
        data = storage.read_bytes(path)
        if data is not None and unsealed(data) is None:
            yield f"writing {path} again, which an earlier run left damaged"
    if manifest_is_damaged(workspace):
        yield f"writing {workspace.manifest} again, which an earlier run left damaged"


def damaged_files(manifest: Manifest, workspace: Workspace) -> list[str]:
    """The shards whose bytes differ from the manifest."""
    shards = [shard for split in manifest.splits.values() for shard in split]
    with ThreadPoolExecutor(cores() if storage.is_local(workspace.root) else 1) as pool:
        same = pool.map(lambda shard: storage.holds(workspace.final(shard.file), shard.bytes, shard.sha256), shards)
        return [shard.file for shard, whole in zip(shards, same, strict=True) if not whole]


def transform_is_whole(workspace: Workspace) -> bool:
    """Whether the transform_fn exists with the bytes that its list names. One of an earlier version has no list, and is
    not checked.

    Raises:
      BuildError: its list is damaged, and no other list names the files.
    """
    data = storage.read_bytes(workspace.transform_files)
    if data is None:
        return transform_is_ours(workspace) and not storage.exists(workspace.journal)
    files = decoded(TransformFiles, data, workspace.transform_files)
    if files is not None:
        return all(_fits(storage.join(workspace.root, name), *state) for name, state in files.items())
    if storage.exists(workspace.journal):
        return False
    folder = workspace.transform_files.removesuffix(TRANSFORM_FILES.partition("/")[2])
    raise BuildError(f"{workspace.transform_files} is damaged: move {folder} away, and run the same command again")


def _damage(file: str, name: str, recipe: Recipe, workspace: Workspace, there: Mapping[str, int]) -> str | None:
    """The damage of a shard of an earlier run, or of its receipt; None if there is none."""
    is_staged = name == names.staged_receipt(file)
    receipt = (staged_receipt if is_staged else finished_receipt)(file, workspace)
    if receipt is None:
        return "damaged receipt"
    path = workspace.staged(file) if is_staged and recipe.normalized else workspace.final(file)
    size = there.get(path.removeprefix(storage.join(workspace.root, "")))
    if size is None:
        return "missing"
    if size != receipt.shard.bytes:
        return "other size"
    if storage.crc32c_of(path) != receipt.crc32c:
        return "other bytes"
    if isinstance(receipt, StagedShard) and not _fits(workspace.index(file), receipt.index_bytes, receipt.index_crc32c):
        return "damaged index"
    return None


def _fits(path: str, size: int, crc: int) -> bool:
    return storage.size_of(path) == size and storage.crc32c_of(path) == crc
