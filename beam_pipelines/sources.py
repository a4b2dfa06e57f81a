"""Finds images and masks and pairs them: Cityscapes as it comes, or flat folders; from folders, buckets and zips."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from beam_pipelines import storage
from beam_pipelines.errors import BuildError
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected

MASK_FOLDERS = ("masks", "annotations", "labels")
_IMAGE_TYPES = "jpg|jpeg|png|bmp|tif|tiff|webp"
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
_CITYSCAPES_IMAGE = re.compile(r"(?:.*/)?leftImg8bit/([^/]+)/(.+)_leftImg8bit\.png")
_FLAT_IMAGE = re.compile(rf"(?:({_SPLIT})/)?images/(?:({_SPLIT})/)?(.+)\.(?:{_IMAGE_TYPES})", re.IGNORECASE)
_PICTURE = re.compile(rf".+\.(?:{_IMAGE_TYPES})", re.IGNORECASE)
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
    for source in inputs.split(","):
        listing = _list_zip(source) if source.endswith(".zip") else _list_folder(source.rstrip("/"))
        # Only pictures: each archive of Cityscapes has a README and a license.txt.
        twice = {name for name in files.keys() & listing.keys() if _PICTURE.fullmatch(name)}
        if twice:
            raise BuildError(f"--input={inputs}: {min(twice)} is in more than one of them")
        files |= listing
    return files


def _list_folder(folder: str) -> dict[str, tuple[str, int]]:
    """The folder's files; where no picture stands where one is looked for, those of the zip archives in it."""
    names = {name: (storage.join(folder, name), size) for name, size in storage.list_files(folder) if _visible(name)}
    if any(_CITYSCAPES_IMAGE.fullmatch(name) or _FLAT_IMAGE.fullmatch(name) for name in names):
        return names
    archives = sorted(name for name in names if name.endswith(".zip") and "/" not in name)
    for archive in archives:
        names |= _list_zip(storage.join(folder, archive))
    return names


def _list_zip(archive: str) -> dict[str, tuple[str, int]]:
    members = storage.archive_members(archive)
    return {name: (storage.member_path(archive, name), size) for name, size in members if _visible(name)}


def _visible(name: str) -> bool:
    """Not one of the shadow files that file managers leave behind.

    Raises:
      BuildError: the name is not UTF-8, so that no list or record could hold it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BuildError(f"the file name {name!r} is not UTF-8: rename it") from error
    return not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith(".")


def _cityscapes_layout(files: _Files, recipe: Recipe, inputs: str) -> _Layout:
    kinds = [recipe.annotations] if recipe.annotations else ["gtFine", "gtCoarse"]
    for kind in kinds:
        mask = re.compile(rf"(?:.*/)?{kind}/([^/]+)/(.+)_{kind}_labelIds\.png")
        if any(mask.fullmatch(name) for name in files):
            return _Layout(_CITYSCAPES_IMAGE, mask)
    raise BuildError(
        f"{inputs} has images of Cityscapes (leftImg8bit) but no masks of it, "
        f"{' or '.join(kinds)}/SPLIT/CITY/*_labelIds.png: add gtFine_trainvaltest.zip, or what is in it, to --input"
    )


def _flat_layout(files: _Files, inputs: str) -> _Layout:
    def pattern(folder: str) -> re.Pattern[str]:
        return re.compile(rf"(?:({_SPLIT})/)?{folder}/(?:({_SPLIT})/)?(.+)\.png", re.IGNORECASE)

    folders = [folder for folder in MASK_FOLDERS if any(pattern(folder).fullmatch(name) for name in files)]
    if len(folders) > 1:
        raise BuildError(f"{inputs} has masks in {' and in '.join(folders)}: leave one of these folders")
    if not folders or not any(_FLAT_IMAGE.fullmatch(name) for name in files):
        raise BuildError(
            f"{inputs}: found neither Cityscapes (leftImg8bit/ and gtFine/, or the two zips) nor images/ with "
            f"{', '.join(MASK_FOLDERS[:-1])} or {MASK_FOLDERS[-1]}/ beside it, among {len(files):,} files"
        )
    return _Layout(_FLAT_IMAGE, pattern(folders[0]))


def _by_key(files: _Files, pattern: re.Pattern[str]) -> dict[tuple[str, str], list[str]]:
    """(split or "", stem) -> the names that claim it."""
    found = defaultdict(list)
    for name in sorted(files):
        match = pattern.fullmatch(name)
        if match:
            *splits, stem = match.groups()
            folder = next((split for split in splits if split), "")
            found[_SPLIT_OF_FOLDER.get(folder.lower(), folder), stem].append(name)
    return found


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
        return "duplicate_key", " and ".join(images if len(images) > 1 else masks) + " have one key"
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
