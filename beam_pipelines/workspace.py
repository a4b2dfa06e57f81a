"""The data set's folder: what stands where, whose it is, and what a build finds there when it starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from beam_pipelines import storage
from beam_pipelines.contract import manifest
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.errors import BuildError
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import FILE_NAME as REJECTED

_SHARD = re.compile(r"[^/]+-\d{5}-of-\d{5}\.tfrecord")
TRANSFORM_FOLDERS = ("transform_fn", "transformed_metadata")  # the names that tensorflow-transform looks for
BUILD = "_build"  # all that a build needs until the data set is published, and nobody after that


@dataclass(frozen=True)
class Workspace:
    """Paths below the data set's folder `root`. A receipt says that its shard is whole, and what it counted."""

    root: str

    @property
    def manifest(self) -> str:
        return storage.join(self.root, manifest.FILE_NAME)

    @property
    def rejected(self) -> str:
        return storage.join(self.root, REJECTED)

    @property
    def build(self) -> str:
        return storage.join(self.root, BUILD)

    @property
    def recipe(self) -> str:
        return storage.join(self.build, "recipe.json")

    @property
    def plan(self) -> str:
        return storage.join(self.build, "plan.jsonl")

    @property
    def pairing(self) -> str:
        return storage.join(self.build, "pairing.jsonl")

    @property
    def finished(self) -> str:
        return storage.join(self.build, "finished")

    @property
    def scratch(self) -> str:
        return storage.join(self.build, "scratch")

    @property
    def lease(self) -> str:
        return storage.join(self.build, "lease")

    @property
    def transform_graph(self) -> str:
        """The file of the transform_fn that is written last."""
        return storage.join(self.root, TRANSFORM_FOLDERS[0], "saved_model.pb")

    def final(self, file: str) -> str:
        return storage.join(self.root, file)

    def staged(self, file: str) -> str:
        return storage.join(self.build, "staged", file)

    def staged_receipt(self, file: str) -> str:
        return storage.join(self.build, "staged", file + ".json")

    def finished_receipt(self, file: str) -> str:
        return storage.join(self.finished, file + ".json")


def read_manifest(workspace: Workspace) -> Manifest | None:
    """None where the data set is not published. Raises ManifestError."""
    text = storage.read_text(workspace.manifest)
    return None if text is None else Manifest.from_json(text, workspace.manifest)


def finished_build(workspace: Workspace, recipe: Recipe) -> Manifest | None:
    """The manifest of a finished build of the same recipe; None where there is none.

    Raises:
      BuildError: another recipe's data set, finished or half-finished, is in the folder.
    """
    try:
        found = read_manifest(workspace)
    except ManifestError as error:
        raise BuildError(f"{error}. --overwrite deletes it and builds anew") from error
    if found is None:
        _refuse_other_recipe(workspace, recipe)
        return None
    if found.fingerprint != recipe.fingerprint:
        different = _differences(dict(found.recipe), recipe)
        raise BuildError(
            f"{workspace.root} holds a finished data set of another recipe ({different}): "
            "choose another --output, or --overwrite to delete it first"
        )
    there = storage.sizes(workspace.root)
    for shard in (shard for shards in found.splits.values() for shard in shards):
        if there.get(shard.file) != shard.bytes:
            raise BuildError(f"{workspace.final(shard.file)} is missing or cut off: restore it, or --overwrite")
    return found


def start_build(workspace: Workspace, recipe: Recipe) -> None:
    """Marks the folder as this recipe's; a transform_fn that is still there was made with other moments."""
    storage.delete([storage.join(workspace.root, folder) for folder in TRANSFORM_FOLDERS])
    value = {"fingerprint": recipe.fingerprint, "recipe": recipe.to_json()}
    storage.write(workspace.recipe, json.dumps(value, indent=2).encode())


def clear(workspace: Workspace) -> None:
    """Deletes what a build wrote, the manifest first, and nothing else. The lease stays."""
    storage.delete([workspace.manifest])
    names = storage.sizes(workspace.root)
    build = [
        name for name in names if name.startswith(f"{BUILD}/") and storage.join(workspace.root, name) != workspace.lease
    ]
    shards = [name for name in names if _SHARD.fullmatch(name)]
    temporary = [name for name in names if "/" not in name and name.endswith(storage.TEMPORARY)]
    transform = [name for name in names if name.split("/")[0] in TRANSFORM_FOLDERS]
    storage.delete([storage.join(workspace.root, name) for name in (REJECTED, *build, *shards, *temporary, *transform)])


def sweep(workspace: Workspace, files: set[str]) -> None:
    """Deletes what a killed build left half-written, and shards that are not among `files`."""
    names = storage.sizes(workspace.root)
    stale = [
        name for name in names if name.endswith(storage.TEMPORARY) or (_SHARD.fullmatch(name) and name not in files)
    ]
    storage.delete([storage.join(workspace.root, name) for name in stale])


def _refuse_other_recipe(workspace: Workspace, recipe: Recipe) -> None:
    text = storage.read_text(workspace.recipe)
    if text is None:
        return
    value = json.loads(text)
    if value["fingerprint"] != recipe.fingerprint:
        raise BuildError(
            f"{workspace.root} holds a half-finished build of another recipe "
            f"({_differences(value['recipe'], recipe)}): finish that one with its own command, "
            "choose another --output, or --overwrite to delete it first"
        )


def _differences(found: dict[str, object], recipe: Recipe) -> str:
    """The options that differ, as `name: theirs, not ours`."""
    ours = {"masks_are": "auto", **json.loads(json.dumps(recipe.to_json()))}
    theirs = {"masks_are": "auto", **json.loads(json.dumps(found))}
    different = [f"{name}: {theirs.get(name)}, not {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
    return "; ".join(different) or "the label table has other rows"
