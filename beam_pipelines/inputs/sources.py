"""Finds the images and masks of an input and pairs them."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import modified
from beam_pipelines.files.spool import Spool
from beam_pipelines.inputs import lists
from beam_pipelines.inputs.claims import Claim, Claims, composed
from beam_pipelines.inputs.detection import Detected, detect, other_folders, other_images
from beam_pipelines.inputs.input_files import Files, list_inputs
from beam_pipelines.inputs.layouts import REGION_OPTIONS
from beam_pipelines.inputs.pairs import Pair as Pair
from beam_pipelines.inputs.pairs import PairList
from beam_pipelines.inputs.partners import explained
from beam_pipelines.inputs.region_files import RegionFiles, find_regions, no_regions, not_looked_at, read_regions
from beam_pipelines.inputs.split_lists import splits_of_lists
from beam_pipelines.inputs.splits import assigned_split, select_splits
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected, rejected_pair


@dataclass(frozen=True)
class Source:
    """An input: its files with their layout, or with files of regions; or a list, which needs neither."""

    inputs: str
    files: Files | None = None
    detected: Detected | None = None
    regions: RegionFiles | None = None

    @property
    def form(self) -> str:
        """How the input is read, for people."""
        if self.regions:
            return f"regions of {self.regions.format.name}"
        return f"layout {self.detected.layout.name}" if self.detected else "list of pairs"


@dataclass(frozen=True)
class Found:
    """The content of an input: pairs by key, pairing problems, and notes on what is left out. Masks that are documents
    exist as long as the `spool`.
    """

    pairs: PairList
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]
    spool: Spool | None = field(default=None, compare=False)


def open_source(recipe: Recipe, inputs: str) -> Source:
    """Lists the files of `inputs` (comma-separated folders and zip archives, or a list of pairs).

    Raises:
      BuildError: there is nothing to build from, or no layout fits.
    """
    if lists.is_list(inputs):
        return Source(inputs)
    files = list_inputs(inputs)
    if recipe.layout in REGION_OPTIONS:
        regions = find_regions(files, recipe.layout)
        if regions is None:
            raise no_regions(inputs, recipe.layout)
        return Source(inputs, files, regions=regions)
    try:
        return Source(inputs, files, detect(files, recipe, inputs))
    except BuildError as error:
        if recipe.layout or recipe.images:
            raise
        regions = find_regions(files)
        if regions is None and (hint := not_looked_at(files)):
            raise BuildError(f"{error}; {hint}") from error
        if regions is None:
            raise
        return Source(inputs, files, regions=regions)


def find_pairs(recipe: Recipe, inputs: str, source: Source | None = None) -> Found:
    """Pairs the images and masks in `inputs`, as `recipe` says; `source` is what `open_source` gives for both.

    Raises:
      BuildError: there is nothing to build from, or the splits can't be determined.
    """
    source = source or open_source(recipe, inputs)
    spool = Spool() if source.regions else None
    if source.files is None:
        pairs, rejected, notes = lists.read_pairs(recipe, inputs)
    elif source.regions and spool:
        pairs, rejected, notes = read_regions(recipe, source.files, source.regions, spool)
    elif source.detected:
        pairs, rejected, notes = _paired(source.files, source.detected, recipe)
    if not pairs:
        problem = f"; the first problem: {rejected[0].detail}" if rejected else ""
        raise BuildError(f"{inputs}: no image has a mask with its name{problem}")
    return Found(pairs, tuple(rejected), tuple(notes), spool)


def _paired(files: Files, detected: Detected, recipe: Recipe) -> tuple[PairList, list[Rejected], list[str]]:
    layout = detected.layout
    lists_of_splits = layout.split_lists and splits_of_lists(files, layout.split_lists)
    of_key: Callable[[str], str | None] = lists_of_splits.get if lists_of_splits else lambda _: ""
    claims = Claims(files, detected.images, detected.masks, of_key)
    selection = select_splits(claims, recipe, layout)
    assign = assigned_split(recipe) if selection.pooled or "" in selection.splits else None
    pairs, rejected = PairList(), []
    for claim in claims.drain():
        if claim.split not in selection.splits:
            continue
        split = assign(claim.key) if assign else claim.split
        problem = _pairing_problem(files, claim)
        if problem:
            rejected.append(_reject(_key(claim), split, files, claim, *problem))
        else:
            pairs.append(_pair(_key(claim), split, files, claim))
    notes = [*detected.notes, *other_images(files, layout), *other_folders(files, layout), *selection.notes]
    notes += _mixed(claims, detected, selection.splits)
    if claims.unlisted and layout.split_lists:
        where = layout.split_lists.shown
        notes.append(f"{claims.unlisted:,} images are left out: they are in none of the lists {where}")
    return pairs, explained(files, rejected, layout.is_image), notes


def _mixed(claims: Claims, detected: Detected, splits: Set[str]) -> list[str]:
    """A note for each of the splits whose masks are not of the first kind."""
    others = {split: detected.masks[kind].name for split, kind in claims.kind_of_split.items() if kind}
    return [f"{split}: its masks are those of {name}" for split, name in others.items() if split in splits]


def _key(claim: Claim) -> str:
    return f"{claim.split}/{claim.key}" if claim.split else claim.key


def _pairing_problem(files: Files, claim: Claim) -> tuple[str, str] | None:
    """-> (reason, detail)."""
    if len(claim.images) > 1 or len(claim.masks) > 1:
        names = [files.name_at(place) for place in (claim.images if len(claim.images) > 1 else claim.masks)]
        form = "" if len(set(map(composed, names))) > 1 else "; only their Unicode form differs"
        return "duplicate_key", " and ".join(names) + " have the same key" + form
    if not claim.masks:
        return "missing_mask", f"{files.name_at(claim.images[0])} has no mask"
    if not claim.images:
        return "missing_image", f"{files.name_at(claim.masks[0])} has no image"
    return None


def _pair(key: str, split: str, files: Files, claim: Claim) -> Pair:
    (image, mask) = claim.images[0], claim.masks[0]
    (image_path, image_bytes), (mask_path, mask_bytes) = files.at(image), files.at(mask)
    changed = 2 * modified(image_path) + modified(mask_path)
    return Pair(key, split, files.name_at(image), image_path, mask_path, image_bytes + mask_bytes, changed)


def _reject(key: str, split: str, files: Files, claim: Claim, reason: str, detail: str) -> Rejected:
    image, mask = (files.at(places[0])[0] if places else None for places in (claim.images, claim.masks))
    return rejected_pair(key, split, image, mask, reason, detail)
