"""Lists the files of an input: folders, local or in a bucket, and zip archives, which are read in place."""

from __future__ import annotations

import os
from collections.abc import Iterable

from beam_pipelines.errors import BuildError
from beam_pipelines.files import archives, listing, storage
from beam_pipelines.files.reader import member_path
from beam_pipelines.inputs import layouts
from beam_pipelines.inputs.detection import Files
from beam_pipelines.recipe import input_paths


def list_inputs(inputs: str) -> Files:
    """The visible files of `inputs` (comma-separated folders and zip archives): name -> (path, bytes).

    Raises:
      BuildError: an input does not exist or can't be read, or two inputs hold the same image.
    """
    files: dict[str, tuple[str, int]] = {}
    sources = input_paths(inputs)
    for source in sources:
        if len(sources) > 1 and storage.is_local(source) and not os.path.exists(source):
            rule = "a path with commas is read only if it exists and is the only one"
            raise BuildError(f"{source} does not exist; commas in --input={inputs} separate its paths ({rule})")
        packed = archives.is_archive(source) and not (storage.is_local(source) and os.path.isdir(source))
        found = _list_zip(source) if packed else _list_folder(source.rstrip("/") or "/")
        _merge(files, found, f"--input={inputs}")
    return files


def _merge(files: dict[str, tuple[str, int]], found: Files, where: str) -> None:
    """Adds `found`. Raises BuildError if an image or a mask is in both; each archive of Cityscapes has a README."""
    if twice := {name for name in files.keys() & found.keys() if layouts.is_part(name)}:
        name = min(twice)
        one, other = files[name][0], found[name][0]
        raise BuildError(f"{where}: {name} occurs twice, as {one} and as {other}; leave one of them out")
    files.update(found)


def _list_folder(folder: str) -> Files:
    """The folder's files; if none of them is an image of a layout, also those in its zip archives."""
    names = {name: (storage.join(folder, name), size) for name, size in storage.list_files(folder) if _visible(name)}
    if layouts.has_images(names):
        return names
    packed = sorted(name for name in names if archives.is_archive(name) and "/" not in name)
    for archive in packed:
        _merge(names, _list_zip(storage.join(folder, archive)), folder)
    return names


def _list_zip(archive: str) -> Files:
    members: dict[str, archives.Member] = {}
    for member in archives.list_members(archive):
        if not _visible(member.name):
            continue
        other = members.setdefault(member.name, member)
        if (other.bytes, other.crc) != (member.bytes, member.crc) and layouts.is_picture(member.name):
            raise BuildError(f"{archive} holds {member.name} twice, with different bytes: create the archive again")
    top = _wrapping_folder(members)
    return {
        name.removeprefix(top): (member_path(archive, member.stored), member.bytes) for name, member in members.items()
    }


def _wrapping_folder(names: Iterable[str]) -> str:
    """`FOLDER/` if the archive holds a layout in a single folder, as file managers create them; otherwise ""."""
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or any(map(layouts.is_part, names)):
        return ""
    top = f"{tops.pop()}/"
    return top if any(layouts.is_part(name.removeprefix(top)) for name in names) else ""


def _visible(name: str) -> bool:
    """Whether `name` is neither hidden nor left behind by a file manager.

    Raises:
      BuildError: the name is not UTF-8, so no list or record can hold it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BuildError(f"the file name {name!r} is not UTF-8: rename it") from error
    return listing.is_visible(name)
