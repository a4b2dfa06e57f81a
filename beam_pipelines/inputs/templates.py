"""File names as templates, such as `images/{split}/{key}.{type}`: what a name tells of its split and its key."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.contract.image_types import IMAGE_TYPES

ANY_TYPE = "|".join(IMAGE_TYPES)
_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT_FOLDER = re.compile(rf"({'|'.join(_SPLIT_OF)})(?:[-_]?(?:19|20)\d\d)?", re.IGNORECASE)  # also train2017
_LIKE_SPLIT = re.compile(rf"(?i:{'|'.join(_SPLIT_OF)}|trainval|dev|eval)(?![a-z])")  # train_extra, testA; not trains
_PARTS = re.compile(r"(\{split\}|\{key\}|\{type\}|\*\*/|\*)")


@dataclass(frozen=True)
class Name:
    """What the name of a file tells: the folders that stand for splits, and the key that image and mask share."""

    folders: tuple[str, ...]
    key: str


@functools.lru_cache(maxsize=1 << 16)
def split_of_folder(folder: str) -> str | None:
    """The split that a folder of this name usually holds: `train2017` -> `train`; None if it is not such a name."""
    match = _SPLIT_FOLDER.fullmatch(folder)
    return _SPLIT_OF[match[1].lower()] if match else None


def looks_like_split(folder: str) -> bool:
    """Whether a folder of this name seems to hold a split, though its name is not a usual one."""
    return split_of_folder(folder) is None and _LIKE_SPLIT.match(folder) is not None


@dataclass(frozen=True)
class Template:
    """A pattern of file names below the input.

    `{split}` is a part of a folder's name, `{key}` what image and mask share: the last one may hold folders, others
    (joined with slashes) are parts of one name. `{type}` is any type of image, `*` any text without a slash, and `**/`
    any folders. Types of files match in any case. `splits` are the only splits that match, if there are any, and
    `key_start` is the beginning of the last key.
    """

    text: str
    splits: tuple[str, ...] = ()
    key_start: str = ""

    def match(self, name: str) -> Name | None:
        """None if the name is not of this form."""
        found = self._regex.fullmatch(name)
        if found is None:
            return None
        groups = found.groupdict()
        split = groups.get("split")
        key = "/".join(value for group, value in groups.items() if group.startswith("key"))
        return Name((split,) if split else (), key)

    def matches(self, name: str) -> bool:
        return self._regex.fullmatch(name) is not None

    @property
    def folders(self) -> frozenset[str]:
        """The names of folders that the template spells out."""
        return frozenset(part for part in self.text.split("/")[:-1] if part and not re.search(r"[{*]", part))

    @property
    def shown(self) -> str:
        """For messages."""
        return self.text.removeprefix("**/").replace("{split}", "SPLIT").replace("{key}", "*").replace(".{type}", ".*")

    @functools.cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = _PARTS.split(self.text)
        made: list[str] = []
        keys, splits = parts.count("{key}"), 0
        for part in parts:
            if part == "{key}":
                keys -= 1
                form = "[^/]+" if keys else re.escape(self.key_start) + ".+"
                made.append(f"(?P<key{len(made)}>{form})")
            elif part == "{split}":
                splits += 1
                any_split = "|".join(map(re.escape, self.splits)) or "[^/]+?"
                made.append(f"(?P<split>{any_split})" if splits == 1 else "(?P=split)")
            else:
                made.append(_regex_of(part))
        return re.compile("".join(made), re.DOTALL)  # a name may contain line breaks


def _regex_of(part: str) -> str:
    known = {"{type}": f"(?i:{ANY_TYPE})", "**/": "(?:.*/)?", "*": "[^/]*"}
    if part in known:
        return known[part]
    text, dot, ending = part.rpartition(".")
    if dot and ending.isalnum():
        return f"{re.escape(text)}\\.(?i:{re.escape(ending)})"
    return re.escape(part)


@dataclass(frozen=True)
class FolderTemplate:
    """Files of the given types anywhere in `folder`, which may be in the folder of a split, or anywhere at all if it is
    ""; folders below it that are named like splits are splits. Names of folders match in any case. The key has no
    `suffix`, which ends the stem.
    """

    folder: str
    types: tuple[str, ...]
    suffix: str = ""

    def match(self, name: str) -> Name | None:
        """None if the name is not of this form."""
        parts = self._parts(name)
        if parts is None:
            return None
        above, below, file = parts
        stem = file.rpartition(".")[0]
        if not stem.endswith(self.suffix):
            return None
        stem = stem[: len(stem) - len(self.suffix)]
        rest = [folder for folder in below if split_of_folder(folder) is None]
        splits = [folder for folder in (*above, *below) if split_of_folder(folder)]
        return Name(tuple(splits), "/".join([*rest, stem])) if stem else None

    def matches(self, name: str) -> bool:
        return self.match(name) is not None

    @property
    def folders(self) -> frozenset[str]:
        return frozenset({self.folder} - {""})

    @property
    def text(self) -> str:
        """As a Template."""
        kind = self.types[0] if len(self.types) == 1 else "{type}"
        return f"{self.folder}/{{key}}{self.suffix}.{kind}".removeprefix("/")

    @property
    def shown(self) -> str:
        kind = self.types[0] if len(self.types) == 1 else "*"
        return f"{self.folder}/*{self.suffix}.{kind}".removeprefix("/")

    def _parts(self, name: str) -> tuple[Sequence[str], Sequence[str], str] | None:
        *folders, file = name.split("/")
        if not self.folder:
            return ([], folders, file) if self._has_type(file) else None
        for place in (0, 1):
            here = "".join(folders[place : place + 1]).lower()
            if here == self.folder and all(map(split_of_folder, folders[:place])):
                return (folders[:place], folders[place + 1 :], file) if self._has_type(file) else None
        return None

    def _has_type(self, file: str) -> bool:
        dot = file.rfind(".")
        return dot > 0 and file[dot + 1 :].lower() in self.types
