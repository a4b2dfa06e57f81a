"""Ends of file names that tell images from masks, such as `_mask`: which ones the names of two folders have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from beam_pipelines.inputs.claims import composed
from beam_pipelines.inputs.layout import AnyTemplate
from beam_pipelines.inputs.layouts import IMAGE_SUFFIXES, MASK_SUFFIXES
from beam_pipelines.inputs.templates import FolderTemplate

_SAMPLE = 1000  # masks by which folders with equal names are recognized


def with_suffixes(
    images: AnyTemplate, masks: AnyTemplate, files: Iterable[str]
) -> list[tuple[AnyTemplate, AnyTemplate]]:
    """The templates with each pair of suffixes by which images and masks fit. If some names are equal, the data set has
    no suffixes.
    """
    if not isinstance(images, FolderTemplate) or not isinstance(masks, FolderTemplate):
        return [(images, masks)]
    some = set(itertools.islice(_keys(masks, files), _SAMPLE))
    if any(key in some for key in _keys(images, files)):
        return [(images, masks)]
    of_images, of_masks = _hashes(images, files, IMAGE_SUFFIXES), _hashes(masks, files, MASK_SUFFIXES)
    return [
        (replace(images, suffix=image_suffix), replace(masks, suffix=mask_suffix))
        for mask_suffix in MASK_SUFFIXES
        for image_suffix in IMAGE_SUFFIXES
        if of_images[image_suffix] & of_masks[mask_suffix]
    ]


def _keys(template: FolderTemplate, files: Iterable[str]) -> Iterator[str]:
    for name in files:
        if match := template.match(name):
            yield composed(match.key)


def _hashes(template: FolderTemplate, files: Iterable[str], suffixes: Iterable[str]) -> dict[str, set[int]]:
    """Suffix -> hashes of the keys without it, which take less memory than the keys."""
    found: dict[str, set[int]] = {suffix: set() for suffix in suffixes}
    for key in _keys(template, files):
        for suffix, keys in found.items():
            if key.endswith(suffix):
                keys.add(hash(key[: len(key) - len(suffix)]))
    return found
