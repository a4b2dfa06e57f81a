"""Inputs whose masks are regions in a file of many images, as COCO and CVAT write it: found, and paired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import modified
from beam_pipelines.files.spool import Spool
from beam_pipelines.inputs.annotations import Annotated, coco_pairs, cvat_pairs, find_coco, find_cvat
from beam_pipelines.inputs.claims import composed
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layout import RegionFormat
from beam_pipelines.inputs.layouts import IMAGE_FOLDERS, REGION_FORMATS, is_picture
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.inputs.splits import GivenSplits
from beam_pipelines.inputs.templates import FolderTemplate
from beam_pipelines.inputs.unique import rejected_pair, unique
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected

_Find = Callable[[Files], list[str]]
_Read = Callable[[Files, Sequence[str]], Iterator[Annotated]]
_FUNCTIONS: Mapping[str, tuple[_Find, _Read]] = {"coco": (find_coco, coco_pairs), "cvat": (find_cvat, cvat_pairs)}
_IMAGES = (*(FolderTemplate(folder, IMAGE_TYPES) for folder in IMAGE_FOLDERS), FolderTemplate("", IMAGE_TYPES))


@dataclass(frozen=True)
class RegionFiles:
    """The files `names` of an input that have its regions."""

    format: RegionFormat
    names: tuple[str, ...]


def find_regions(files: Files, option: str | None = None) -> RegionFiles | None:
    """The regions of the format that `option` names, or of the first one that there is; None if there are none."""
    for row in REGION_FORMATS:
        if option in (None, row.option) and (names := _FUNCTIONS[row.option][0](files)):
            return RegionFiles(row, tuple(names))
    return None


def read_regions(
    recipe: Recipe, files: Files, regions: RegionFiles, spool: Spool
) -> tuple[PairList, list[Rejected], list[str]]:
    """-> the pairs by their keys, the pairing problems, and notes. The masks are documents in `spool`.

    Raises:
      BuildError: a file of regions can't be read, or the splits can't be determined.
    """
    splits = GivenSplits(recipe)
    pairs, missing, seen = PairList(), list[Rejected](), 0
    for found in _FUNCTIONS[regions.format.option][1](files, regions.names):
        key = _key(found.image or found.wanted)
        split = splits.of(found.split, key, f"the image {found.wanted} of {found.source}")
        seen += found.image is not None
        if split is None:
            continue
        full_key = f"{found.split}/{key}" if found.split else key
        source = files[found.source][0]
        if found.image is None:
            detail = f"{found.source} has regions of {found.wanted}, and there is no such image"
            missing.append(rejected_pair(full_key, split, None, source, "missing_image", detail))
            continue
        path, size = files[found.image]
        mask = spool.add(found.document, source)
        pairs.append(Pair(full_key, split, found.image, path, mask, size + len(found.document), 2 * modified(path)))
    pairs, repeated = unique(pairs.sorted_by_key())
    notes = [f"regions of {regions.format.name}: {', '.join(regions.names[:3])}{_more(regions.names)}"]
    if unnamed := sum(map(is_picture, files)) - seen:
        notes.append(f"{max(unnamed, 0):,} images are left out: no regions name them")
    return pairs, [*missing, *repeated], [*notes, *splits.notes(", ".join(regions.names))]


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
