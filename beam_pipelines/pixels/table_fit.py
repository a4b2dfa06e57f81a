"""Whether ids are those of a label table, judged by how much of a street scene each class fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable

SUSPICIOUS_IGNORED = 0.5  # of all pixels; Cityscapes ignores an eighth, CamVid a thirtieth
SUSPICIOUS_RARE = 0.3  # of the pixels of classes, in classes that are small in street scenes
LEAST_GROUND = 0.1  # of all pixels, in a road or the like
CLOSE = 0.1  # of the pixels of classes: tables that differ by less fit equally well
# Of the classes of the built-in tables, those that fill street scenes; the others together seldom reach a tenth.
LARGE = {"road", "sidewalk", "pavement", "building", "vegetation", "tree", "terrain", "sky", "car"}
LARGE |= {"flat", "construction", "nature", "vehicle"}
LARGE |= {"Road", "Sidewalk", "Building", "Vegetation", "Tree", "Terrain", "Sky", "Car"}  # Mapillary, CamVid
LARGE |= {"rail track / non-drivable fallback", "sky / fallback background"}  # IDD
LARGE |= {"RD normal street", "Drivable cobblestone", "Non-drivable street", "RD restricted area", "Parking area"}
LARGE |= {"Buildings", "Nature object"}  # A2D2, as above
GROUND = {"road", "flat", "Road", "RD normal street"}
NO_STREETS = {"ade20k150", "ade20k_to_cityscapes19", "voc21"}  # pictures of everything
# What messages propose for ids of street scenes: the tables of data sets whose masks hold ids, one for each numbering.
# Not maps to other classes, since any id may belong to one of the large classes there.
PROPOSED = ("cityscapes19", "cityscapes7", "cityscapes_train_ids", "camvid11", "idd26", "idd_to_idd26", "mapillary65")


def is_builtin(table: LabelTable) -> bool:
    """Whether it is a built-in table, and not a user's of the same name."""
    make = BUILTIN_TABLES.get(table.name)
    return make is not None and table == make()


def rare_share(counts: Mapping[str, int]) -> float:
    """Class -> pixels: the share of the classes that are small in street scenes."""
    rare = sum(count for name, count in counts.items() if name not in LARGE)
    return rare / max(1, sum(counts.values()))


def tables_that_name(ids: set[int], other_than: str = "") -> list[str]:
    """Those of `PROPOSED` that name every one of `ids`, without the table called `other_than` and its equals."""
    tables = [BUILTIN_TABLES[name]() for name in PROPOSED]
    wrong = BUILTIN_TABLES[other_than]() if other_than else None
    differ = [table for table in tables if wrong is None or replace(table, name=wrong.name) != wrong]
    return [table.name for table in differ if ids <= table.source_ids]


def fitting_tables(pixels: Mapping[int, int], other_than: str = "") -> list[str]:
    """Those of `PROPOSED` for which masks with so many `pixels` of each id are street scenes: of those, the ones that
    leave about as few pixels to small classes as the best.
    """
    present = {source_id: count for source_id, count in pixels.items() if count}
    named = tables_that_name(set(present), other_than) if present else []
    rare = {name: _rare_in_street(present, BUILTIN_TABLES[name]()) for name in named}
    return [name for name, share in rare.items() if share <= min(SUSPICIOUS_RARE, min(rare.values()) + CLOSE)]


def _rare_in_street(pixels: Mapping[int, int], table: LabelTable) -> float:
    """The share of small classes; 1 if this is no street scene."""
    class_of = {source_id: row.name for row in table.classes for source_id in row.source_ids}
    counts: Counter[str] = Counter()
    for source_id, count in pixels.items():
        counts[class_of.get(source_id, "")] += count
    total = sum(counts.values())
    ignored, ground = counts.pop("", 0), sum(counts[name] for name in GROUND)
    is_street = ignored <= SUSPICIOUS_IGNORED * total and ground >= LEAST_GROUND * total
    return rare_share(counts) if is_street else 1.0
