"""Whether ids are those of a label table, judged by how much of a street scene each class fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable

SUSPICIOUS_IGNORED = 0.5  # of all pixels; Cityscapes ignores an eighth, CamVid a thirtieth
SUSPICIOUS_RARE = 0.3  # of the pixels of classes, in classes that are small in street scenes
LEAST_GROUND = 0.1  # of all pixels, in a road or the like
# Of the classes of the built-in tables, those that fill street scenes; the others together seldom reach a tenth.
LARGE = {"road", "sidewalk", "pavement", "building", "vegetation", "tree", "terrain", "sky", "car"}
LARGE |= {"flat", "construction", "nature", "vehicle"}
GROUND = {"road", "flat"}


def is_builtin(table: LabelTable) -> bool:
    """Whether it is a built-in table, and not a user's of the same name."""
    make = BUILTIN_TABLES.get(table.name)
    return make is not None and table == make()


def rare_share(counts: Mapping[str, int]) -> float:
    """Class -> pixels: the share of the classes that are small in street scenes."""
    rare = sum(count for name, count in counts.items() if name not in LARGE)
    return rare / max(1, sum(counts.values()))


def tables_that_name(ids: set[int], other_than: str = "") -> list[str]:
    """The built-in tables that name every one of `ids`, without the table called `other_than`."""
    tables = {name: make() for name, make in BUILTIN_TABLES.items() if name != other_than}
    return [name for name, table in tables.items() if all(map(table.names, ids))]


def fitting_tables(pixels: Mapping[int, int], other_than: str = "") -> list[str]:
    """The built-in tables for which masks with so many `pixels` of each id are street scenes."""
    present = {source_id: count for source_id, count in pixels.items() if count}
    named = tables_that_name(set(present), other_than) if present else []
    return [name for name in named if _is_street(present, BUILTIN_TABLES[name]())]


def _is_street(pixels: Mapping[int, int], table: LabelTable) -> bool:
    class_of = {source_id: row.name for row in table.classes for source_id in row.source_ids}
    counts: Counter[str] = Counter()
    for source_id, count in pixels.items():
        counts[class_of.get(source_id, "")] += count
    total = sum(counts.values())
    ignored, ground = counts.pop("", 0), sum(counts[name] for name in GROUND)
    return (
        ignored <= SUSPICIOUS_IGNORED * total
        and ground >= LEAST_GROUND * total
        and rare_share(counts) <= SUSPICIOUS_RARE
    )
