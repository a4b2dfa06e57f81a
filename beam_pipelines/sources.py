"""Finds images and masks and pairs them: Cityscapes as it comes, or flat folders; from folders, buckets and zips."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from beam_pipelines import archives, listing, storage
from beam_pipelines.errors import BuildError
from beam_pipelines.recipe import Recipe, input_paths
from beam_pipelines.rejects import Rejected

MASK_FOLDERS = ("masks", "annotations", "labels")
_IMAGE_TYPES = "jpg|jpeg|jpe|jfif|png|bmp|tif|tiff|webp"
_SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT = "|".join(_SPLIT_OF_FOLDER)
_FLAGS = re.IGNORECASE | re.DOTALL  # a name may hold line breaks
_CITYSCAPES_IMAGE = re.compile(r"(?:.*/)?leftImg8bit/([^/]+)/(.+)_leftImg8bit\.png", re.DOTALL)
_FLAT_IMAGE = re.compile(rf"(?:({_SPLIT})/)?images/(?:({_SPLIT})/)?(.+)\.(?:{_IMAGE_TYPES})", _FLAGS)
_FLAT_START = re.compile(rf"(?:(?:{_SPLIT})/)?(images|{'|'.join(MASK_FOLDERS)})/.", _FLAGS)
_PICTURE = re.compile(rf".+\.(?:{_IMAGE_TYPES})", _FLAGS)
_CITYSCAPES_MASKS = {"gtfine", "gtcoarse"}
PICTURE_FOLDERS = {"images", "leftimg8bit", *MASK_FOLDERS, *_CITYSCAPES_MASKS}  # in lower case
_UNLABELLED = "test"  # the split of Cityscapes whose annotations are dummies


@dataclass(frozen=True)
class Pair:
    """An image and its mask. `key` is unique in the data set; `filename` is the image's place below the input."""

    key: str
    split: str
    filename: str
    image: str
    mask: str
    bytes: int
    modified: int = 0  # of both files together, where the file system tells: what a resumed build knows changes by


@dataclass(frozen=True)
class Found:
    """What an input holds: pairs by key, problems, and sentences about what was left out."""

    pairs: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """Which files are images and masks, as expressions with a split (perhaps none) and a stem."""

    image: re.Pattern[str]
    mask: re.Pattern[str]


_Files = Mapping[str, tuple[str, int]]  # name below the input -> (path, bytes)


def find_pairs(recipe: Recipe, inputs: str) -> Found:
    """Pairs all that `inputs` (comma-separated folders and zip archives) hold, as `recipe` says.

    Raises:
      BuildError: there is nothing to build from, or the splits can't be told.
    """
    files = _list_inputs(inputs)
    cityscapes = any(_CITYSCAPES_IMAGE.fullmatch(name) for name in files)
    if recipe.annotations and not cityscapes:
        raise BuildError(f"--annotations={recipe.annotations} is for Cityscapes, and {inputs} is not laid out like it")
    layout = _cityscapes_layout(files, recipe, inputs) if cityscapes else _flat_layout(files, inputs)
    images, masks = _by_key(files, layout.image), _by_key(files, layout.mask)
    if not images or not masks:
        raise BuildError(
            f"{inputs} has {len(images)} images and {len(masks)} masks; the README shows what is looked for"
        )
    selected, notes = _select_splits(images, masks, recipe, drop_test=cityscapes)
    assign = _assigned_split(selected, recipe)
    pairs, rejected = [], []
    for split, stem in sorted(selected):
        found = images.get((split, stem), []), masks.get((split, stem), [])
        problem = _pairing_problem(*found)
        key = f"{split}/{stem}" if split else stem
        split = split or assign(stem)
        if problem:
            rejected.append(_reject(key, split, files, *found, *problem))
        else:
            pairs.append(_pair(key, split, files, found[0][0], found[1][0]))
    if not pairs:
        raise BuildError(f"{inputs}: no image has a mask of its name; the first problem: {rejected[0].detail}")
    return Found(tuple(pairs), tuple(rejected), tuple(notes))


def _list_inputs(inputs: str) -> _Files:
    files: dict[str, tuple[str, int]] = {}
    sources = input_paths(inputs)
    for source in sources:
        if len(sources) > 1 and storage.is_local(source) and not os.path.exists(source):
            raise BuildError(f"{source} does not exist; commas in --input={inputs} separate its paths")
        packed = archives.is_archive(source) and not (storage.is_local(source) and os.path.isdir(source))
        found = _list_zip(source) if packed else _list_folder(source.rstrip("/") or "/")
        # Only pictures: each archive of Cityscapes has a README and a license.txt.
        twice = {name for name in files.keys() & found.keys() if _PICTURE.fullmatch(name)}
        if twice:
            raise BuildError(f"--input={inputs}: {min(twice)} is in more than one of them")
        files |= found
    return files


def _list_folder(folder: str) -> dict[str, tuple[str, int]]:
    """The folder's files; where no picture stands where one is looked for, those of the zip archives in it."""
    names = {name: (storage.join(folder, name), size) for name, size in storage.list_files(folder) if _visible(name)}
    if any(_CITYSCAPES_IMAGE.fullmatch(name) or _FLAT_IMAGE.fullmatch(name) for name in names):
        return names
    packed = sorted(name for name in names if archives.is_archive(name) and "/" not in name)
    for archive in packed:
        names |= _list_zip(storage.join(folder, archive))
    return names


def _list_zip(archive: str) -> dict[str, tuple[str, int]]:
    members: dict[str, archives.Member] = {}
    for member in archives.list_members(archive):
        if not _visible(member.name):
            continue
        other = members.setdefault(member.name, member)
        if (other.bytes, other.crc) != (member.bytes, member.crc) and _PICTURE.fullmatch(member.name):
            raise BuildError(f"{archive} holds {member.name} twice, with different bytes: make the archive again")
    top = _wrapping_folder(members)
    return {
        name.removeprefix(top): (storage.member_path(archive, member.stored), member.bytes)
        for name, member in members.items()
    }


def _wrapping_folder(names: Iterable[str]) -> str:
    """`FOLDER/` where all of an archive with images/ or masks/ is below one folder, as file managers pack; else ""."""
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or any(_FLAT_START.match(name) for name in names):
        return ""
    top = f"{tops.pop()}/"
    return top if any(_FLAT_START.match(name.removeprefix(top)) for name in names) else ""


def _visible(name: str) -> bool:
    """Not hidden, and not one of the shadow files that file managers leave behind.

    Raises:
      BuildError: the name is not UTF-8, so that no list or record could hold it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BuildError(f"the file name {name!r} is not UTF-8: rename it") from error
    return listing.is_visible(name)


def _cityscapes_layout(files: _Files, recipe: Recipe, inputs: str) -> _Layout:
    kinds = [recipe.annotations] if recipe.annotations else ["gtFine", "gtCoarse"]
    for kind in kinds:
        mask = re.compile(rf"(?:.*/)?{kind}/([^/]+)/(.+)_{kind}_labelIds\.png", re.DOTALL)
        if any(mask.fullmatch(name) for name in files):
            return _Layout(_CITYSCAPES_IMAGE, mask)
    raise BuildError(
        f"{inputs} has images of Cityscapes (leftImg8bit) but no masks of it, "
        f"{' or '.join(kinds)}/SPLIT/CITY/*_labelIds.png: add gtFine_trainvaltest.zip, or what is in it, to --input"
    )


def _flat_layout(files: _Files, inputs: str) -> _Layout:
    def pattern(folder: str) -> re.Pattern[str]:
        return re.compile(rf"(?:({_SPLIT})/)?{folder}/(?:({_SPLIT})/)?(.+)\.png", _FLAGS)

    folders = [folder for folder in MASK_FOLDERS if any(pattern(folder).fullmatch(name) for name in files)]
    if len(folders) > 1:
        raise BuildError(f"{inputs} has masks in {' and in '.join(folders)}: leave one of these folders")
    if not folders or not any(_FLAT_IMAGE.fullmatch(name) for name in files):
        right = _folder_below(files) or _folder_above(inputs)
        if right:
            raise BuildError(f"{inputs} is not the folder with the images and the masks: give --input={right}")
        raise BuildError(
            f"{inputs}: found neither Cityscapes (leftImg8bit/ and gtFine/, or the two zips) nor images/ with "
            f"{', '.join(MASK_FOLDERS[:-1])} or {MASK_FOLDERS[-1]}/ beside it, among {len(files):,} files"
        )
    return _Layout(_FLAT_IMAGE, pattern(folders[0]))


def _folder_below(files: _Files) -> str | None:
    """The first folder below the input that has both images/ and masks/ as they are looked for."""
    kinds = defaultdict(set)
    loose = ((name, path) for name, (path, _) in files.items() if not storage.is_member(path))
    for name, path in loose:
        parts = name.split("/")
        for depth in range(1, len(parts) - 1):
            found = _FLAT_START.match("/".join(parts[depth:]))
            if found and _PICTURE.fullmatch(name):
                folder = path.removesuffix("/" + "/".join(parts[depth:]))
                kinds[folder].add(found[1].lower() == "images")
    return min((folder for folder, both in kinds.items() if len(both) == 2), default=None)


def _folder_above(inputs: str) -> str | None:
    """The nearest of the three folders above a local input that has images and masks, Cityscapes' or flat ones."""
    folder = os.path.abspath(inputs)
    if not storage.is_local(inputs) or not os.path.isdir(folder):
        return None
    for _ in range(3):
        folder = os.path.dirname(folder)
        try:
            names = {name.lower() for name in os.listdir(folder)}
        except OSError:
            return None
        if ("images" in names and names & set(MASK_FOLDERS)) or ("leftimg8bit" in names and names & _CITYSCAPES_MASKS):
            return folder
    return None


def _by_key(files: _Files, pattern: re.Pattern[str]) -> dict[tuple[str, str], list[str]]:
    """(split or "", stem in Unicode's form NFC) -> the names that claim it: macOS writes NFD, others mostly NFC."""
    found = defaultdict(list)
    for name in sorted(files):
        match = pattern.fullmatch(name)
        if match:
            *splits, stem = match.groups()
            folder = next((split for split in splits if split), "")
            found[_SPLIT_OF_FOLDER.get(folder.lower(), folder), _composed(stem)].append(name)
    return found


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _select_splits(
    images: Mapping[tuple[str, str], list[str]],
    masks: Mapping[tuple[str, str], list[str]],
    recipe: Recipe,
    drop_test: bool,
) -> tuple[set[tuple[str, str]], list[str]]:
    """-> the (split, stem) of the splits to take, and what to say of those that are left out."""
    keys = images.keys() | masks.keys()
    there = Counter(split for split, _ in images) + Counter()
    if "" in there and len(there) > 1:
        loose = next(stem for split, stem in images if not split)
        raise BuildError(f"some images stand in split folders and some, like {loose}, do not: move them into one")
    if recipe.split_fractions and "" not in there:
        raise BuildError(f"--splits with shares, but the folders have splits already: {', '.join(sorted(there))}")
    if "" in there:
        return set(keys), []
    missing = set(recipe.split_names) - there.keys()
    if missing:
        raise BuildError(f"--splits names {', '.join(sorted(missing))}; the input has {', '.join(sorted(there))}")
    labelled = Counter(split for split, _ in masks)
    notes, taken = [], set(recipe.split_names)
    for split, count in sorted(there.items()):
        if recipe.split_names:
            continue
        if drop_test and split == _UNLABELLED:
            notes.append(f"{split}: {count:,} images left out, their annotations are dummies (--splits takes them)")
        elif split not in labelled:
            notes.append(f"{split}: {count:,} images left out, none of them has a mask")
        else:
            taken.add(split)
    if not recipe.split_names:
        without = {split: count for split, count in sorted(labelled.items()) if split not in there}
        notes += [f"{split}: {count:,} masks left out, none of them has an image" for split, count in without.items()]
    return {key for key in keys if key[0] in taken}, notes


def _assigned_split(keys: set[tuple[str, str]], recipe: Recipe) -> Callable[[str], str]:
    """-> a function stem -> split by the hash of the stem, or of what --group_by finds in it."""
    if all(split for split, _ in keys):
        return str
    if not recipe.split_fractions:
        raise BuildError(
            "the folders have no train/ and val/: give --splits=train=0.8,val=0.2 (and perhaps --group_by=REGEX, "
            "to keep the pictures of one drive or city in one split)"
        )

    def assign(stem: str) -> str:
        place = int.from_bytes(hashlib.sha256(_group_of(stem, recipe.group_by).encode()).digest()[:8], "big") / 2**64
        for split, share in sorted(recipe.split_fractions.items()):
            place -= share
            if place < 0:
                return split
        return split

    return assign


def _group_of(stem: str, group_by: str | None) -> str:
    if group_by is None:
        return stem
    match = re.search(group_by, stem)
    group = match and match.group(1 if match.re.groups else 0)
    if not group:
        raise BuildError(f"--group_by={group_by} finds nothing in {stem!r}: every key needs a group")
    return group


def _pairing_problem(images: list[str], masks: list[str]) -> tuple[str, str] | None:
    """-> (reason, detail)."""
    if len(images) > 1 or len(masks) > 1:
        claims = images if len(images) > 1 else masks
        form = "" if len({_composed(name) for name in claims}) > 1 else "; they differ in their Unicode form alone"
        return "duplicate_key", " and ".join(claims) + " have one key" + form
    if not masks:
        return "missing_mask", f"{images[0]} has no mask"
    if not images:
        return "missing_image", f"{masks[0]} has no image"
    return None


def _pair(key: str, split: str, files: _Files, image: str, mask: str) -> Pair:
    (image_path, image_bytes), (mask_path, mask_bytes) = files[image], files[mask]
    modified = storage.modified(image_path) + storage.modified(mask_path)
    return Pair(key, split, image, image_path, mask_path, image_bytes + mask_bytes, modified)


def _reject(
    key: str, split: str, files: _Files, images: list[str], masks: list[str], reason: str, detail: str
) -> Rejected:
    image, mask = (files[names[0]][0] if names else None for names in (images, masks))
    return Rejected(key=key, split=split, image=image, mask=mask, stage="pair", reason=reason, detail=detail)
