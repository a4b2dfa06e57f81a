"""The slices of a report's page as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.contract.pages import count
from beam_pipelines.contract.pages.charts import Table
from trainer.evaluation.page.wording import interval, percent
from trainer.evaluation.slices import KINDS, Slice


@dataclass(frozen=True)
class Kind:
    """The slices of a kind that have the mean over classes: what they are, and a table of them."""

    name: str
    about: str
    table: Table


@dataclass(frozen=True)
class ClassSizes:
    """What class sizes are, and for each class its slices, from small to large."""

    about: str
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]


def kinds_of(slices: Sequence[Slice]) -> list[Kind]:
    """Those of all classes, by kind."""
    found = []
    for name, kind in KINDS.items():
        members = [each for each in slices if each.kind == name and each.of_class is None]
        if members:
            rows = [
                [each.name, count(each.images), count(each.pixels), percent(each.iou), interval(each.interval)]
                for each in members
            ]
            head = [name, "images", "pixels", "mean IoU", "95 % interval"]
            found.append(Kind(name, kind.about, Table(head, rows)))
    return found


def class_sizes_of(slices: Sequence[Slice]) -> ClassSizes | None:
    """Those of single classes: (IoU, interval, what sizes) of each; None if there are none."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    kind = ""
    for each in slices:
        if each.of_class is not None:
            kind = each.kind
            size = each.name.partition(": ")[2]
            rows.setdefault(each.of_class, []).append((percent(each.iou), interval(each.interval), size))
    return ClassSizes(KINDS[kind].about, [*rows.items()]) if rows else None
