"""Selects the splits of an input, and assigns pairs to splits if the folders have none."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.layouts import Layout
from beam_pipelines.recipe import Recipe

Claims = Mapping[tuple[str, str], list[str]]  # (split or "", stem) -> the names of the files that claim it


def select_splits(
    images: Claims, masks: Claims, recipe: Recipe, layout: Layout
) -> tuple[set[tuple[str, str]], list[str]]:
    """-> the (split, stem) of the selected splits, and notes on those that are left out.

    Raises:
      BuildError: the recipe and the folders have different splits.
    """
    keys = images.keys() | masks.keys()
    there = Counter(split for split, _ in images)
    _check_splits(there, images, recipe)
    if "" in there:
        return keys, []
    if recipe.split_names:
        return {key for key in keys if key[0] in recipe.split_names}, []
    with_masks = Counter(split for split, _ in masks)
    reasons = {split: _reason_to_leave_out(split, with_masks, layout) for split in sorted(there)}
    notes = [f"{split}: {there[split]:,} images are left out, {reason}" for split, reason in reasons.items() if reason]
    for split in sorted(with_masks.keys() - there.keys()):
        notes.append(f"{split}: {with_masks[split]:,} masks are left out, none of them has an image")
    return {key for key in keys if reasons.get(key[0]) == ""}, notes


def assigned_split(keys: set[tuple[str, str]], recipe: Recipe) -> Callable[[str], str]:
    """-> a function that assigns a stem to a split, by the hash of the stem or of the text that --group_by finds in it.

    Raises:
      BuildError: the folders have no splits, and the recipe has no shares.
    """
    if all(split for split, _ in keys):
        return str
    if not recipe.split_fractions:
        raise BuildError(
            "the folders have no splits (train/, val/): give --splits=train=0.8,val=0.2, and --group_by=REGEX to "
            "keep the images of a drive or a city in one split"
        )

    def assign(stem: str) -> str:
        place = int.from_bytes(hashlib.sha256(_group_of(stem, recipe.group_by).encode()).digest()[:8], "big") / 2**64
        for split, share in sorted(recipe.split_fractions.items()):
            place -= share
            if place < 0:
                return split
        return split

    return assign


def _check_splits(there: Counter[str], images: Claims, recipe: Recipe) -> None:
    if "" in there:
        if len(there) > 1:
            loose = next(stem for split, stem in images if not split)
            raise BuildError(
                f"some images are in folders of splits, and others, such as {loose}, are not: move these into one"
            )
        return
    names = ", ".join(sorted(there))
    if recipe.split_fractions:
        raise BuildError(f"--splits has shares, but the folders already have splits ({names}): name the ones to build")
    missing = set(recipe.split_names) - there.keys()
    if missing:
        raise BuildError(f"--splits names {', '.join(sorted(missing))}; the input has {names}")


def _reason_to_leave_out(split: str, with_masks: Counter[str], layout: Layout) -> str:
    if split in layout.unlabeled:
        return "their annotations are placeholders (give --splits to build them)"
    return "" if split in with_masks else "none of them has a mask"


def _group_of(stem: str, group_by: str | None) -> str:
    if group_by is None:
        return stem
    match = re.search(group_by, stem)
    group = match and match.group(1 if match.re.groups else 0)
    if not group:
        raise BuildError(f"--group_by={group_by} matches nothing in {stem!r}: every key needs a group")
    return group
