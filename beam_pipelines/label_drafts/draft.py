"""A label file that builds as it is, with an entry for each id or color; names are filled in by people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from beam_pipelines.contract.labels import IGNORE, MAX_SOURCE_ID
from beam_pipelines.label_drafts.colors import SAME, are_blurred, count_of_colors, main_colors, nearest_of
from beam_pipelines.label_drafts.contents import rgb_of
from beam_pipelines.label_drafts.fits import BINARY, MIDDLE, Fit, is_soft_binary
from beam_pipelines.label_drafts.meanings import Meaning
from beam_pipelines.label_drafts.tallies import EMPTY, Tally
from beam_pipelines.pixels.mask_readings import COLORS
from beam_pipelines.wording import counted

MOST_ROWS = 1000  # of a file; more would not be read by anybody
VOID_SHARE = 0.2  # black that fills less is what nobody labeled; as a background it fills more
_LEAST_COLORS = 4  # black among so many is not one of two classes
_WIDTH = 110


@dataclass(frozen=True)
class Row:
    """An id or a color of the masks. `why`: the reason to ignore it; `hint`: its name in a table that fits."""

    source_id: int
    color: tuple[int, int, int] | None
    pixels: int
    masks: int
    name: str
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Draft:
    """The rows of a label file. `keys` are further lines of it, `decisions` what was decided, for its reader."""

    classes: tuple[Row, ...]
    ignored: tuple[Row, ...]
    ignore_rest: bool
    keys: tuple[str, ...]
    decisions: tuple[str, ...]


def draft_of(meaning: Meaning, fit: Fit) -> Draft:
    """What is drafted of masks with this meaning."""
    if meaning.way == COLORS:
        rows, keys, decisions = _rows_of_colors(meaning)
    elif is_soft_binary(meaning):
        rows, keys, decisions = _rows_of_levels(meaning)
    else:
        rows, keys, decisions = _rows_of_ids(meaning, fit), [], []
    classes = [row for row in rows if not row.why]
    if not classes:  # a table needs one
        classes, rows = rows, []
    kept, rest = _divided(classes)
    ignored = [row for row in rows if row.why] + rest
    if rest:
        rarest = counted(len(rest), "rarest id is", "rarest ids are")
        decisions.append(f"a table has at most {IGNORE} classes: the {rarest} ignored")
    decisions += [f"ignored: {', '.join(names)}: {why}" for why, names in _by_reason(ignored).items()]
    if meaning.left_out:
        others = " and ".join(meaning.left_out)
        decisions.append(f"left out, as they can't be read as {meaning.way}: masks in {others}")
    too_many = len(kept) + len(ignored) > MOST_ROWS
    return Draft(tuple(kept), () if too_many else tuple(ignored), too_many, tuple(keys), tuple(decisions))


def _divided(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """-> the commonest rows, as many as a table takes, and the others; each in their order."""
    commonest = sorted(rows, key=lambda row: (-row.pixels, row.source_id))[:IGNORE]
    chosen = {row.source_id for row in commonest}
    return [row for row in rows if row.source_id in chosen], [row for row in rows if row.source_id not in chosen]


def _by_reason(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Reason -> what is ignored for it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.why:
            found.setdefault(row.why, []).append(row.name)
    return found


def _rows_of_ids(meaning: Meaning, fit: Fit) -> list[Row]:
    values = meaning.values
    assert values is not None, "ids have at most 16 bits"
    ids, rows = set(values.values.tolist()), []
    for source_id, pixels, masks in _counts(values):
        code = meaning.color_of.get(source_id)
        why = "" if ids in BINARY or len(ids) == 1 else _why_ignored(source_id, fit)
        if source_id == code == 0 and not why:
            why = _why_void(pixels, meaning, len(ids))
        color, hint = None if code is None else rgb_of(code), fit.name_of(source_id) or ""
        rows.append(Row(source_id, color, pixels, masks, f"id {source_id}", why, hint))
    return rows


def _why_ignored(source_id: int, fit: Fit) -> str:
    if source_id == IGNORE:
        return f"{IGNORE} marks pixels without a class in most data sets"
    if source_id == MAX_SOURCE_ID:
        return f"{MAX_SOURCE_ID} is -1 in 16 bits"
    table = fit.ignores(source_id)
    return f"{table}, which the masks fit, ignores them" if table else ""


def _why_void(pixels: int, meaning: Meaning, colors: int) -> str:
    if colors < _LEAST_COLORS or pixels > VOID_SHARE * meaning.pixels:
        return ""
    return f"black among {colors} colors, and only {pixels / meaning.pixels:.1%} of the pixels; most likely not labeled"


def _rows_of_colors(meaning: Meaning) -> tuple[list[Row], list[str], list[str]]:
    """Ids are given from 0, the commonest color first."""
    if not are_blurred(meaning) and meaning.values is not None:
        return _colored(meaning.values.commonest(MOST_ROWS), meaning), [], ["ids were given to the colors in this file"]
    colors = main_colors(meaning)
    nearest = nearest_of(meaning, colors.values)
    rows = _colored(replace(colors, pixels=nearest.pixels), meaning)
    decisions = [
        f"the masks hold {count_of_colors(meaning)} colors, as smoothing or JPEG leaves them; the file has the "
        f"{colors.values.size} main ones, with the pixels that are nearest to each",
        f"`nearest_color: {nearest.limit}` takes in every color; {share(nearest.far, meaning.pixels)} of the pixels "
        f"differ by more than {SAME} from any main color: a smaller number rejects masks that hold these",
    ]
    if not nearest.tied:
        return rows, [f"nearest_color: {nearest.limit}"], decisions
    between = f"{nearest.tied:,} pixels in colors that are as near to two classes are"
    if any(row.why for row in rows):  # their color is what such pixels are read as
        decisions.append(f"{between} ignored as well")
    elif nearest.free is None:
        decisions.append(f"{between} in no class: a build rejects their masks")
    else:
        color = rgb_of(nearest.free)
        rows.append(
            Row(len(rows), color, 0, 0, "between two classes", f"{between} read as this color, which is in no mask")
        )
    return rows, [f"nearest_color: {nearest.limit}"], decisions


def _colored(colors: Tally, meaning: Meaning) -> list[Row]:
    rows = []
    for place, (code, pixels, masks) in enumerate(_counts(colors)):
        color = rgb_of(code)
        why = _why_void(pixels, meaning, colors.values.size) if code == 0 else ""
        rows.append(Row(place, color, pixels, masks, f"color {'-'.join(map(str, color))}", why))
    return rows


def _rows_of_levels(meaning: Meaning) -> tuple[list[Row], list[str], list[str]]:
    """The two classes of a binary mask with soft edges."""
    values = meaning.values or EMPTY
    rows = []
    for level, part in ((0, values.values < MIDDLE), (1, values.values >= MIDDLE)):
        pixels, masks = int(values.pixels[part].sum()), int(values.masks[part].max(initial=0))
        rows.append(Row(level, None, pixels, masks, f"id {level}"))
    return rows, [f"threshold: {MIDDLE}"], [f"levels from {MIDDLE} are id 1, those below are id 0"]


def _counts(tally: Tally) -> Iterator[tuple[int, int, int]]:
    return zip(tally.values.tolist(), tally.pixels.tolist(), tally.masks.tolist(), strict=True)


def yaml_of(draft: Draft, meaning: Meaning, head: Sequence[str]) -> str:
    """The label file. `head` are sentences for its beginning."""
    lines = [line for text in (*head, *draft.decisions) for line in comment(text)]
    lines += [*draft.keys, "classes:"]
    lines += [_line(row, meaning) for row in draft.classes]
    if draft.ignore_rest:
        lines.append("ignore: rest")
    elif draft.ignored:
        lines += ["ignore:", *(_line(row, meaning) for row in draft.ignored)]
    return "\n".join([*lines, ""])


def _line(row: Row, meaning: Meaning) -> str:
    color = "" if row.color is None else f", color: {[*row.color]}"
    pixels, masks = counted(row.pixels, "pixel"), counted(meaning.masks, "mask")
    count = f"{pixels} ({share(row.pixels, meaning.pixels)}), {row.masks:,} of {masks}"
    hint = f"; {row.hint}" if row.hint else ""
    return f"  - {{name: {row.name}, ids: [{row.source_id}]{color}}}  # {count}{hint}"


def share(part: int, whole: int) -> str:
    """A share in percent that is 0 only if it is nothing."""
    return "< 0.01%" if 0 < part < 5e-5 * whole else f"{part / max(1, whole):.2%}"


def comment(text: str) -> list[str]:
    """The lines of a comment of YAML, whatever the text holds."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return [f"# {line}" for line in textwrap.wrap(printable, _WIDTH, subsequent_indent="  ")]
