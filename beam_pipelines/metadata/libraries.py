"""The libraries that read a data set without this package, each by small files beside the shards.

The files follow from the manifest and the plan that a data set keeps. Those of a library are written together or not at
all: a build's file beside another tool's would describe two data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files import storage
from beam_pipelines.files.names import METADATA_FILES
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.metadata import croissant, tfds
from beam_pipelines.shards import ownership
from beam_pipelines.shards.own_files import of_metadata, write_metadata_list


@dataclass(frozen=True)
class Library:
    """A library: the names of all its files, why it can't read a data set, or the files' texts, which follow from the
    manifest and the plan at a path; which files there are follows from the manifest.
    """

    name: str
    files: tuple[str, ...]
    obstacle: Callable[[Manifest], str | None]
    texts: Callable[[Manifest, str | None], Mapping[str, str]]


LIBRARIES = (
    Library("TensorFlow Datasets", tfds.NAMES, tfds.obstacle, lambda manifest, _: tfds.texts(manifest)),
    Library("Croissant", croissant.NAMES, croissant.obstacle, croissant.texts),
)


def names() -> list[str]:
    """The files of all libraries."""
    return [name for library in LIBRARIES for name in library.files]


def are_written(manifest: Manifest, workspace: Workspace) -> bool:
    """Whether the files of each library exist, by their list. What they hold may be the user's by now, who has added a
    license.
    """
    wanted = [name for library in LIBRARIES if not library.obstacle(manifest) for name in library.texts(manifest, None)]
    listed = of_metadata(workspace)
    return METADATA_FILES in listed and {*wanted} <= {*listed} and ownership.there(workspace, wanted) == wanted


def write_files(manifest: Manifest, workspace: Workspace, before: Manifest | None = None) -> list[str]:
    """Writes the files of each library, and then the list of them. -> a line for each library that gets none, and for
    each file of the data set `before` an update that was changed since, and so is left as it is.

    Raises:
      BuildError: they can't be written, or the list was not written by a build.
    """
    texts: dict[str, bytes] = {}
    notes, plan = [], _plan_of(workspace)
    for library in LIBRARIES:
        obstacle = library.obstacle(manifest)
        wanted = {} if obstacle else _texts(library, manifest, plan)
        obstacle = obstacle or _in_the_way(workspace, wanted)
        if obstacle:
            notes.append(f"no files for {library.name} are written: {obstacle}")
        else:
            texts |= wanted
    of_before = _texts_of(before, workspace) if before else {}
    edited = _edited(of_before, workspace, texts)
    gone = [name for name, text in of_before.items() if name not in texts and ownership.holds(workspace, name, text)]
    storage.remove(workspace.root, gone)
    _write(texts, workspace, edited)
    changed = "was changed since it was written, and is not updated: delete it to get a new one"
    return [*notes, *(f"{name} {changed}" for name in edited)]


def _plan_of(workspace: Workspace, before: bool = False) -> str | None:
    """The plan of the data set, which is kept at the end of a build; until then the kept one is that of the data set
    `before` an update. None if an earlier version built the data set.
    """
    plans = (workspace.kept_plan,) if before else (workspace.plan, workspace.kept_plan)
    return next(filter(storage.exists, plans), None)


def _texts(library: Library, manifest: Manifest, plan: str | None) -> dict[str, bytes]:
    return {name: text.encode() for name, text in library.texts(manifest, plan).items()}


def _texts_of(before: Manifest, workspace: Workspace) -> dict[str, bytes]:
    """What the data set `before` an update has got."""
    plan = _plan_of(workspace, before=True)
    found: dict[str, bytes] = {}
    for library in LIBRARIES:
        found |= {} if library.obstacle(before) else _texts(library, before, plan)
    return found


def _edited(before: Mapping[str, bytes], workspace: Workspace, texts: Mapping[str, bytes]) -> list[str]:
    """The listed files that are neither as they were written `before` an update, nor as in the new `texts`, as an
    update that was killed at its end has written them.
    """
    if not before:
        return []
    there = ownership.there(workspace, [name for name in of_metadata(workspace) if name != METADATA_FILES])
    ours = {name: [each[name] for each in (before, texts) if name in each] for name in there}
    return [name for name in there if not any(ownership.holds(workspace, name, text) for text in ours[name])]


def _in_the_way(workspace: Workspace, texts: Mapping[str, bytes]) -> str | None:
    """Only a finished data set meets such files: a build refuses them before it begins."""
    found = ownership.foreign(workspace, list(texts))
    foreign = [name for name in found if not ownership.holds(workspace, name, texts[name])]
    return f"no build wrote {', '.join(foreign)}: move that away, and run the same command again" if foreign else None


def _write(texts: Mapping[str, bytes], workspace: Workspace, edited: Sequence[str]) -> None:
    """Writes what differs, but for the `edited` files. What a finished build has written is kept even then: it was
    changed since.
    """
    listed = ownership.there(workspace, of_metadata(workspace))
    kept = edited if storage.exists(workspace.journal) else listed
    missing = [name for name in texts if name not in kept and not ownership.holds(workspace, name, texts[name])]
    if not missing and {*texts, METADATA_FILES} <= {*listed}:
        return
    ownership.refuse(workspace, [METADATA_FILES])
    ownership.add_to_journal(workspace, [*texts, METADATA_FILES])
    for name in missing:
        workspace.write(storage.join(workspace.root, name), texts[name])
    write_metadata_list(workspace, [*texts, *(name for name in listed if name not in {METADATA_FILES, *texts})])
