"""Finds the images and masks of an input and pairs them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import modified
from beam_pipelines.inputs.detection import Files, detect, other_images
from beam_pipelines.inputs.input_files import list_inputs
from beam_pipelines.inputs.layouts import SPLIT_OF_FOLDER
from beam_pipelines.inputs.splits import Claims, assigned_split, select_splits
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected


@dataclass(frozen=True)
class Pair:
    """An image and its mask. `key` is unique in the data set; `filename` is the image's path below the input."""

    key: str
    split: str
    filename: str
    image: str
    mask: str
    bytes: int
    modified: int = 0  # of both files, if the file system tells; a resumed build notices a change by it


@dataclass(frozen=True)
class Found:
    """The content of an input: pairs by key, pairing problems, and notes on what is left out."""

    pairs: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]


def find_pairs(recipe: Recipe, inputs: str) -> Found:
    """Pairs the images and masks in `inputs` (comma-separated folders and zip archives), as `recipe` says.

    Raises:
      BuildError: there is nothing to build from, or the splits can't be determined.
    """
    files = list_inputs(inputs)
    layout, mask = detect(files, recipe.annotations, inputs)
    images, masks = _by_key(files, layout.image), _by_key(files, mask)
    selected, notes = select_splits(images, masks, recipe, layout)
    assign = assigned_split(selected, recipe)
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
        raise BuildError(f"{inputs}: no image has a mask with its name; the first problem: {rejected[0].detail}")
    return Found(tuple(pairs), tuple(rejected), (*other_images(files, layout), *notes))


def _by_key(files: Files, pattern: re.Pattern[str]) -> Claims:
    """The names by split and stem. The stem is in the Unicode form NFC: macOS writes NFD, other systems mostly NFC.

    Raises:
      BuildError: a name is in the folders of two splits.
    """
    found = defaultdict(list)
    for name in sorted(files):
        match = pattern.fullmatch(name)
        if match:
            *folders, stem = match.groups()
            found[_split_of(folders, name), _composed(stem)].append(name)
    return found


def _split_of(folders: Sequence[str | None], name: str) -> str:
    """The split that the folders of the file `name` stand for; "" if there are none."""
    splits = {SPLIT_OF_FOLDER.get(folder.lower(), folder): folder for folder in folders if folder}
    if len(splits) > 1:
        both = " and ".join(f"{folder}/" for folder in splits.values())
        raise BuildError(f"{name} is in the folders of two splits, {both}: rename one of them")
    return next(iter(splits), "")


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _pairing_problem(images: list[str], masks: list[str]) -> tuple[str, str] | None:
    """-> (reason, detail)."""
    if len(images) > 1 or len(masks) > 1:
        claims = images if len(images) > 1 else masks
        form = "" if len({_composed(name) for name in claims}) > 1 else "; only their Unicode form differs"
        return "duplicate_key", " and ".join(claims) + " have the same key" + form
    if not masks:
        return "missing_mask", f"{images[0]} has no mask"
    if not images:
        return "missing_image", f"{masks[0]} has no image"
    return None


def _pair(key: str, split: str, files: Files, image: str, mask: str) -> Pair:
    (image_path, image_bytes), (mask_path, mask_bytes) = files[image], files[mask]
    changed = 2 * modified(image_path) + modified(mask_path)
    return Pair(key, split, image, image_path, mask_path, image_bytes + mask_bytes, changed)


def _reject(
    key: str, split: str, files: Files, images: list[str], masks: list[str], reason: str, detail: str
) -> Rejected:
    image, mask = (files[names[0]][0] if names else None for names in (images, masks))
    return Rejected(key=key, split=split, image=image, mask=mask, stage="pair", reason=reason, detail=detail)
