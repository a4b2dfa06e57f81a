"""Detects the layout of an input, and explains why there is none."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.reader import is_member
from beam_pipelines.inputs import layouts
from beam_pipelines.inputs.layouts import Layout, is_picture, listed

_FOLDERS_ABOVE = 3

Files = Mapping[str, tuple[str, int]]  # name below the input -> (path, bytes)


def detect(files: Files, annotations: str | None, inputs: str) -> tuple[Layout, re.Pattern[str]]:
    """-> the layout that has images and masks in `files`, and the pattern of the masks.

    Raises:
      BuildError: no layout fits, it has two folders with masks, or it does not have the given `annotations`.
    """
    there = [layout for layout in layouts.LAYOUTS if any(map(layout.image.fullmatch, files))]
    if annotations and not any(annotations in layout.masks for layout in there):
        names = listed([layout.name for layout in layouts.LAYOUTS if layout.choice])
        raise BuildError(f"--annotations={annotations} is only for {names}, and {inputs} does not have that layout")
    for layout in there:
        folders = _mask_folders(layout, files, annotations)
        if len(folders) > 1 and not layout.choice:
            raise BuildError(f"{inputs} has masks in {' and in '.join(folders)}: keep one of these folders")
        if folders:
            return layout, layout.masks[folders[0]]
    raise BuildError(f"{inputs}{_nothing_found(files, there, annotations, inputs)}")


def other_images(files: Files, layout: Layout) -> list[str]:
    """A note for each other layout that has images in `files` as well."""
    others = {other.name: other.image for other in layouts.LAYOUTS if other is not layout}
    counts = {
        name: sum(bool(image.fullmatch(file)) and not layout.image.fullmatch(file) for file in files)
        for name, image in others.items()
    }
    return [
        f"{count:,} images of the layout {name} are left out: the input is read as {layout.name}"
        for name, count in counts.items()
        if count
    ]


def _mask_folders(layout: Layout, files: Files, annotations: str | None) -> list[str]:
    wanted = {folder: mask for folder, mask in layout.masks.items() if annotations in (None, folder)}
    return [folder for folder, mask in wanted.items() if any(map(mask.fullmatch, files))]


def _nothing_found(files: Files, there: Sequence[Layout], annotations: str | None, inputs: str) -> str:
    """Why no layout fits the input, and what to do."""
    right = _folder_below(files) or _folder_above(inputs)
    if right:
        return f" is not the folder with the images and the masks: give --input={right}"
    for layout in there:
        folders = [annotations] if annotations else [*layout.masks]
        masks = listed([f"{folder}/{layout.mask_names}" for folder in folders])
        return (
            f" has images of the layout {layout.name} ({layout.image_folder}/) but no masks of it ({masks}): "
            f"{layout.cure}"
        )
    known = ", nor ".join(f"{layout.name} ({layout.folders})" for layout in layouts.LAYOUTS)
    return f": found neither {known}, among {len(files):,} files"


def _folder_below(files: Files) -> str | None:
    """The first folder below the input that has the images and masks of a layout."""
    found = defaultdict(set)
    for name, (path, _) in files.items():
        if is_member(path) or not is_picture(name):
            continue
        parts = name.split("/")
        for rest in ("/".join(parts[depth:]) for depth in range(1, len(parts) - 1)):
            for layout in layouts.LAYOUTS:
                kinds = [bool(pattern.fullmatch(rest)) for pattern in layout.patterns]
                if any(kinds):
                    found[path.removesuffix(f"/{rest}"), layout.name].add(kinds[0])
    return min((folder for (folder, _), kinds in found.items() if kinds == {True, False}), default=None)


def _folder_above(inputs: str) -> str | None:
    """The nearest folder above a local input that has the images and masks of a layout."""
    folder = os.path.abspath(inputs)
    if not storage.is_local(inputs) or not os.path.isdir(folder):
        return None
    for _ in range(_FOLDERS_ABOVE):
        folder = os.path.dirname(folder)
        try:
            names = {name.lower() for name in os.listdir(folder)}
        except OSError:
            return None
        for layout in layouts.LAYOUTS:
            if layout.image_folder.lower() in names and names & {mask.lower() for mask in layout.masks}:
                return folder
    return None
