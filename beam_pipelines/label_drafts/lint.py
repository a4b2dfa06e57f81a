"""What is wrong between masks and a label table: each problem with its number, the first files, and the cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.labels import IGNORE, UNKNOWN, LabelTable
from beam_pipelines.errors import BuildError
from beam_pipelines.label_drafts.contents import SHOWN_FILES, Contents
from beam_pipelines.label_drafts.fits import fit_of
from beam_pipelines.label_drafts.meanings import meaning_of as meaning_of_masks
from beam_pipelines.label_drafts.names import labels_of
from beam_pipelines.label_drafts.tallies import Tally
from beam_pipelines.pixels import table_fit
from beam_pipelines.pixels.mask_readings import CURE
from beam_pipelines.pixels.polygons import NEVER_COUNTED
from beam_pipelines.rejects import Rejected, meaning_of
from beam_pipelines.wording import counted

_SHOWN_VALUES = 12
_NAME_THEM = "add them to the table, under `classes` or `ignore`"
_CURES = {
    "missing_mask": "add the masks, or take the images out",
    "missing_image": "add the images, or take the masks out",
    "duplicate_key": "rename one of the files, or take it out",
    "unreadable": "check that the files exist and may be read",
    "rotated": "turn the masks upright, and check their images",
    "mask_format": "store masks as PNG files",
    "transparent": "store the masks without alpha channel",
    "too_many_pixels": "give a larger --max_image_pixels if the files are sound",
    "ambiguous_mask": CURE,
    "contradictory_mask": f"{CURE}, or store these masks like the others",
    "bad_polygons": "draw these regions again, or take the images out",
    "unknown_ids": _NAME_THEM,
    "unknown_colors": _NAME_THEM,
    "unknown_labels": _NAME_THEM,
    "all_ignore": "list ids that are classes under `classes`, or take the pairs out",
    "size_mismatch": "take the mask of the image's own size",
}
_OTHER_CURE = "copy the files again, or take them out"


@dataclass(frozen=True)
class Problem:
    """A sentence with the number of what is wrong, the first files where it is, and the cure."""

    text: str
    files: tuple[str, ...]
    cure: str


def problems_of(
    contents: Contents, table: LabelTable, file: Callable[[int], str], unpaired: Sequence[Rejected], whole: bool
) -> list[Problem]:
    """Every problem, those of files first.

    Args:
      contents: counted with this `table`.
      file: index -> name of the mask.
      unpaired: the pairing problems.
      whole: whether all masks were read, so that a class which is in none of them is a problem.
    """
    found = [*_of_pairing(unpaired), *_of_masks(contents, table, file), *_of_table(contents, table)]
    return [*found, *_of_absent_classes(contents, table)] if whole else found


def _of_pairing(unpaired: Sequence[Rejected]) -> Iterator[Problem]:
    for reason, count in sorted(Counter(each.reason for each in unpaired).items()):
        keys = [each.key for each in unpaired if each.reason == reason]
        times = "once" if count == 1 else f"{count:,} times"
        yield Problem(f"{reason}: {meaning_of(reason)}, {times}", tuple(keys[:SHOWN_FILES]), _cure(reason))


def _of_masks(contents: Contents, table: LabelTable, file: Callable[[int], str]) -> Iterator[Problem]:
    details = {
        "unknown_ids": _unknown_ids(contents, table),
        "unknown_colors": _unknown_colors(contents.strange),
        "unknown_labels": _unknown_labels(contents, table),
    }
    for reason, group in sorted(contents.problems.items()):
        detail = details.get(reason) or meaning_of(reason)
        cure = _cure(reason)
        if reason in details and (looks := _looks_like(contents, table)):
            cure = f"{looks}; otherwise {cure}"
        first = tuple(map(file, group.first))
        yield Problem(f"{reason}: {counted(group.masks, 'mask')}: {detail}", first, cure)


def _looks_like(contents: Contents, table: LabelTable) -> str:
    """What the masks look like instead, if that is known."""
    try:
        fit = fit_of(meaning_of_masks(contents))
    except BuildError:
        return ""
    return "" if table.name in fit.tables else "; ".join(fit.sentences)


def _cure(reason: str) -> str:
    return _CURES.get(reason, _OTHER_CURE)


def _unknown_ids(contents: Contents, table: LabelTable) -> str:
    ids = contents.ids
    if ids is None:
        return ""
    unknown = ids.of(table.train_id_of[ids.values] == UNKNOWN)
    shown = [f"{value} (in {count:,})" for value, count in _commonest(unknown)]
    return f"ids that {table.name} does not name: {_listed(shown, unknown.values.size)}"


def _unknown_labels(contents: Contents, table: LabelTable) -> str:
    known = {NEVER_COUNTED, *(row.name for row in table.labels)}
    unknown = [name for name in labels_of(contents) if name not in known]
    shown = [f"{name!r} (in {contents.names[name].masks:,})" for name in unknown[:_SHOWN_VALUES]]
    return f"labels that {table.name} does not name: {_listed(shown, len(unknown))}"


def _unknown_colors(strange: Tally | None) -> str:
    if strange is None:
        return "colors that the table does not name, more than 65,536"
    shown = [
        "transparent" if code < 0 else f"({code >> 16}, {code >> 8 & 255}, {code & 255}) (in {count:,})"
        for code, count in _commonest(strange)
    ]
    return f"colors that the table does not name: {_listed(shown, strange.values.size)}"


def _commonest(tally: Tally) -> Iterator[tuple[int, int]]:
    found = tally.commonest(_SHOWN_VALUES)
    return zip(found.values.tolist(), found.masks.tolist(), strict=True)


def _listed(shown: Sequence[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _pixels_of_classes(contents: Contents, table: LabelTable) -> dict[str, int]:
    """Class, or "" for ignored pixels -> its pixels."""
    pixels: Counter[str] = Counter()
    if contents.ids is not None:
        for source_id, count in _pixels(contents.ids).items():
            train_id = int(table.train_id_of[source_id])
            if train_id != UNKNOWN:
                pixels["" if train_id == IGNORE else table.classes[train_id].name] += count
    return dict(pixels)


def _pixels(ids: Tally) -> Mapping[int, int]:
    return dict(zip(ids.values.tolist(), ids.pixels.tolist(), strict=True))


def _of_table(contents: Contents, table: LabelTable) -> Iterator[Problem]:
    pixels = _pixels_of_classes(contents, table)
    total, ignored = sum(pixels.values()), pixels.pop("", 0)
    if total and ignored > table_fit.SUSPICIOUS_IGNORED * total:
        text = f"{ignored / total:.1%} of the pixels are ignored"
        yield Problem(text, (), "check whether the table is that of the masks, and what it ignores")
    if table_fit.is_builtin(table) and pixels and table_fit.rare_share(pixels) > table_fit.SUSPICIOUS_RARE:
        largest = max((name for name in pixels if name not in table_fit.LARGE), key=lambda name: pixels[name])
        share = pixels[largest] / sum(pixels.values())
        others = table_fit.fitting_tables(_pixels(contents.ids), table.name) if contents.ids else []
        cure = f"the ids fit {' or '.join(others)}" if others else f"check whether {table.name} is the right table"
        text = f"{largest} fills {share:.0%} of the pixels that are not ignored, unlike in street scenes"
        yield Problem(text, (), cure)


def _of_absent_classes(contents: Contents, table: LabelTable) -> Iterator[Problem]:
    pixels = _pixels_of_classes(contents, table)
    absent = [row.name for row in table.classes if not pixels.get(row.name) and row.name not in contents.names]
    if absent and (any(pixels.values()) or contents.names):
        text = f"no mask has {', '.join(absent)}: {len(absent)} of {table.num_classes} classes"
        yield Problem(text, (), "take these rows out of the table, if they should not be learned")
