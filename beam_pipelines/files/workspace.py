"""The data set's folder: what stands where, whose it is, and what a build finds there when it starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from beam_pipelines.contract import manifest
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.seal import decoded, sealed, unsealed
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import FILE_NAME as REJECTED

TRANSFORM_FOLDERS = ("transform_fn", "transformed_metadata")  # the names that tensorflow-transform looks for
TRANSFORM_FILES = f"{TRANSFORM_FOLDERS[0]}/files.json"
TRANSFORM_GRAPH = f"{TRANSFORM_FOLDERS[0]}/saved_model.pb"
# Names below the data set's folder. All in BUILD is needed until the data set is published, and not after that.
BUILD = "_build"
JOURNAL = f"{BUILD}/journal.json"
RECIPE = f"{BUILD}/recipe.json"
PLAN = f"{BUILD}/plan.jsonl"
PAIRING = f"{BUILD}/pairing.jsonl"
PUBLISHED = f"{BUILD}/published.json"
LEASE = f"{BUILD}/lease"
STAGED = f"{BUILD}/staged"
FINISHED = f"{BUILD}/finished"
TEMPORARIES = f"{BUILD}/temporary"
SCRATCH = f"{BUILD}/scratch"  # temporary files of TensorFlow
DATAFLOW = f"{BUILD}/dataflow"  # what a remote service keeps for itself
_RECEIPT = ".json"  # after the name of the shard
_BEGINNING = 200  # bytes in which a manifest names its format version


def staged_receipt(file: str) -> str:
    """The name of the receipt that says that the shard `file` is staged."""
    return f"{STAGED}/{file}{_RECEIPT}"


def finished_receipt(file: str) -> str:
    """The name of the receipt that says that the shard `file` is finished."""
    return f"{FINISHED}/{file}{_RECEIPT}"


def is_receipt(name: str) -> bool:
    """Whether `name`, below the data set's folder, is that of a shard's receipt."""
    return name.startswith((f"{STAGED}/", f"{FINISHED}/")) and name.endswith(f".tfrecord{_RECEIPT}")


def names_of_shard(file: str) -> tuple[str, str, str]:
    """What BUILD holds of the shard `file`: staged, and both receipts."""
    return f"{STAGED}/{file}", staged_receipt(file), finished_receipt(file)


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
        return storage.join(self.root, RECIPE)

    @property
    def plan(self) -> str:
        return storage.join(self.root, PLAN)

    @property
    def pairing(self) -> str:
        return storage.join(self.root, PAIRING)

    @property
    def journal(self) -> str:
        """The list of what this build may write outside `_build`; where it stands, `_build` is ours."""
        return storage.join(self.root, JOURNAL)

    @property
    def published(self) -> str:
        """The digest of the manifest, until `_build` goes."""
        return storage.join(self.root, PUBLISHED)

    @property
    def transform_files(self) -> str:
        """The list of the transform_fn's files, written after them."""
        return storage.join(self.root, TRANSFORM_FILES)

    @property
    def scratch(self) -> str:
        return storage.join(self.root, SCRATCH)

    @property
    def lease(self) -> str:
        return storage.join(self.root, LEASE)

    @property
    def transform_graph(self) -> str:
        """The file of the transform_fn that is written last."""
        return storage.join(self.root, TRANSFORM_GRAPH)

    def writing(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """`storage.writing`, the temporary name in `_build`."""
        below = path.removeprefix(storage.join(self.root, ""))
        return storage.writing(path, storage.join(self.root, TEMPORARIES, below))

    def write(self, path: str, data: bytes) -> None:
        """`storage.write`, the temporary name in `_build`."""
        with self.writing(path) as file:
            file.write(data)

    def final(self, file: str) -> str:
        return storage.join(self.root, file)

    def staged(self, file: str) -> str:
        return storage.join(self.root, STAGED, file)

    def staged_receipt(self, file: str) -> str:
        return storage.join(self.root, staged_receipt(file))

    def finished_receipt(self, file: str) -> str:
        return storage.join(self.root, finished_receipt(file))


def read_manifest(workspace: Workspace) -> Manifest | None:
    """None where the data set is not published. Raises ManifestError."""
    data = storage.read_bytes(workspace.manifest)
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{workspace.manifest} is damaged ({error!r}); build the data set again") from error
    return Manifest.from_json(text, workspace.manifest)


def manifest_is_ours(workspace: Workspace) -> bool:
    """Whether `dataset.json`, whole or not and of whatever version, is no other tool's: only ours begins like that,
    and one that is empty is nobody's.
    """
    data = storage.read_bytes(workspace.manifest) or b""
    return not data.strip(b"\0 \n") or b'"format_version"' in data[:_BEGINNING]


def publish_manifest(workspace: Workspace, manifest: Manifest) -> None:
    """Makes the data set exist. The digest comes first: a resumed build knows by it whether the manifest is whole."""
    data = manifest.to_json().encode()
    workspace.write(workspace.published, sealed(hashlib.sha256(data).hexdigest()))
    workspace.write(workspace.manifest, data)


def journal_is_ours(workspace: Workspace) -> bool:
    """Whether `_build` has our journal: whole, without content after a power loss, or damaged beside a list that is
    whole. A file of that name that nothing of ours stands by is somebody else's.
    """
    data = storage.read_bytes(workspace.journal)
    if data is None:
        return False
    if unsealed(data) is not None or not data.strip(b"\0 \n"):
        return True
    others = (workspace.plan, workspace.recipe, workspace.pairing, workspace.published)
    return any(unsealed(storage.read_bytes(path)) is not None for path in others)


def transform_is_ours(workspace: Workspace) -> bool:
    """Whether the transform_fn, of which there is no list, is a graph that a build wrote: it takes histograms."""
    data = storage.read_bytes(workspace.transform_graph)
    return data is not None and b"histogram" in data


def manifest_is_damaged(workspace: Workspace) -> bool:
    """Whether a build that did not end has published a manifest that is not what it wrote."""
    data = storage.read_bytes(workspace.manifest)
    if data is None or not journal_is_ours(workspace):
        return False
    digest = unsealed(storage.read_bytes(workspace.published))
    if digest is None:  # nothing vouches for it but its own form
        try:
            read_manifest(workspace)
        except ManifestError:
            return True
        return False
    return digest.strip() != hashlib.sha256(data).hexdigest()


def finished_build(workspace: Workspace, recipe: Recipe, check_sizes: bool = True) -> Manifest | None:
    """The manifest of a finished build of the same recipe; None where there is none.

    Raises:
      BuildError: another recipe's data set, finished or half-finished, is in the folder; or, with `check_sizes`, a
        shard is missing or has another size.
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
                f"{workspace.final(shard.file)} is missing or truncated: restore it, or build again with --overwrite"
            )
    return found


def write_recipe(workspace: Workspace, recipe: Recipe) -> None:
    """Says whose half-finished build this is."""
    value = {"fingerprint": recipe.fingerprint, "recipe": recipe.to_json()}
    workspace.write(workspace.recipe, sealed(json.dumps(value, indent=2)))


class _RecipeFields(msgspec.Struct, forbid_unknown_fields=True):
    fingerprint: str
    recipe: dict[str, Any]


def _refuse_other_recipe(workspace: Workspace, recipe: Recipe) -> None:
    found = decoded(_RecipeFields, storage.read_bytes(workspace.recipe), workspace.recipe)
    if found is None:
        return  # a damaged one is written again; each receipt says what its shard was made of
    if found.fingerprint != recipe.fingerprint:
        raise BuildError(
            f"{workspace.root} holds a half-finished build of another recipe "
            f"({_differences(found.recipe, recipe)}): finish that one with its own command, "
            "choose another --output, or --overwrite to delete it first"
        )


def _differences(found: dict[str, object], recipe: Recipe) -> str:
    """The options that differ, as `name: theirs, not ours`."""
    ours = {"masks_are": "auto", **json.loads(json.dumps(recipe.to_json()))}
    theirs = {"masks_are": "auto", **json.loads(json.dumps(found))}
    different = [f"{name}: {theirs.get(name)}, not {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
    return "; ".join(different) or "the label table has other rows"
