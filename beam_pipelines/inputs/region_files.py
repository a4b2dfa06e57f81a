"""Inputs whose masks are regions in a file of many images, as COCO and CVAT write it: found, and paired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import modified
from beam_pipelines.files.spool import Spool, source_of
from beam_pipelines.inputs.annotations import (
    Annotated,
    coco_pairs,
    cvat_pairs,
    find_coco,
    find_cvat,
    may_be_coco,
    may_be_cvat,
)
from beam_pipelines.inputs.claims import composed
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layout import RegionFormat
from beam_pipelines.inputs.layouts import IMAGE_FOLDERS, REGION_FORMATS, is_picture
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.inputs.splits import GivenSplits
from beam_pipelines.inputs.templates import FolderTemplate
from beam_pipelines.inputs.unique import unique
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected, rejected_pair

_Find = Callable[[Files], list[str]]
_Read = Callable[[Files, Sequence[str]], Iterator[Annotated]]
_FUNCTIONS: Mapping[str, tuple[_Find, _Find, _Read]] = {
    "coco": (may_be_coco, find_coco, coco_pairs),
    "cvat": (may_be_cvat, find_cvat, cvat_pairs),
}
_MOST_PEEKED = 100  # files that are opened to see what they are: some data sets have one for each image
_IMAGES = (*(FolderTemplate(folder, IMAGE_TYPES) for folder in IMAGE_FOLDERS), FolderTemplate("", IMAGE_TYPES))


@dataclass(frozen=True)
class RegionFiles:
    """The files `names` of an input that have its regions."""

    format: RegionFormat
    names: tuple[str, ...]


def find_regions(files: Files, option: str | None = None) -> RegionFiles | None:
    """The regions of the format that `option` names, or of the first one that there is; None if there are none, or if
    no option is given and `too_many` files may have them.
    """
    for row in REGION_FORMATS:
        look = option == row.option or (option is None and not too_many(files, row))
        if look and (names := _FUNCTIONS[row.option][1](files)):
            return RegionFiles(row, tuple(names))
    return None


def too_many(files: Files, row: RegionFormat) -> str:
    """What to say if there are too many files to open each and see whether it is of the format; else ""."""
    count = len(_FUNCTIONS[row.option][0](files))
    return f"{count:,} files are too many to see if they are of {row.name}" if count > _MOST_PEEKED else ""


def not_looked_at(files: Files) -> str:
    """Which formats files were not looked at for, and what to do; else ""."""
    said = [f"{many}: give --layout={row.option} if so" for row in REGION_FORMATS if (many := too_many(files, row))]
    return "; ".join(said)


def read_regions(
    recipe: Recipe, files: Files, regions: RegionFiles, spool: Spool
) -> tuple[PairList, list[Rejected], list[str]]:
    """-> the pairs by their keys, the pairing problems, and notes. The masks are documents in `spool`.

    Raises:
      BuildError: a file of regions can't be read, or the splits can't be determined.
    """
    splits = GivenSplits(recipe)
    pairs, missing, takers = PairList(), list[Rejected](), defaultdict[str, list[str]](list)
    for found in _FUNCTIONS[regions.format.option][2](files, regions.names):
        key = _key(found.image or found.wanted)
        split = splits.of(found.split, key, f"the image {found.wanted} of {found.source}")
        if found.image is not None:
            takers[found.image].append(found.source)
        if split is None:
            continue
        full_key = f"{found.split}/{key}" if found.split else key
        source = files[found.source][0]
        if found.image is None:
            missing.append(rejected_pair(full_key, split, None, source, "missing_image", _missing(found)))
            continue
        path, size = files[found.image]
        mask = spool.add(found.document, source)
        pairs.append(Pair(full_key, split, found.image, path, mask, size + len(found.document), 2 * modified(path)))
    pairs, shared = _of_one_annotation(pairs, takers)
    pairs, repeated = unique(pairs.sorted_by_key())
    notes = [f"annotations: {', '.join(regions.names[:3])}{_more(regions.names)}"]
    if unnamed := sum(map(is_picture, files)) - len(takers):
        notes.append(f"{unnamed:,} images are left out: no regions name them")
    return pairs, [*missing, *shared, *repeated], [*notes, *splits.notes(", ".join(regions.names))]


def _missing(found: Annotated) -> str:
    place = f" of the split {found.split}" if found.split else ""
    return f"{found.source} has regions of {found.wanted}, and there is no such image{place}"


def _of_one_annotation(pairs: PairList, takers: Mapping[str, Sequence[str]]) -> tuple[PairList, list[Rejected]]:
    """The `pairs` whose image is annotated once; `takers` has the files that name each image, once for each time."""
    kept: list[int] = []
    rejected: list[Rejected] = []
    for place, pair in enumerate(pairs):
        sources = takers[pair.filename]
        if len(sources) == 1:
            kept.append(place)
        else:
            detail = f"{pair.filename} is annotated {len(sources)} times: in {' and in '.join(dict.fromkeys(sources))}"
            mask = source_of(pair.mask)
            rejected.append(rejected_pair(pair.key, pair.split, pair.image, mask, "duplicate_key", detail))
    return (pairs if len(kept) == len(pairs) else pairs.reordered(kept)), rejected


def no_regions(inputs: str, option: str) -> BuildError:
    """The error of an input without files of the format that `option` names."""
    row = next(row for row in REGION_FORMATS if row.option == option)
    return BuildError(f"{inputs} has no file of {row.name} beside its images: look at {row.source}")


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _key(image: str) -> str:
    """The key that the layout `folders` would give."""
    match = next(filter(None, (template.match(image) for template in _IMAGES)), None)
    return composed(match.key if match else image)
