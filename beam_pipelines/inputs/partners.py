"""Why an image has no mask, or a mask no image: files of almost the right name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layouts import MASK_SUFFIXES
from beam_pipelines.rejects import Rejected

# Files that look like a partner, but whose type is not read: as images, or as masks.
_NOT_IMAGES = ("heic", "heif", "avif", "gif", "jp2", "svg", "npy")
NOT_MASKS = (*(kind for kind in IMAGE_TYPES if kind != "png"), *_NOT_IMAGES)
MASKS_ARE_PNG = (
    "masks are PNG files: convert it without loss, or, if it was saved as JPEG, save it again from the original, since "
    "JPEG changes ids"
)


def explained(files: Files, rejected: Sequence[Rejected], is_image: Callable[[str], bool]) -> list[Rejected]:
    """`rejected`, in which the detail of a missing partner names the file that may have been meant, which is none that
    `is_image`.
    """
    missing = {"missing_mask", "missing_image"}
    if not any(problem.reason in missing for problem in rejected):
        return [*rejected]
    by_stem = _by_stem(name for name in files if not is_image(name))
    return [_explained(problem, by_stem) if problem.reason in missing else problem for problem in rejected]


def _by_stem(files: Iterable[str]) -> dict[str, list[str]]:
    """Stem, without the usual ends of masks' names -> the names of files that are not taken, or have such an end."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in files:
        stem, _, kind = name.rpartition("/")[2].rpartition(".")
        if kind.lower() in NOT_MASKS:
            found[stem].append(name)
        for suffix in MASK_SUFFIXES:
            if suffix and stem.endswith(suffix):
                found[stem.removesuffix(suffix)].append(name)
    return found


def _explained(problem: Rejected, by_stem: dict[str, list[str]]) -> Rejected:
    stem = problem.key.rpartition("/")[2]
    known = problem.image or problem.mask or ""
    others = [name for name in by_stem.get(stem, []) if not known.endswith(name)]
    of_type = NOT_MASKS if problem.reason == "missing_mask" else _NOT_IMAGES
    for name in others:
        kind = name.rpartition(".")[2].lower()
        if kind in of_type:
            of_image = f"{kind.upper()} files are not read: convert it to PNG or JPEG"
            why = MASKS_ARE_PNG if problem.reason == "missing_mask" else of_image
            return replace(problem, detail=f"{problem.detail}; there is {name}, and {why}")
    for name in others if problem.reason == "missing_mask" else ():
        return replace(problem, detail=f"{problem.detail}; is it {name}? Give --images and --masks with its pattern")
    return problem
