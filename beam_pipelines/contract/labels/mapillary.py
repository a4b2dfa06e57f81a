"""Mapillary Vistas 1.2.

Names and colors as in its `config_v1.2.json`: mmsegmentation, `mmseg/datasets/mapillary.py`. Categories are the first
part of the names there, such as "construction--flat--road". Cityscapes' classes: CVRN (Huang et al., CVPR 2021),
`init_vistas2cityscapes_format.py`, and EDAPS (Saha et al., ICCV 2023), `mapillaryscripts/map_ids_19_classes.py`.
"""

from __future__ import annotations

from beam_pipelines.contract.labels.cityscapes import cityscapes19
from beam_pipelines.contract.labels.sources import Source, grouped, own_classes
from beam_pipelines.contract.labels.table import LabelTable

# name, category, class of Cityscapes, color. The ids of masks, which are palette indices, are 0 to 65 in this order.
_VISTAS = (
    ("Bird", "animal", "", (165, 42, 42)),
    ("Ground Animal", "animal", "", (0, 192, 0)),
    ("Curb", "construction", "sidewalk", (196, 196, 196)),
    ("Fence", "construction", "fence", (190, 153, 153)),
    ("Guard Rail", "construction", "", (180, 165, 180)),
    ("Barrier", "construction", "", (90, 120, 150)),
    ("Wall", "construction", "wall", (102, 102, 156)),
    ("Bike Lane", "construction", "road", (128, 64, 255)),
    ("Crosswalk - Plain", "construction", "road", (140, 140, 200)),
    ("Curb Cut", "construction", "sidewalk", (170, 170, 170)),
    ("Parking", "construction", "road", (250, 170, 160)),
    ("Pedestrian Area", "construction", "sidewalk", (96, 96, 96)),
    ("Rail Track", "construction", "", (230, 150, 140)),
    ("Road", "construction", "road", (128, 64, 128)),
    ("Service Lane", "construction", "road", (110, 110, 110)),
    ("Sidewalk", "construction", "sidewalk", (244, 35, 232)),
    ("Bridge", "construction", "", (150, 100, 100)),
    ("Building", "construction", "building", (70, 70, 70)),
    ("Tunnel", "construction", "", (150, 120, 90)),
    ("Person", "human", "person", (220, 20, 60)),
    ("Bicyclist", "human", "rider", (255, 0, 0)),
    ("Motorcyclist", "human", "rider", (255, 0, 100)),
    ("Other Rider", "human", "rider", (255, 0, 200)),
    ("Lane Marking - Crosswalk", "marking", "road", (200, 128, 128)),
    ("Lane Marking - General", "marking", "road", (255, 255, 255)),
    ("Mountain", "nature", "", (64, 170, 64)),
    ("Sand", "nature", "", (230, 160, 50)),
    ("Sky", "nature", "sky", (70, 130, 180)),
    ("Snow", "nature", "", (190, 255, 255)),
    ("Terrain", "nature", "terrain", (152, 251, 152)),
    ("Vegetation", "nature", "vegetation", (107, 142, 35)),
    ("Water", "nature", "", (0, 170, 30)),
    ("Banner", "object", "", (255, 255, 128)),
    ("Bench", "object", "", (250, 0, 30)),
    ("Bike Rack", "object", "", (100, 140, 180)),
    ("Billboard", "object", "", (220, 220, 220)),
    ("Catch Basin", "object", "", (220, 128, 128)),
    ("CCTV Camera", "object", "", (222, 40, 40)),
    ("Fire Hydrant", "object", "", (100, 170, 30)),
    ("Junction Box", "object", "", (40, 40, 40)),
    ("Mailbox", "object", "", (33, 33, 33)),
    ("Manhole", "object", "", (100, 128, 160)),
    ("Phone Booth", "object", "", (142, 0, 0)),
    ("Pothole", "object", "", (70, 100, 150)),
    ("Street Light", "object", "", (210, 170, 100)),
    ("Pole", "object", "pole", (153, 153, 153)),
    ("Traffic Sign Frame", "object", "", (128, 128, 128)),
    ("Utility Pole", "object", "pole", (0, 0, 80)),
    ("Traffic Light", "object", "traffic light", (250, 170, 30)),
    ("Traffic Sign (Back)", "object", "traffic sign", (192, 192, 192)),
    ("Traffic Sign (Front)", "object", "traffic sign", (220, 220, 0)),
    ("Trash Can", "object", "", (140, 140, 20)),
    ("Bicycle", "object", "bicycle", (119, 11, 32)),
    ("Boat", "object", "", (150, 0, 255)),
    ("Bus", "object", "bus", (0, 60, 100)),
    ("Car", "object", "car", (0, 0, 142)),
    ("Caravan", "object", "", (0, 0, 90)),
    ("Motorcycle", "object", "motorcycle", (0, 0, 230)),
    ("On Rails", "object", "train", (0, 80, 100)),
    ("Other Vehicle", "object", "", (128, 64, 64)),
    ("Trailer", "object", "", (0, 0, 110)),
    ("Truck", "object", "truck", (0, 0, 70)),
    ("Wheeled Slow", "object", "", (0, 0, 192)),
    ("Car Mount", "void", "", (32, 32, 32)),
    ("Ego Vehicle", "void", "", (120, 10, 10)),
    ("Unlabeled", "void", "", (0, 0, 0)),
)
_SOURCES = {name: Source(name, index, color) for index, (name, _, _, color) in enumerate(_VISTAS)}


def mapillary65() -> LabelTable:
    """The 65 classes that the benchmark evaluates; Unlabeled is ignored."""
    *classes, unlabeled = _SOURCES.values()
    rows = own_classes(classes, {name: category for name, category, _, _ in _VISTAS})
    return grouped("mapillary65", rows, {source.name: [source] for source in classes}, [unlabeled])


def mapillary_to_cityscapes19() -> LabelTable:
    """Cityscapes' 19 classes; what is none of them is ignored."""
    classes = cityscapes19().classes
    members = {row.name: [_SOURCES[name] for name, _, of, _ in _VISTAS if of == row.name] for row in classes}
    ignored = [_SOURCES[name] for name, _, of, _ in _VISTAS if not of]
    return grouped("mapillary_to_cityscapes19", classes, members, ignored)
