"""The data set's folder: its layout, who may write there, and whose files are found there."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from beam_pipelines.contract import index, manifest
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.contract.schema import Digest
from beam_pipelines.contract.seal import decoded, sealed, unsealed
from beam_pipelines.errors import BuildError, ReplacedBuildError
from beam_pipelines.files import cloud, names, storage
from beam_pipelines.rejects import FILE_NAME as REJECTED

_BEGINNING = 200  # bytes in which a manifest names its format version


@dataclass(frozen=True)
class Workspace:
    """Paths below the data set's folder `root`. A receipt is written after its shard, and holds what was counted.

    With the `token` of a build, which a file in `_build` stands for, files are written for that build only: a worker
    that was cut off writes nothing any more when another build has taken the folder (`ownership.take`). That one first
    deletes the tokens of others and then all temporary files; a file is renamed only if the token is still there when
    its temporary file is complete. So either no token is found, or nothing that could be renamed. Only a request to
    rename that is on its way to the storage at that moment, and `delete` between looking and deleting, come through.
    """

    root: str
    token: str = ""

    @property
    def manifest(self) -> str:
        return storage.join(self.root, manifest.FILE_NAME)

    @property
    def rejected(self) -> str:
        return storage.join(self.root, REJECTED)

    @property
    def duplicates(self) -> str:
        return storage.join(self.root, names.DUPLICATES)

    @property
    def build(self) -> str:
        return storage.join(self.root, names.BUILD)

    @property
    def recipe(self) -> str:
        return storage.join(self.root, names.RECIPE)

    @property
    def plan(self) -> str:
        return storage.join(self.root, names.PLAN)

    @property
    def pairing(self) -> str:
        return storage.join(self.root, names.PAIRING)

    @property
    def kept_plan(self) -> str:
        """The plan of a finished data set, by which an update tells what has changed."""
        return storage.join(self.root, names.KEPT_PLAN)

    @property
    def previous(self) -> str:
        """The data set before the update that is running; see `shards.previous`."""
        return storage.join(self.root, names.PREVIOUS)

    @property
    def refused(self) -> tuple[str, str]:
        """The lists of rejected pairs and of duplicates of an update, until it is published."""
        rejected, duplicates = (storage.join(self.root, name) for name in names.REFUSED)
        return rejected, duplicates

    @property
    def polygons(self) -> str:
        """The annotations of the images, where one file has those of many; see `files.spool`."""
        return storage.join(self.root, names.POLYGONS)

    @property
    def journal(self) -> str:
        """The list of what this build may write outside `_build`; it marks `_build` as made by a build."""
        return storage.join(self.root, names.JOURNAL)

    @property
    def published(self) -> str:
        """The digest of the manifest, until `_build` is deleted."""
        return storage.join(self.root, names.PUBLISHED)

    @property
    def transform_files(self) -> str:
        """The list of the transform_fn's files, written after them."""
        return storage.join(self.root, names.TRANSFORM_FILES)

    @property
    def metadata_files(self) -> str:
        """The list of the files for other libraries, written after them."""
        return storage.join(self.root, names.METADATA_FILES)

    @property
    def card_page(self) -> str:
        return storage.join(self.root, names.CARD_PAGE)

    @property
    def card_statistics(self) -> str:
        """What the page of the card is drawn from; it is written before the manifest."""
        return storage.join(self.root, names.CARD_STATISTICS)

    @property
    def scratch(self) -> str:
        return storage.join(self.root, names.SCRATCH)

    @property
    def lease(self) -> str:
        return storage.join(self.root, names.LEASE)

    @property
    def transform_graph(self) -> str:
        """The last file of the transform_fn to be written."""
        return storage.join(self.root, names.TRANSFORM_GRAPH)

    def check(self) -> None:
        """Raises ReplacedBuildError if the workspace has a token that is no longer that of the folder."""
        if not self.token:
            return
        path = storage.join(self.root, names.token_file(self.token))
        try:
            with cloud.errors(path), storage.open_read(path):
                return  # opened: whether it exists, a network file system may know from long ago
        except (FileNotFoundError, NotADirectoryError):
            raise ReplacedBuildError(
                f"another build has taken {self.root}, or has cleared it up, since this one began: this one ends, and "
                "writes nothing more; to go on with it, run its command again when no other build is writing there"
            ) from None

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """`storage.writing`, with the temporary file in `_build`.

        Raises:
          ReplacedBuildError: see `check`; the file is as it was.
        """
        below = path.removeprefix(storage.join(self.root, ""))
        try:
            with storage.writing(path, storage.join(self.root, names.TEMPORARIES, below), self.check) as file:
                yield file
        except BuildError:
            self.check()  # the other build has deleted what was to be renamed
            raise

    def write(self, path: str, data: bytes) -> None:
        """`storage.write`, with the temporary file in `_build`."""
        with self.writing(path) as file:
            file.write(data)

    def copy(self, source: str, path: str) -> None:
        """Writes the file `path` with the bytes of the file `source`."""
        with storage.open_read(source) as read, self.writing(path) as file:
            shutil.copyfileobj(read, file)

    def delete(self, path: str) -> None:
        """Deletes a file, if there is one. Raises ReplacedBuildError; see `check`."""
        if storage.exists(path):
            self.check()
            storage.delete([path])

    def final(self, file: str) -> str:
        return storage.join(self.root, file)

    def index(self, file: str) -> str:
        """The index of the shard `file`."""
        return storage.join(self.root, index.file_name(file))

    def staged(self, file: str) -> str:
        return storage.join(self.root, names.STAGED, file)

    def staged_receipt(self, file: str) -> str:
        return storage.join(self.root, names.staged_receipt(file))

    def finished_receipt(self, file: str) -> str:
        return storage.join(self.root, names.finished_receipt(file))


def read_manifest(workspace: Workspace) -> Manifest | None:
    """None if the data set is not published. Raises ManifestError."""
    data = storage.read_bytes(workspace.manifest)
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{workspace.manifest} is damaged ({error!r}); build the data set again") from error
    return Manifest.from_json(text, workspace.manifest)


def manifest_is_ours(workspace: Workspace) -> bool:
    """Whether a build wrote `dataset.json`, whatever its version and even if it is damaged: it names its format version
    at the beginning, or it is empty.
    """
    data = storage.read_bytes(workspace.manifest) or b""
    return not data.strip(b"\0 \n") or b'"format_version"' in data[:_BEGINNING]


def publish_manifest(workspace: Workspace, manifest: Manifest) -> None:
    """Writes the manifest, after its digest, by which a resumed build checks the manifest."""
    data = manifest.to_json().encode()
    workspace.write(workspace.published, sealed(hashlib.sha256(data).hexdigest()))
    workspace.write(workspace.manifest, data)


def journal_is_ours(workspace: Workspace) -> bool:
    """Whether the journal in `_build` was written by a build: it is whole, or empty after a power loss, or damaged and
    another list of a build is whole. Any other file of that name may be the user's.
    """
    data = storage.read_bytes(workspace.journal)
    if data is None:
        return False
    if unsealed(data) is not None or not data.strip(b"\0 \n"):
        return True
    others = (workspace.plan, workspace.recipe, workspace.pairing, workspace.published)
    return any(unsealed(storage.read_bytes(path)) is not None for path in others)


def transform_is_ours(workspace: Workspace) -> bool:
    """Whether a transform_fn without a list of its files was written by a build: its graph takes histograms."""
    data = storage.read_bytes(workspace.transform_graph)
    return data is not None and b"histogram" in data


class _Previous(msgspec.Struct):
    sha256: Digest


def _before_update(workspace: Workspace) -> str | None:
    """The digest of the manifest from which an update started; None if there is no update."""
    found = decoded(_Previous, storage.read_bytes(workspace.previous), workspace.previous)
    return found.sha256 if found else None


def update_is_unpublished(workspace: Workspace) -> bool:
    """Whether an update was begun, and `dataset.json` is still the one before it."""
    data = storage.read_bytes(workspace.manifest)
    return data is not None and hashlib.sha256(data).hexdigest() == _before_update(workspace)


def is_published(workspace: Workspace) -> bool:
    """Whether `dataset.json` is what the build, or update, that has not ended yet was to publish."""
    data, digest = storage.read_bytes(workspace.manifest), unsealed(storage.read_bytes(workspace.published))
    return data is not None and digest is not None and digest.strip() == hashlib.sha256(data).hexdigest()


def manifest_is_damaged(workspace: Workspace) -> bool:
    """Whether the manifest of an unfinished build differs from what that build wrote."""
    data = storage.read_bytes(workspace.manifest)
    if data is None or not journal_is_ours(workspace):
        return False
    digest = unsealed(storage.read_bytes(workspace.published))
    now = hashlib.sha256(data).hexdigest()
    if now == _before_update(workspace):
        return False
    if digest is None:  # there is no digest to compare with
        try:
            read_manifest(workspace)
        except ManifestError:
            return True
        return False
    return digest.strip() != now
