"""IDD, the India Driving Dataset: AutoNUE/public-code, `helpers/anue_labels.py`.

Its `preperation/createLabels.py` makes masks with the ids of one column of these labels: `--id-type=level3Id`, `id`,
`csTrainId` and others. The table of `csTrainId` is `cityscapes_train_ids`.
"""

from __future__ import annotations

from beam_pipelines.contract.labels.cityscapes import cityscapes19
from beam_pipelines.contract.labels.sources import Source, grouped, own_classes
from beam_pipelines.contract.labels.table import IGNORE, Color, LabelTable

_Row = tuple[str, int, int, str, str, Color]
# name, id, id of level 3, category (of level 2), class of Cityscapes (column csTrainId), color
_IDD: tuple[_Row, ...] = (
    ("road", 0, 0, "drivable", "road", (128, 64, 128)),
    ("parking", 1, 1, "drivable", "", (250, 170, 160)),
    ("drivable fallback", 2, 1, "drivable", "", (81, 0, 81)),
    ("sidewalk", 3, 2, "non-drivable", "sidewalk", (244, 35, 232)),
    ("rail track", 4, 3, "non-drivable", "", (230, 150, 140)),
    ("non-drivable fallback", 5, 3, "non-drivable", "terrain", (152, 251, 152)),
    ("person", 6, 4, "living-thing", "person", (220, 20, 60)),
    ("animal", 7, 4, "living-thing", "", (246, 198, 145)),
    ("rider", 8, 5, "living-thing", "rider", (255, 0, 0)),
    ("motorcycle", 9, 6, "2-wheeler", "motorcycle", (0, 0, 230)),
    ("bicycle", 10, 7, "2-wheeler", "bicycle", (119, 11, 32)),
    ("autorickshaw", 11, 8, "autorickshaw", "", (255, 204, 54)),
    ("car", 12, 9, "car", "car", (0, 0, 142)),
    ("truck", 13, 10, "large-vehicle", "truck", (0, 0, 70)),
    ("bus", 14, 11, "large-vehicle", "bus", (0, 60, 100)),
    ("caravan", 15, 12, "large-vehicle", "", (0, 0, 90)),
    ("trailer", 16, 12, "large-vehicle", "", (0, 0, 110)),
    ("train", 17, 12, "large-vehicle", "train", (0, 80, 100)),
    ("vehicle fallback", 18, 12, "large-vehicle", "", (136, 143, 153)),
    ("curb", 19, 13, "barrier", "", (220, 190, 40)),
    ("wall", 20, 14, "barrier", "wall", (102, 102, 156)),
    ("fence", 21, 15, "barrier", "fence", (190, 153, 153)),
    ("guard rail", 22, 16, "barrier", "", (180, 165, 180)),
    ("billboard", 23, 17, "structures", "", (174, 64, 67)),
    ("traffic sign", 24, 18, "structures", "traffic sign", (220, 220, 0)),
    ("traffic light", 25, 19, "structures", "traffic light", (250, 170, 30)),
    ("pole", 26, 20, "structures", "pole", (153, 153, 153)),
    ("polegroup", 27, 20, "structures", "", (153, 153, 153)),
    ("obs-str-bar-fallback", 28, 21, "structures", "", (169, 187, 214)),
    ("building", 29, 22, "construction", "building", (70, 70, 70)),
    ("bridge", 30, 23, "construction", "", (150, 100, 100)),
    ("tunnel", 31, 23, "construction", "", (150, 120, 90)),
    ("vegetation", 32, 24, "vegetation", "vegetation", (107, 142, 35)),
    ("sky", 33, 25, "sky", "sky", (70, 130, 180)),
    ("fallback background", 34, 25, "object fallback", "", (169, 187, 214)),
    ("unlabeled", 35, IGNORE, "void", "", (0, 0, 0)),
    ("ego vehicle", 36, IGNORE, "void", "", (0, 0, 0)),
    ("rectification border", 37, IGNORE, "void", "", (0, 0, 0)),
    ("out of roi", 38, IGNORE, "void", "", (0, 0, 0)),
    ("license plate", 39, IGNORE, "vehicle", "", (0, 0, 142)),
)
_LEVEL3 = [[row for row in _IDD if row[2] == level3] for level3 in range(26)]
_WITH_LABEL_IDS = [Source(row[0], row[1], row[5]) for row in _IDD]


def idd26() -> LabelTable:
    """The 26 classes of level 3, for masks that hold their ids, 0 to 25, or 255."""
    return _level3("idd26", [Source(row[0], row[2], row[5]) for row in _IDD])


def idd_to_idd26() -> LabelTable:
    """The same classes, for masks with the label ids, 0 to 39."""
    return _level3("idd_to_idd26", _WITH_LABEL_IDS)


def _level3(name: str, sources: list[Source]) -> LabelTable:
    members = {_joined(rows): [source for source in sources if source.name in _names(rows)] for rows in _LEVEL3}
    first = [each[0]._replace(name=joined) for joined, each in members.items()]
    classes = own_classes(first, {_joined(rows): rows[0][3] for rows in _LEVEL3})
    ignored = [source for source, row in zip(sources, _IDD, strict=True) if row[2] == IGNORE]
    first_of_id = {source.source_id: source for source in reversed(ignored)}
    return grouped(name, classes, members, reversed(first_of_id.values()))


def idd_to_cityscapes19() -> LabelTable:
    """Cityscapes' 19 classes, for masks with the label ids, 0 to 39."""
    classes = cityscapes19().classes
    labeled = list(zip(_WITH_LABEL_IDS, _IDD, strict=True))
    members = {each.name: [source for source, row in labeled if row[4] == each.name] for each in classes}
    return grouped("idd_to_cityscapes19", classes, members, [source for source, row in labeled if not row[4]])


def _names(rows: list[_Row]) -> list[str]:
    return [row[0] for row in rows]


def _joined(rows: list[_Row]) -> str:
    """The name of a class of level 3: the names of its labels."""
    return " / ".join(_names(rows))
