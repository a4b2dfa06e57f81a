"""Explains why an input has no layout, or more than one, and what to do."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from beam_pipelines.files import storage
from beam_pipelines.files.reader import is_member
from beam_pipelines.inputs import layouts
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layout import AnyTemplate, Layout, Masks, listed, shown
from beam_pipelines.inputs.layouts import IMAGE_SUFFIXES, MASK_SUFFIXES, is_picture
from beam_pipelines.inputs.partners import MASKS_ARE_PNG, NOT_MASKS
from beam_pipelines.inputs.templates import FolderTemplate, split_of_folder
from beam_pipelines.recipe import Recipe

_FOLDERS_ABOVE = 3
_SHOWN_FILES = 5
_NEAREST = 3
_LOOKED_AT = 20_000  # files for a proposal
_ROOTS = 40
_LEAST_SHARE = 6  # a proposal pairs at least one in so many pictures
_OF_MASKS = re.compile(r"mask|label|semantic|instance|panoptic|annot|seg|gt[/_]|depth|colou?r", re.IGNORECASE)


def nothing_found(files: Files, there: Sequence[Layout], rows: Sequence[Layout], recipe: Recipe, inputs: str) -> str:
    """Why none of the layouts `rows` fits the input, and what to do. `there` are the layouts that have images."""
    if recipe.images:
        return _no_pattern_fits(files, rows[0], inputs)
    below = _folders_below(files)
    if len(below) > 1:
        return _several_folders(below, inputs)
    right = next(iter(below), None) or _folder_above(files, inputs)
    if right:
        return f"{inputs} is not the folder with the images and the masks: give --input={right}"
    if there:
        texts = [_without_masks(layout, files, recipe) for layout in there]
        return f"{inputs} has {'. It also has '.join(texts)}"
    found = next((name for name in files if name.lower().endswith((".csv", ".jsonl"))), None)
    listed_in = f"If {found} lists the pairs, give --input={files[found][0]}. " if found else ""
    cure = listed_in + (_proposed(files) or "Give --images and --masks with the patterns of your names")
    return f"{inputs} has no known layout. {_first(files)}. {_nearest(files, rows)}. {cure}"


def _without_masks(layout: Layout, files: Files, recipe: Recipe) -> str:
    kinds = [masks for masks in layout.masks if recipe.annotations in (None, masks.name, masks.ids)]
    images = shown([template for template in layout.images if any(map(template.matches, files))][:1])
    return (
        f"images of the layout {layout.name} ({images}) but no masks of it "
        f"({shown([masks.template for masks in kinds])}): {_why(layout, files) or _proposed(files) or layout.cure}"
    )


def ambiguous(fitting: Sequence[tuple[AnyTemplate, Masks]], files: Files, inputs: str) -> str:
    """Several pairs of folders, or of suffixes, fit each other."""
    ways = " and as ".join(f"{image.shown} with {masks.template.shown}" for image, masks in fitting)
    image, masks = fitting[0]
    return (
        f"{inputs} can be read as {ways}: keep one of these, or say which, as in "
        f"{_options(_pattern(image, files), _pattern(masks.template, files))}"
    )


def _pattern(template: AnyTemplate, files: Files) -> str:
    """The text of the template, with the place of the split's folder in the first name that fits."""
    name = next(filter(template.matches, files))
    folders = name.split("/")[:-1]
    places = [place for place, folder in enumerate(folders) if split_of_folder(folder)]
    if not isinstance(template, FolderTemplate) or not places:
        return template.text
    last = max(places[-1], folders.index(next(each for each in folders if each.lower() == template.folder)))
    shown = ["{split}" if place in places else folder for place, folder in enumerate(folders[: last + 1])]
    return "/".join([*shown, template.text.rpartition("/")[2]])


def _options(images: str, masks: str) -> str:
    return f"--images={shlex.quote(images)} --masks={shlex.quote(masks)}"


def _no_pattern_fits(files: Files, given: Layout, inputs: str) -> str:
    missing = [
        f"{option}={template.text}"
        for option, template in (("--images", given.images[0]), ("--masks", given.masks[0].template))
        if not any(map(template.matches, files))
    ]
    return f"no file below {inputs} has a name of the form {listed(missing)}. {_first(files)}"


def _first(files: Files) -> str:
    if not len(files):
        return "It has no files"
    names = list(itertools.islice(sorted(itertools.islice(files, _LOOKED_AT)), _SHOWN_FILES))
    more = f", ... ({len(files):,} files)" if len(files) > len(names) else ""
    return f"Its first files are {', '.join(names)}{more}"


def _why(layout: Layout, files: Files) -> str | None:
    """What is in the folders of masks that can't be read as masks."""
    for masks in layout.masks:
        if not isinstance(masks.template, FolderTemplate):
            continue
        other = FolderTemplate(masks.template.folder, NOT_MASKS)
        found = next(filter(other.matches, files), None)
        if found:
            kind = found.rpartition(".")[2].upper()
            return f"{found} is a {kind} file, and {MASKS_ARE_PNG}"
    return None


def _nearest(files: Files, rows: Sequence[Layout]) -> str:
    """The layouts of which the input has images or masks, and what each lacks."""
    counts = []
    for layout in (row for row in rows if not row.is_anywhere):
        images = sum(map(layout.is_image, itertools.islice(files, _LOOKED_AT)))
        masks = sum(map(layout.is_mask, itertools.islice(files, _LOOKED_AT)))
        if masks or (images and not layout.is_loose):
            lacks = "no masks" if images else f"no images ({shown(layout.images)})"
            counts.append((-images - masks, f"{layout.name}, but there are {lacks}"))
    if not counts:
        return f"Known are {'; '.join(f'{row.name} ({row.shown})' if len(rows) == 1 else row.name for row in rows)}"
    return f"Nearest: {'; '.join(text for _, text in sorted(counts)[:_NEAREST])}"


def _proposed(files: Files) -> str | None:
    proposal = _proposal(files)
    return f"These names fit: {proposal}" if proposal else None


def _proposal(files: Iterable[str]) -> str | None:
    """`--images` and `--masks` by which most of the first files pair; None if there is no such pair. Folders whose
    names are those of masks are not proposed as images.
    """
    images: dict[tuple[str, str], set[str]] = defaultdict(set)  # (start, end of the name) -> keys
    masks: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in itertools.islice(files, _LOOKED_AT):
        if is_picture(name):
            _file(name, IMAGE_SUFFIXES, images)
            if name.lower().endswith(".png"):
                own = re.search(r"[-_][^-_/0-9]+(?=\.[^./]+$)", name)  # an end of the data set's own, such as _farbe
                _file(name, {*MASK_SUFFIXES, own[0] if own else ""}, masks)
    best: Counter[str] = Counter()
    pictures = sum(map(is_picture, itertools.islice(files, _LOOKED_AT)))
    for (image_start, image_end), keys in sorted(images.items(), key=lambda item: -len(item[1]))[:_ROOTS]:
        if _OF_MASKS.search(image_start + image_end):
            continue
        for (mask_start, mask_end), others in sorted(masks.items(), key=lambda item: -len(item[1]))[:_ROOTS]:
            differ = (image_start, image_end) != (mask_start, mask_end)
            alike = ("{split}" in image_start) == ("{split}" in mask_start)
            pairs = len(keys & others)
            if differ and alike and 2 * pairs > len(others) and _LEAST_SHARE * pairs > pictures:
                text = _options(f"{image_start}{{key}}{image_end}", f"{mask_start}{{key}}{mask_end}")
                # Of several that pair as many, the shortest ends and the longest folders, and photographs as images.
                best[text] = 1000 * pairs + len(image_start + mask_start) - len(mask_end) + 100 * (image_end != ".png")
    return best.most_common(1)[0][0] if best else None


def _file(name: str, suffixes: Iterable[str], found: dict[tuple[str, str], set[str]]) -> None:
    *folders, file = name.split("/")
    stem, _, kind = file.rpartition(".")
    shown = ["{split}" if split_of_folder(folder) and folders.count(folder) == 1 else folder for folder in folders]
    splits = [folder for folder in folders if split_of_folder(folder)]
    for depth in {len(folders), min(1, len(folders))}:
        start = "".join(f"{folder}/" for folder in shown[:depth])
        if "{split}" in shown[depth:] or start.count("{split}") > 1:
            continue
        for suffix in suffixes:
            if stem.endswith(suffix):
                key = "/".join([*splits, *folders[depth:], stem[: len(stem) - len(suffix)]])
                found[start, f"{suffix}.{kind}"].add(key)


def _folders_below(files: Files) -> dict[str, tuple[str, str]]:
    """The folders below the input that have images and masks of one layout -> (the name of an image, of a mask)."""
    found: dict[tuple[str, str], dict[bool, str]] = defaultdict(dict)
    firm = [layout for layout in layouts.LAYOUTS if not layout.is_loose]
    for name in files:
        path, _ = files[name]
        if is_member(path) or not is_picture(name):
            continue
        parts = name.split("/")
        for rest in ("/".join(parts[depth:]) for depth in range(1, len(parts) - 1)):
            for layout in firm:
                is_image = layout.is_image(rest)
                if is_image or layout.is_mask(rest):
                    found[path.removesuffix(f"/{rest}"), layout.name].setdefault(is_image, rest)
    whole = {folder: names for (folder, _), names in sorted(found.items()) if names.keys() == {True, False}}
    return {folder: (names[True], names[False]) for folder, names in whole.items()}


def _several_folders(below: Mapping[str, tuple[str, str]], inputs: str) -> str:
    shown = ", ".join(itertools.islice(below, _NEAREST)) + (", ..." if len(below) > _NEAREST else "")
    patterns = [_split_shown(name) for name in next(iter(below.values()))]
    return (
        f"{inputs} has {len(below):,} folders with images and masks ({shown}): to read all, give "
        f"{_options(*(f'{{key}}/{pattern}' for pattern in patterns))}"
    )


def patterns(folder: str, image: str, mask: str) -> str:
    """`--images` and `--masks` for the files of `folder` that are named like `image` and `mask` there."""
    return _options(f"{folder}/{_split_shown(image)}", f"{folder}/{_split_shown(mask)}")


def _split_shown(name: str) -> str:
    """`images/train/a.png` -> `images/{split}/{key}.png`."""
    *folders, file = name.split("/")
    shown = ["{split}" if split_of_folder(folder) else folder for folder in folders]
    last = max([0, *(place for place, folder in enumerate(shown) if folder == "{split}")])
    return "/".join([*shown[: last + 1], f"{{key}}.{file.rpartition('.')[2]}"])


def _folder_above(files: Files, inputs: str) -> str | None:
    """The nearest folder above a local input that has the images and masks of a layout, there or in the input."""
    folder = os.path.abspath(inputs)
    if not storage.is_local(inputs) or not os.path.isdir(folder):
        return None
    some = list(itertools.islice(files, _LOOKED_AT))
    for _ in range(_FOLDERS_ABOVE):
        folder, _, last = folder.rpartition("/")
        some = [f"{last}/{name}" for name in some]
        if layouts.is_whole(some):
            return folder
        try:
            names = {form for name in os.listdir(folder) for form in (name, name.lower())}
        except OSError:
            return None
        for layout in layouts.LAYOUTS:
            masks = frozenset().union(*(masks.template.folders for masks in layout.masks))
            images = frozenset().union(*(template.folders for template in layout.images))
            if names & images and names & masks:
                return folder
    return None
