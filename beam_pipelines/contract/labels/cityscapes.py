"""Cityscapes, and the data sets that share its train ids.

cityscapesScripts, `helpers/labels.py`. KITTI's semantic masks hold the same label ids.
"""

from __future__ import annotations

from dataclasses import replace

from beam_pipelines.contract.labels.table import IGNORE, Label, LabelTable

# name, id, train id, category, color. "license plate" has id -1: it is never drawn in a mask, so it has no row.
_CITYSCAPES = (
    ("unlabeled", 0, IGNORE, "void", (0, 0, 0)),
    ("ego vehicle", 1, IGNORE, "void", (0, 0, 0)),
    ("rectification border", 2, IGNORE, "void", (0, 0, 0)),
    ("out of roi", 3, IGNORE, "void", (0, 0, 0)),
    ("static", 4, IGNORE, "void", (0, 0, 0)),
    ("dynamic", 5, IGNORE, "void", (111, 74, 0)),
    ("ground", 6, IGNORE, "void", (81, 0, 81)),
    ("road", 7, 0, "flat", (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", (244, 35, 232)),
    ("parking", 9, IGNORE, "flat", (250, 170, 160)),
    ("rail track", 10, IGNORE, "flat", (230, 150, 140)),
    ("building", 11, 2, "construction", (70, 70, 70)),
    ("wall", 12, 3, "construction", (102, 102, 156)),
    ("fence", 13, 4, "construction", (190, 153, 153)),
    ("guard rail", 14, IGNORE, "construction", (180, 165, 180)),
    ("bridge", 15, IGNORE, "construction", (150, 100, 100)),
    ("tunnel", 16, IGNORE, "construction", (150, 120, 90)),
    ("pole", 17, 5, "object", (153, 153, 153)),
    ("polegroup", 18, IGNORE, "object", (153, 153, 153)),
    ("traffic light", 19, 6, "object", (250, 170, 30)),
    ("traffic sign", 20, 7, "object", (220, 220, 0)),
    ("vegetation", 21, 8, "nature", (107, 142, 35)),
    ("terrain", 22, 9, "nature", (152, 251, 152)),
    ("sky", 23, 10, "sky", (70, 130, 180)),
    ("person", 24, 11, "human", (220, 20, 60)),
    ("rider", 25, 12, "human", (255, 0, 0)),
    ("car", 26, 13, "vehicle", (0, 0, 142)),
    ("truck", 27, 14, "vehicle", (0, 0, 70)),
    ("bus", 28, 15, "vehicle", (0, 60, 100)),
    ("caravan", 29, IGNORE, "vehicle", (0, 0, 90)),
    ("trailer", 30, IGNORE, "vehicle", (0, 0, 110)),
    ("train", 31, 16, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", (119, 11, 32)),
)
_CITYSCAPES_CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")


def cityscapes19() -> LabelTable:
    """The 19 classes of the Cityscapes benchmark; every other drawn label is ignored."""
    rows = [
        Label(name=name, source_ids=(source_id,), train_id=train_id, color=color, category=category)
        for name, source_id, train_id, category, color in _CITYSCAPES
    ]
    return LabelTable(name="cityscapes19", labels=tuple(rows))


def cityscapes7() -> LabelTable:
    """The 7 categories of Cityscapes, each with all its labels, in the color of its commonest class."""
    rows = []
    for train_id, category in enumerate(_CITYSCAPES_CATEGORIES):
        members = [row for row in _CITYSCAPES if row[3] == category]
        color = next(row[4] for row in members if row[2] != IGNORE)
        source_ids = tuple(row[1] for row in members)
        rows.append(Label(name=category, source_ids=source_ids, train_id=train_id, color=color, category=category))
    rows += [
        Label(name=name, source_ids=(source_id,), train_id=IGNORE, color=color, category=category)
        for name, source_id, _, category, color in _CITYSCAPES
        if category == "void"
    ]
    return LabelTable(name="cityscapes7", labels=tuple(rows))


def cityscapes_train_ids() -> LabelTable:
    """The 19 classes, for masks that hold train ids, 0 to 18, or 255 for ignored pixels."""
    rows = [replace(row, source_ids=(row.train_id,)) for row in cityscapes19().classes]
    ignored = Label(name="ignored", source_ids=(IGNORE,), train_id=IGNORE, color=(0, 0, 0), category="void")
    return LabelTable(name="cityscapes_train_ids", labels=(*rows, ignored))


def bdd100k() -> LabelTable:
    """BDD100K: its masks hold the train ids of Cityscapes. bdd100k, `label/label.py`."""
    return replace(cityscapes_train_ids(), name="bdd100k")
