"""A2D2: the classes of its `class_list.json`.

Names and colors: Geyer et al., "A2D2: Audi Autonomous Driving Dataset" (2020), `class_list.json`. Cityscapes' classes:
mmsegmentation, `tools/convert_datasets/a2d2.py` (pull request 175).
"""

from __future__ import annotations

from beam_pipelines.contract.labels.cityscapes import cityscapes19
from beam_pipelines.contract.labels.sources import Source, grouped, own_classes
from beam_pipelines.contract.labels.table import LabelTable

# name, class of Cityscapes, a color for each of its numbered instances
_A2D2 = (
    ("Car", "car", ((255, 0, 0), (200, 0, 0), (150, 0, 0), (128, 0, 0))),
    ("Bicycle", "bicycle", ((182, 89, 6), (150, 50, 4), (90, 30, 1), (90, 30, 30))),
    ("Pedestrian", "person", ((204, 153, 255), (189, 73, 155), (239, 89, 191))),
    ("Truck", "truck", ((255, 128, 0), (200, 128, 0), (150, 128, 0))),
    ("Small vehicles", "motorcycle", ((0, 255, 0), (0, 200, 0), (0, 150, 0))),
    ("Traffic signal", "traffic light", ((0, 128, 255), (30, 28, 158), (60, 28, 100))),
    ("Traffic sign", "traffic sign", ((0, 255, 255), (30, 220, 220), (60, 157, 199))),
    ("Utility vehicle", "car", ((255, 255, 0), (255, 255, 200))),
    ("Sidebars", "fence", ((233, 100, 0),)),
    ("Speed bumper", "road", ((110, 110, 0),)),
    ("Curbstone", "sidewalk", ((128, 128, 0),)),
    ("Solid line", "road", ((255, 193, 37),)),
    ("Irrelevant signs", "", ((64, 0, 64),)),
    ("Road blocks", "fence", ((185, 122, 87),)),
    ("Tractor", "truck", ((0, 0, 100),)),
    ("Non-drivable street", "road", ((139, 99, 108),)),
    ("Zebra crossing", "road", ((210, 50, 115),)),
    ("Obstacles / trash", "", ((255, 0, 128),)),
    ("Poles", "pole", ((255, 246, 143),)),
    ("RD restricted area", "road", ((150, 0, 150),)),
    ("Animals", "", ((204, 255, 153),)),
    ("Grid structure", "road", ((238, 162, 173),)),
    ("Signal corpus", "traffic light", ((33, 44, 177),)),
    ("Drivable cobblestone", "road", ((180, 50, 180),)),
    ("Electronic traffic", "", ((255, 70, 185),)),
    ("Slow drive area", "road", ((238, 233, 191),)),
    ("Nature object", "vegetation", ((147, 253, 194),)),
    ("Parking area", "road", ((150, 150, 200),)),
    ("Sidewalk", "sidewalk", ((180, 150, 200),)),
    ("Ego car", "", ((72, 209, 204),)),
    ("Painted driv. instr.", "road", ((200, 125, 210),)),
    ("Traffic guide obj.", "road", ((159, 121, 238),)),
    ("Dashed line", "road", ((128, 0, 255),)),
    ("RD normal street", "road", ((255, 0, 255),)),
    ("Sky", "sky", ((135, 206, 255),)),
    ("Buildings", "building", ((241, 230, 255),)),
    ("Blurred area", "", ((96, 69, 143),)),
    ("Rain dirt", "", ((53, 46, 82),)),
)
_SOURCES = {name: [Source(name, index, color) for color in colors] for index, (name, _, colors) in enumerate(_A2D2)}


def a2d2() -> LabelTable:
    """The 38 classes that the 55 colors of masks stand for, such as car for Car 1 to Car 4."""
    return grouped("a2d2", own_classes([each[0] for each in _SOURCES.values()], {}), _SOURCES, [])


def a2d2_to_cityscapes19() -> LabelTable:
    """Cityscapes' 19 classes; A2D2 has no wall, terrain, rider, bus or train of its own."""
    classes = cityscapes19().classes
    members = {
        row.name: [source for name, of, _ in _A2D2 if of == row.name for source in _SOURCES[name]] for row in classes
    }
    ignored = [_SOURCES[name][0] for name, of, _ in _A2D2 if not of]
    return grouped("a2d2_to_cityscapes19", classes, members, ignored)
