"""Patterns of names that tell the images of a data set from its masks, where its input is a folder.

They come from the plan that a data set keeps, and hold no path of this machine. Every pair of the plan is tried: a
pattern that takes a file of another split, or a mask for an image, is not used.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files import storage
from beam_pipelines.files.reader import is_member
from beam_pipelines.files.spool import reference_of
from beam_pipelines.inputs.lists import TYPES as LIST_TYPES
from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.inputs.templates import split_of_folder
from beam_pipelines.shards.plan import read_plan

IMAGE_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "jpe": "image/jpeg", "jfif": "image/jpeg", "png": "image/png"}
_MASK_TYPE = "png"
_REGIONS = "the masks are drawn from regions"
_MAX_SHAPES = 10_000
_MAX_PATTERNS = 16  # of a split
_MAX_DEPTH = 4  # folders that a pattern spells out though both images and masks have them
_UNTOLD = "their names do not tell the split, or images from masks"


class _NoPatternsError(Exception):
    """The reason, which is published: it has no path."""


@dataclass(frozen=True, order=True)
class Names:
    """Names that begin with `start` and end with `end`. What is between is the key: it begins with `key_start`, after
    which it has one of the numbers `levels` of folders.
    """

    start: str
    key_start: str
    end: str
    levels: tuple[int, ...]

    @property
    def includes(self) -> list[str]:
        """As glob patterns."""
        start, end = (re.sub(r"([*?[])", r"[\1]", text) for text in (self.folder, self.end))
        return [f"{start}{'*/' * level}*{end}" for level in self.levels]

    @property
    def regex(self) -> str:
        return f"{re.escape(self.start)}({re.escape(self.key_start)}.+){re.escape(self.end)}"

    @property
    def folder(self) -> str:
        """The folders that all names share, with a slash at the end."""
        return self.start + self.key_start

    def may_take(self, folder: str, end: str) -> bool:
        """Whether a name in `folder`, which ends in a slash, with this `end` may match: true in doubt."""
        return folder.startswith(self.folder) and (end.endswith(self.end) or self.end.endswith(end))


@dataclass(frozen=True)
class SplitPatterns:
    """The images and masks of a split. `types` are the media types of the images."""

    split: str
    images: tuple[Names, ...]
    masks: tuple[Names, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class SourceFolder:
    """A folder of images and masks. `sha256` is of the lines `IMAGE\\0MASK`, names below the folder, of all pairs in
    the order of the plan.
    """

    splits: tuple[SplitPatterns, ...]
    sha256: str


def regex_of(patterns: Sequence[Names]) -> str:
    """The key is the only group that matches."""
    return f"^(?:{'|'.join(names.regex for names in patterns)})$"


def find_patterns(manifest: Manifest, plan: str | None) -> SourceFolder | str:
    """The patterns of the pairs in the file `plan`; or why there are none, a clause about the source pictures.

    Raises:
      BuildError: the plan is damaged.
    """
    try:
        if plan is None:
            raise _NoPatternsError("an earlier version, which kept no list of them, built the data set")
        if str(manifest.recipe.get("input", "")).lower().endswith(LIST_TYPES):
            raise _NoPatternsError("a list chose them")
        if manifest.recipe.get("max_pairs"):
            raise _NoPatternsError("only a part of them is in the data set")
        splits = _patterns_of(_shapes(_pairs(plan)))
        return SourceFolder(splits, _checked(splits, _pairs(plan)))
    except _NoPatternsError as reason:
        return str(reason)


@dataclass(frozen=True)
class _Shape:
    """What pairs share: the folders of image and mask, and what follows the part that both names begin with."""

    image_folders: tuple[str, ...]
    mask_folders: tuple[str, ...]
    image_end: str
    mask_end: str

    @property
    def shared(self) -> int:
        """The number of last folders that image and mask have in common."""
        return _common(self.image_folders[::-1], self.mask_folders[::-1])


def _pairs(plan: str) -> Iterator[tuple[str, str, str]]:
    """Yields (split, image, mask), names below their folder."""
    root = None
    for shard in read_plan(plan):
        for pair in shard.pairs:
            if reference_of(pair.mask):
                raise _NoPatternsError(_REGIONS)
            root = _root_of(pair) if root is None else root
            if not (pair.image == root + pair.filename and pair.mask.startswith(root)):
                raise _NoPatternsError("they are in several folders")
            yield pair.split, pair.filename, pair.mask.removeprefix(root)


def _root_of(pair: Pair) -> str:
    """The folder of the input, with a slash at its end."""
    if not (storage.is_local(pair.image) and storage.is_local(pair.mask)):
        raise _NoPatternsError("they are in a bucket")
    if is_member(pair.image) or is_member(pair.mask):
        raise _NoPatternsError("they are in archives")
    root = pair.image.removesuffix(pair.filename)
    if not root.endswith("/"):
        raise _NoPatternsError("they are not below one folder")
    return root


def _shapes(pairs: Iterable[tuple[str, str, str]]) -> Mapping[str, Set[_Shape]]:
    """Split -> the shapes of its pairs."""
    found: dict[str, set[tuple[str, str, str, str]]] = defaultdict(set)
    for split, image, mask in pairs:
        (image_folder, _, image_name), (mask_folder, _, mask_name) = image.rpartition("/"), mask.rpartition("/")
        start = _length_of_key(image_name.rpartition(".")[0], mask_name.rpartition(".")[0])
        if not start:
            raise _NoPatternsError("the names of images and masks begin differently")
        _check_types(image_name, mask_name)
        found[split].add((image_folder, mask_folder, image_name[start:], mask_name[start:]))
        if len(found[split]) > _MAX_SHAPES:
            raise _NoPatternsError(_UNTOLD)
    return {
        split: {_Shape(_parts(image), _parts(mask), *ends) for image, mask, *ends in shapes}
        for split, shapes in found.items()
    }


def _parts(folder: str) -> tuple[str, ...]:
    return tuple(folder.split("/")) if folder else ()


def _length_of_key(image: str, mask: str) -> int:
    """Of the stems `a_image` and `a_mask` that of `a`, not of `a_`."""
    if mask.startswith(image) or image.startswith(mask):
        return min(len(image), len(mask))
    start = image[: _common(image, mask)]
    return len(start.rstrip("_-. ") or start)


def _check_types(image: str, mask: str) -> None:
    kind = _type_of(image)
    if kind not in IMAGE_TYPES:
        raise _NoPatternsError(f"mlcroissant reads JPEG and PNG files, and some are {kind.upper()} files")
    if _type_of(mask) != _MASK_TYPE:
        raise _NoPatternsError(_REGIONS)


def _type_of(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _patterns_of(shapes: Mapping[str, Set[_Shape]]) -> tuple[SplitPatterns, ...]:
    """The patterns that spell out the fewest folders."""
    for depth in range(_MAX_DEPTH + 1):
        rows = {split: _rows(found, depth) for split, found in shapes.items()}
        if all(len(each) <= _MAX_PATTERNS for each in rows.values()) and _are_apart(rows, shapes):
            return tuple(_split_patterns(split, rows[split]) for split in rows)
    raise _NoPatternsError(_UNTOLD)


_Row = tuple[Names, Names]


def _rows(shapes: Set[_Shape], depth: int) -> list[_Row]:
    """The patterns of images and of masks, the first `depth` folders of whose keys they spell out."""
    groups: dict[tuple[object, ...], list[_Shape]] = defaultdict(list)
    for shape in shapes:
        groups[_group_of(shape, depth)].append(shape)
    return sorted(map(_row, groups.values()))


def _group_of(shape: _Shape, depth: int) -> tuple[object, ...]:
    own, of_mask = (len(folders) - shape.shared for folders in (shape.image_folders, shape.mask_folders))
    spelled_out = shape.image_folders[own : own + depth]
    return shape.image_folders[:own], spelled_out, shape.mask_folders[:of_mask], shape.image_end, shape.mask_end


def _row(group: Sequence[_Shape]) -> _Row:
    """Of shapes whose own folders are the same."""
    first = group[0]
    keys = [shape.image_folders[len(shape.image_folders) - shape.shared :] for shape in group]
    common = min(keys)[: _common(min(keys), max(keys))]
    levels = tuple(sorted({len(key) - len(common) for key in keys}))
    image = first.image_folders[: len(first.image_folders) - first.shared]
    mask = first.mask_folders[: len(first.mask_folders) - first.shared]
    return (
        Names(_folder(image), _folder(common), first.image_end, levels),
        Names(_folder(mask), _folder(common), first.mask_end, levels),
    )


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts both begin with."""
    parts = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in parts if mine != theirs), min(len(one), len(other)))


def _folder(names: Sequence[str]) -> str:
    return "".join(f"{name}/" for name in names)


def _are_apart(rows: Mapping[str, Sequence[_Row]], shapes: Mapping[str, Set[_Shape]]) -> bool:
    """Whether each file may match only the pattern of its own, and the images' patterns name their split."""
    images = {(split, image) for split in rows for image, _ in rows[split]}
    masks = {(split, mask) for split in rows for _, mask in rows[split]}
    for split, found in shapes.items():
        if not all(_names_split(image.folder, split) for image, _ in rows[split]):
            return False
        for shape in found:
            image, mask = (_folder(shape.image_folders), shape.image_end), (_folder(shape.mask_folders), shape.mask_end)
            if (_takers(image, images), _takers(image, masks)) != (1, 0):
                return False
            if (_takers(mask, images), _takers(mask, masks)) != (0, 1):
                return False
    return True


def _takers(file: tuple[str, str], patterns: Iterable[tuple[str, Names]]) -> int:
    return sum(names.may_take(*file) for _, names in patterns)


def _names_split(folder: str, split: str) -> bool:
    return any(split in (name, split_of_folder(name)) for name in folder.split("/"))


def _split_patterns(split: str, rows: Sequence[_Row]) -> SplitPatterns:
    images, masks = (tuple(dict.fromkeys(kind)) for kind in zip(*rows, strict=True))
    types = sorted({IMAGE_TYPES[_type_of(names.end)] for names in images})
    return SplitPatterns(split, images, masks, tuple(types))


def _checked(splits: Sequence[SplitPatterns], pairs: Iterable[tuple[str, str, str]]) -> str:
    """Reads the keys of all pairs by the patterns, as another program does. -> the digest of the pairs' names."""
    regexes = {each.split: (re.compile(regex_of(each.images)), re.compile(regex_of(each.masks))) for each in splits}
    one_pattern = {each.split for each in splits if len(each.images) == 1}
    keys: dict[str, set[int]] = defaultdict(set)  # hashes, which take less memory
    digest = hashlib.sha256()
    for split, *names in pairs:
        image, mask = (_key(regex, name) for regex, name in zip(regexes[split], names, strict=True))
        place = hash(image)
        if image is None or image != mask or place in keys[split]:
            raise _NoPatternsError("several of them have the same key")
        if split not in one_pattern:
            keys[split].add(place)
        digest.update(f"{names[0]}\0{names[1]}\n".encode())
    return digest.hexdigest()


def _key(regex: re.Pattern[str], name: str) -> str | None:
    match = regex.match(name)
    return next((group for group in match.groups() if group is not None), None) if match else None
