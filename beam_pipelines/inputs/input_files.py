"""Lists the files of an input: folders, local or in a bucket, and zip archives, which are read in place."""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Set

from beam_pipelines.errors import BuildError
from beam_pipelines.files import archives, listing, storage
from beam_pipelines.files.reader import member_path
from beam_pipelines.inputs import layouts
from beam_pipelines.recipe import input_paths

_ANNOTATIONS = (".json", ".xml")


class Files(Mapping[str, tuple[str, int]]):
    """The files of an input: name below the input -> (path, bytes). A file takes about 120 bytes."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._bytes = array("q")
        self._sources = array("H")
        self._prefixes: list[str] = []
        self._other_paths: dict[str, str] = {}

    def add_source(self, prefix: str) -> None:
        """The files added from here on have the path `prefix` + name."""
        if not self._prefixes or self._prefixes[-1] != prefix:
            self._prefixes.append(prefix)

    def add(self, name: str, size: int, path: str | None = None) -> None:
        """A file of the last source; `path` is needed only if it is not the prefix and the name."""
        self._names.append(name)
        self._bytes.append(size)
        self._sources.append(len(self._prefixes) - 1)
        if path is not None and path != self._prefixes[-1] + name:
            self._other_paths[name] = path

    def extend(self, other: Files, leave_out: Set[str] = frozenset()) -> None:
        """Adds the files of `other`, without those that have one of the names `leave_out`."""
        for place, name in enumerate(other._names):
            if name not in leave_out:
                self.add_source(other._prefixes[other._sources[place]])
                self.add(name, other._bytes[place], other.at(place)[0])

    def at(self, place: int) -> tuple[str, int]:
        """(path, bytes) of the file at a place."""
        name = self._names[place]
        path = self._other_paths.get(name) if self._other_paths else None
        return path or self._prefixes[self._sources[place]] + name, self._bytes[place]

    def name_at(self, place: int) -> str:
        return self._names[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> tuple[str, int]:
        return self.at(self._places[name])

    @functools.cached_property
    def folder_names(self) -> frozenset[str]:
        """The names of all folders below the input, as they are and in lower case."""
        folders = {name.rpartition("/")[0] for name in self._names}
        return frozenset(part for folder in folders for part in (*folder.split("/"), *folder.lower().split("/")))

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._names)}


def list_inputs(inputs: str) -> Files:
    """The visible files of `inputs` (comma-separated folders and zip archives).

    Raises:
      BuildError: an input does not exist or can't be read, or two inputs hold the same image.
    """
    files = Files()
    sources = input_paths(inputs)
    for source in sources:
        if len(sources) > 1 and storage.is_local(source) and not os.path.exists(source):
            rule = "a path with commas is read only if it exists and is the only one"
            raise BuildError(f"{source} does not exist; commas in --input={inputs} separate its paths ({rule})")
        packed = archives.is_archive(source) and not (storage.is_local(source) and os.path.isdir(source))
        found = _list_zip(source) if packed else _list_folder(source.rstrip("/") or "/")
        files = _merged(files, found, f"--input={inputs}")
    return files


def _merged(files: Files, found: Files, where: str) -> Files:
    """Raises BuildError if an image, a mask or another file of annotations is in both, but not for a README: each
    archive of Cityscapes has one.
    """
    if not len(files):
        return found
    there = set(files)
    twice = {name for name in found if name in there}
    differ = {name for name in twice if layouts.is_picture(name) or layouts.is_part(name)}
    differ |= {name for name in twice if name.lower().endswith(_ANNOTATIONS) and files[name][1] != found[name][1]}
    if differ:
        name = min(differ)
        one, other = files[name][0], found[name][0]
        raise BuildError(f"{where}: {name} occurs twice, as {one} and as {other}; leave one of them out")
    files.extend(found, leave_out=twice)
    return files


def _list_folder(folder: str) -> Files:
    """The folder's files; if none of them is an image of a layout, also those in its zip archives."""
    files = Files()
    files.add_source(storage.join(folder, ""))
    for name, size in storage.list_files(folder):
        if _visible(name):
            files.add(name, size)
    packed = sorted(name for name in files if archives.is_archive(name) and "/" not in name)
    if not packed or layouts.has_images(files):
        return files
    for archive in packed:
        files = _merged(files, _list_zip(storage.join(folder, archive)), folder)
    return files


def _list_zip(archive: str) -> Files:
    members: dict[str, archives.Member] = {}
    for member in archives.list_members(archive):
        if not _visible(member.name):
            continue
        other = members.setdefault(member.name, member)
        if (other.bytes, other.crc) != (member.bytes, member.crc) and layouts.is_picture(member.name):
            raise BuildError(f"{archive} holds {member.name} twice, with different bytes: create the archive again")
    top = _wrapping_folder(members)
    files = Files()
    files.add_source(member_path(archive, top))
    for name, member in members.items():
        files.add(name.removeprefix(top), member.bytes, member_path(archive, member.stored))
    return files


def _wrapping_folder(names: Iterable[str]) -> str:
    """`FOLDER/` if the archive holds everything in a single folder, as file managers create them, unless the folder is
    a part of a layout; otherwise "".
    """
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1:
        return ""
    top = f"{tops.pop()}/"
    below = [name.removeprefix(top) for name in names]
    if layouts.is_whole(list(names)):
        return ""
    if layouts.is_whole(below):
        return top
    return top if any(map(layouts.is_part, below)) and not any(map(layouts.is_part, names)) else ""


def _visible(name: str) -> bool:
    """Whether `name` is neither hidden nor left behind by a file manager.

    Raises:
      BuildError: the name is not UTF-8, so no list or record can hold it.
    """
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise BuildError(f"the file name {name!r} is not UTF-8: rename it") from error
    return listing.is_visible(name)
