"""Detects the layout of an input: which of its files are images and masks."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import is_member, read_bytes
from beam_pipelines.inputs import diagnosis, layouts
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layout import AnyTemplate, Layout, Masks, listed
from beam_pipelines.inputs.suffixes import with_suffixes
from beam_pipelines.inputs.templates import Template
from beam_pipelines.recipe import Recipe
from beam_pipelines.wording import counted

_TABLE_BYTES = 10_000_000


@dataclass(frozen=True)
class Detected:
    """A layout with the templates of images and masks that the input has; each split takes the first kind of masks that
    it has.
    """

    layout: Layout
    images: tuple[AnyTemplate, ...]
    masks: tuple[Masks, ...]
    notes: tuple[str, ...] = ()


def detect(files: Files, recipe: Recipe, inputs: str) -> Detected:
    """Raises BuildError if no layout fits, or if nothing tells which of its folders are meant."""
    rows = _rows(recipe)
    there = [layout for layout in rows if _may_have(layout, files) and any(map(layout.is_image, files))]
    _check_annotations(recipe, there, inputs)
    for layout in there:
        found = _masks_of(layout, files, recipe)
        detected = _settled(layout, found, files, inputs) if found else None
        if detected:
            return detected
    firm = [layout for layout in there if not layout.is_loose or recipe.layout]
    raise BuildError(diagnosis.nothing_found(files, firm, rows, recipe, inputs))


def other_images(files: Files, layout: Layout) -> list[str]:
    """A note for each other layout that has images and masks in `files` as well."""
    notes = []
    for other in (row for row in layouts.LAYOUTS if not row.is_anywhere):
        has_folders = any(masks.template.folders <= files.folder_names for masks in other.masks)
        if other is not layout and has_folders and _may_have(other, files) and any(map(other.is_mask, files)):
            count = sum(other.is_image(file) and not _is_part_of(layout, file) for file in files)
            if count:
                notes.append(
                    f"{count:,} images of the layout {other.name} are left out: the input is read as {layout.name}; "
                    f"--layout={other.option} reads them"
                )
    return notes


def other_folders(files: Files, layout: Layout) -> list[str]:
    """A note for each folder below the input with images and masks that are read only if it is the input itself."""
    notes = []
    for folder, (count, image, mask) in _folders_left_out(files, layout).items():
        path, below = files[image][0], image[len(folder) + 1 :]
        cure = f"--input={shlex.quote(path.removesuffix(f'/{below}'))}"
        if is_member(path):
            cure = diagnosis.patterns(folder, below, mask[len(folder) + 1 :])
        images = counted(count, f"image in {folder} is", f"images in {folder} are")
        notes.append(f"{images} left out: the input is read as {layout.name}; {cure} reads them")
    return notes


def _folders_left_out(files: Files, layout: Layout) -> dict[str, tuple[int, str, str]]:
    """Folder below the input that has no file of `layout` -> the number of images in its usual folders, and the names
    of an image and of a mask there.
    """
    rows = [row for row in layouts.LAYOUTS if row.alternatives and not row.is_loose]
    if not any(_may_have(row, files) for row in rows):
        return {}
    count: Counter[str] = Counter()
    first: dict[str, str] = {}
    taken: set[str] = set()
    for name in files:
        folder, _, file = name.rpartition("/")
        if _is_part_of(layout, name):
            taken.add(folder)
        elif layouts.is_picture(name):
            alike = f"{folder}/x.{file.rpartition('.')[2]}"  # only the folder and the type tell
            count[alike] += 1
            first.setdefault(alike, name)
    taken |= {"/".join(parts[:depth]) for parts in (each.split("/") for each in taken) for depth in range(len(parts))}
    images: dict[str, list[str]] = defaultdict(list)
    masks: dict[str, str] = {}
    for name in count:
        parts = name.split("/")
        for depth in range(1, len(parts) - 1):
            above, rest = "/".join(parts[:depth]), "/".join(parts[depth:])
            if above not in taken and any(row.is_image(rest) for row in rows):
                images[above].append(name)
            elif any(row.is_mask(rest) for row in rows):
                masks.setdefault(above, first[name])
    both = sorted(images.keys() & masks.keys())
    return {each: (sum(count[name] for name in images[each]), first[images[each][0]], masks[each]) for each in both}


def _is_part_of(layout: Layout, name: str) -> bool:
    return layout.is_image(name) or layout.is_mask(name)


def _rows(recipe: Recipe) -> Sequence[Layout]:
    if recipe.images:
        return (_given(recipe.images, recipe.masks or ""),)
    return [layout for layout in layouts.LAYOUTS if recipe.layout in (None, layout.option)]


def _given(images: str, masks: str) -> Layout:
    """The layout of `--images` and `--masks`."""
    return Layout(
        name="--images and --masks",
        option="",
        images=(Template(images),),
        masks=(Masks(template=Template(masks), name="--masks"),),
        cure="no name fits --masks",
    )


def _may_have(layout: Layout, files: Files) -> bool:
    """Whether the folders that the layout's templates name exist. A quick test, so that not every name is matched with
    every template.
    """
    return any(template.folders <= files.folder_names for template in layout.images)


def _check_annotations(recipe: Recipe, there: Sequence[Layout], inputs: str) -> None:
    wanted = recipe.annotations
    if not wanted or any(wanted in (masks.name, masks.ids) for layout in there for masks in layout.masks):
        return
    names = [row.name for row in layouts.LAYOUTS if any(wanted in (masks.name, masks.ids) for masks in row.masks)]
    raise BuildError(f"--annotations={wanted} is only for {listed(names)}, and {inputs} does not have that layout")


def _masks_of(layout: Layout, files: Files, recipe: Recipe) -> list[Masks]:
    """The kinds of masks that exist and that `--annotations` does not exclude."""
    return [
        masks
        for masks in layout.masks
        if recipe.annotations in (None, masks.name, masks.ids)
        and masks.template.folders <= files.folder_names
        and any(map(masks.template.matches, files))
        and (masks.needs_table is None or _has_table(masks, files))
    ]


def _has_table(masks: Masks, files: Files) -> bool:
    found = list(filter(masks.table.matches, files)) if masks.table else []
    return any((masks.needs_table or b"") in read_bytes(files[name][0], _TABLE_BYTES) for name in found)


def _settled(layout: Layout, found: Sequence[Masks], files: Files, inputs: str) -> Detected | None:
    images = tuple(template for template in layout.images if any(map(template.matches, files)))
    if layout.alternatives:
        return _only(layout, images, found, files, inputs)
    images = images[:1]
    chosen = tuple(masks for masks in found if masks.ids == found[0].ids)
    return Detected(layout, images, chosen, tuple(_notes(chosen, found)))


def _notes(chosen: Sequence[Masks], found: Sequence[Masks]) -> Iterator[str]:
    others = list(dict.fromkeys(masks.ids for masks in found if masks not in chosen and not masks.fallback))
    if others:
        yield f"masks: {chosen[0].ids} are read; --annotations={listed(others)} reads the others"


def _only(
    layout: Layout, images: Sequence[AnyTemplate], found: Sequence[Masks], files: Files, inputs: str
) -> Detected | None:
    """The single folder of images and of masks whose names fit each other. Raises BuildError if there are several."""
    fitting = []
    for image in images:
        for masks in found:
            for of_images, of_masks in with_suffixes(image, masks.template, files):
                fitting.append((of_images, dataclasses.replace(masks, template=of_masks)))
    usual = [each for each in fitting if each[0].folders | each[1].template.folders <= layouts.USUAL_FOLDERS]
    fitting = usual or fitting
    if len(fitting) > 1:
        raise BuildError(diagnosis.ambiguous(fitting, files, inputs))
    if not fitting:  # each problem is listed, unless any folder may have such names
        return None if layout.is_loose else Detected(layout, tuple(images), tuple(found[:1]))
    (of_images, masks) = fitting[0]
    return Detected(layout, (of_images,), (masks,))
