"""Whether the data set in a folder, finished or not, has the recipe of the build that is to write there."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from beam_pipelines.contract import manifest
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.contract.schema import Digest
from beam_pipelines.contract.seal import decoded, sealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace, manifest_is_damaged, manifest_is_ours, read_manifest
from beam_pipelines.recipe import DEFAULTS, Recipe


def finished_build(workspace: Workspace, recipe: Recipe, check_sizes: bool = True) -> Manifest | None:
    """The manifest of a finished build of the same recipe; None if there is no finished build.

    Raises:
      BuildError: the folder holds a data set of another recipe, finished or not; or, with `check_sizes`, a shard is
        missing or has another size.
    """
    try:
        found = None if manifest_is_damaged(workspace) else read_manifest(workspace)
    except ManifestError as error:
        ours = "--overwrite deletes it and builds again"
        cure = ours if manifest_is_ours(workspace) else "move it away, or choose another --output"
        raise BuildError(f"{error}. {cure}") from error
    if found is None:
        _refuse_other_recipe(workspace, recipe)
        return None
    if found.fingerprint != recipe.fingerprint:
        different = _differences(dict(found.recipe), recipe)
        raise BuildError(
            f"{workspace.root} holds a finished data set of another recipe ({different}): "
            "choose another --output, or --overwrite to delete it first"
        )
    if not check_sizes:
        return found
    there = storage.sizes(workspace.root)
    for shard in (shard for shards in found.splits.values() for shard in shards):
        if there.get(shard.file) != shard.bytes:
            raise BuildError(
                f"{workspace.final(shard.file)} is missing or has another size than the {shard.bytes:,} bytes in "
                f"{manifest.FILE_NAME}: restore it, or build again with --overwrite"
            )
    return found


def write_recipe(workspace: Workspace, recipe: Recipe) -> None:
    """Records the recipe of an unfinished build."""
    value = {"fingerprint": recipe.fingerprint, "recipe": recipe.to_json()}
    workspace.write(workspace.recipe, sealed(json.dumps(value, indent=2)))


class RecipeFields(msgspec.Struct, forbid_unknown_fields=True):
    """A recipe as `write_recipe` writes it."""

    fingerprint: Digest
    recipe: dict[str, Any]


def _refuse_other_recipe(workspace: Workspace, recipe: Recipe) -> None:
    found = decoded(RecipeFields, storage.read_bytes(workspace.recipe), workspace.recipe)
    if found is None:
        return  # a damaged one is written again; receipts have the digest of their plan
    if found.fingerprint != recipe.fingerprint:
        raise BuildError(
            f"{workspace.root} holds an unfinished build of another recipe "
            f"({_differences(found.recipe, recipe)}): finish it with its own command, "
            "choose another --output, or --overwrite to delete it first"
        )


def _differences(found: dict[str, object], recipe: Recipe) -> str:
    """The options that differ, as `name: found, not given`."""
    ours = {**DEFAULTS, **json.loads(json.dumps(recipe.to_json()))}
    theirs = {**DEFAULTS, **json.loads(json.dumps(found))}
    different = [f"{name}: {theirs.get(name)}, not {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
    return "; ".join(different) or "the label table has other rows"
