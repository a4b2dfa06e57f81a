"""Tables from the labels of a data set: each of its labels belongs to a class, or is ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from beam_pipelines.contract.labels.table import IGNORE, Color, Label, LabelTable


class Source(NamedTuple):
    """A label of a data set: its name, its id in masks and its color in masks."""

    name: str
    source_id: int
    color: Color


def own_classes(sources: Iterable[Source], category_of: Mapping[str, str]) -> list[Label]:
    """A class for each of `sources`, in their order; a name that `category_of` lacks is its own category."""
    return [
        Label(
            name=each.name,
            source_ids=(),
            train_id=index,
            color=each.color,
            category=category_of.get(each.name, each.name),
        )
        for index, each in enumerate(sources)
    ]


def grouped(
    name: str, classes: Sequence[Label], members: Mapping[str, Sequence[Source]], ignored: Iterable[Source]
) -> LabelTable:
    """The table of `classes`, each with the ids and colors of its `members` (class -> labels).

    A color that two classes have in masks is read as neither.
    """
    colors_of = {label.name: _distinct(each.color for each in members.get(label.name, ())) for label in classes}
    times = Counter(color for colors in colors_of.values() for color in colors)
    rows = []
    for label in classes:
        ids = _distinct(each.source_id for each in members.get(label.name, ()))
        colors = tuple(color for color in colors_of[label.name] if times[color] == 1)
        rows.append(replace(label, source_ids=ids, mask_colors=None if colors == (label.color,) else colors))
    rows += [
        Label(name=each.name, source_ids=(each.source_id,), train_id=IGNORE, color=each.color, category="void")
        for each in ignored
    ]
    return LabelTable(name=name, labels=tuple(rows))


def _distinct(values: Iterable) -> tuple:
    return tuple(dict.fromkeys(values))
