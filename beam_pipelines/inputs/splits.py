"""Selects the splits of an input, and assigns pairs to splits if the folders have none."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from beam_pipelines.contract.schema import is_plain_name
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.claims import Claims
from beam_pipelines.inputs.layout import Layout
from beam_pipelines.inputs.templates import looks_like_split, split_of_folder
from beam_pipelines.recipe import Recipe

_PATTERNS = "--images='images/{split}/{key}.png' --masks='masks/{split}/{key}.png', with the names of your folders,"


class NoSplitsError(BuildError):
    """Nothing tells the split of a pair."""


@dataclass(frozen=True)
class Selection:
    """The splits to build. `pooled`: the pairs of all of them are divided anew by shares."""

    splits: frozenset[str]
    notes: tuple[str, ...] = field(default=())
    pooled: bool = False


def select_splits(claims: Claims, recipe: Recipe, layout: Layout) -> Selection:
    """Raises BuildError if the recipe and the folders have different splits."""
    there = claims.images
    _check_splits(claims, recipe)
    if "" in there:
        _check_folders(claims, recipe)
        return Selection(frozenset({""}))
    if recipe.split_names:
        return Selection(frozenset(recipe.split_names))
    reasons = {split: _reason_to_leave_out(split, claims, layout) for split in sorted(there)}
    notes = [f"{split}: {there[split]:,} images are left out, {reason}" for split, reason in reasons.items() if reason]
    for split in sorted(claims.masks.keys() - there.keys()):
        notes.append(f"{split}: {claims.masks[split]:,} masks are left out, none of them has an image")
    chosen = frozenset(split for split, reason in reasons.items() if not reason)
    if recipe.pool_splits:
        shares = ", ".join(f"{split} {share:.0%}" for split, share in recipe.split_fractions.items())
        notes.append(f"the input's splits ({', '.join(sorted(chosen))}) are pooled and divided anew: {shares}")
    return Selection(chosen, tuple(notes), recipe.pool_splits)


def assigned_split(recipe: Recipe) -> Callable[[str], str]:
    """-> a function that assigns a key to a split, by the hash of the key or of the text that --group_by finds in it.

    Raises:
      NoSplitsError: the recipe has no shares.
    """
    if not recipe.split_fractions:
        raise NoSplitsError(
            "the folders have no splits (train/, val/): give --splits=train=0.8,val=0.2, and --group_by=REGEX to "
            "keep the images of a drive or a city in one split"
        )
    return lambda key: split_of_key(key, recipe.split_fractions, recipe.group_by)


class GivenSplits:
    """The splits of pairs that a list or annotations give: those, or shares, as the recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._assign = assigned_split(recipe) if recipe.split_fractions else None
        self._there: Counter[str] = Counter()

    def of(self, given: str, key: str, place: str) -> str | None:
        """The split of the pair at `place`; None if the recipe leaves it out. `given` may be "".

        Raises:
          BuildError: the pair has no split and the recipe no shares, or both have them, or files can't be named so.
        """
        if given and not is_plain_name(given):
            raise BuildError(
                f"{place} has the split {given!r}, which can't be in the name of a file: give it another name"
            )
        self._there[given] += 1
        if given and self._assign and not self._recipe.pool_splits:
            raise BuildError(
                f"--splits has shares, but {place} has the split {given}: name the splits to build, or give "
                "--pool_splits as well to divide all pairs anew"
            )
        if self._assign:
            return self._assign(key)
        if not given:
            raise NoSplitsError(
                f"{place} has no split: give --splits=train=0.8,val=0.2, and --group_by=REGEX to keep the images of a "
                "drive or a city in one split; a list can have a column `split`"
            )
        return given if not self._recipe.split_names or given in self._recipe.split_names else None

    def notes(self, source: str) -> list[str]:
        """Notes on the splits that are left out. Raises BuildError if `source` lacks one that the recipe names."""
        names, there = self._recipe.split_names, self._there
        missing = set(names) - there.keys()
        if missing:
            has = ", ".join(sorted(there)) or "none"
            raise BuildError(f"--splits names {', '.join(sorted(missing))}; {source} has {has}")
        left_out = [split for split in sorted(there) if names and split not in names]
        return [f"{split}: {there[split]:,} pairs are left out" for split in left_out]


def split_of_key(key: str, shares: Mapping[str, float], group_by: str | None) -> str:
    """The split to which the hash of the key, or of its group, assigns it."""
    place = int.from_bytes(hashlib.sha256(group_of(key, group_by).encode()).digest()[:8], "big") / 2**64
    for split, share in sorted(shares.items()):
        place -= share
        if place < 0:
            return split
    return split


def _check_splits(claims: Claims, recipe: Recipe) -> None:
    there = claims.images
    if "" in there:
        if len(there) > 1:
            raise BuildError(
                f"some images are in folders of splits, and others, such as {claims.first_key_without_split()}, are "
                "not: move these into one"
            )
        return
    names = ", ".join(sorted(there))
    if recipe.split_fractions and not recipe.pool_splits:
        raise BuildError(
            f"--splits has shares, but the folders already have splits ({names}): name the ones to build, or give "
            "--pool_splits as well to divide all of their pairs anew"
        )
    missing = set(recipe.split_names) - there.keys()
    if missing:
        raise BuildError(f"--splits names {', '.join(sorted(missing))}; the input has {names}")


def _check_folders(claims: Claims, recipe: Recipe) -> None:
    """Raises BuildError if folders are splits, or look like some, that no template names: shares would mix them."""
    odd = sorted(filter(_is_split, claims.folders_of_images()))
    if recipe.pool_splits and not odd:
        raise BuildError("--pool_splits is for an input that has splits, and the folders have none")
    if odd and recipe.split_fractions and not recipe.pool_splits:
        raise BuildError(
            f"the folders {', '.join(f'{folder}/' for folder in odd)} look like splits, which shares in --splits would "
            f"mix: give {_PATTERNS} to keep them, or --pool_splits to mix them"
        )


def _is_split(folder: str) -> bool:
    return split_of_folder(folder) is not None or looks_like_split(folder)


def _reason_to_leave_out(split: str, claims: Claims, layout: Layout) -> str:
    if split in layout.unlabeled:
        return "their annotations are placeholders (give --splits to build them)"
    return "" if split in claims.masks else "none of them has a mask"


def group_of(key: str, group_by: str | None) -> str:
    """The text of which the hash decides the split. Raises BuildError if `group_by` finds none."""
    if group_by is None:
        return key
    match = re.search(group_by, key)
    group = match and match.group(1 if match.re.groups else 0)
    if not group:
        raise BuildError(f"--group_by={group_by} matches nothing in {key!r}: every key needs a group")
    return group
