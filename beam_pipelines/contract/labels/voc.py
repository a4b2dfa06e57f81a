"""Pascal VOC: background and the 20 classes of VOC 2012, with the groups and the palette of its development kit."""

from __future__ import annotations

from beam_pipelines.contract.labels.table import IGNORE, Label, LabelTable

_VOC = (
    ("background", "background", (0, 0, 0)),
    ("aeroplane", "vehicle", (128, 0, 0)),
    ("bicycle", "vehicle", (0, 128, 0)),
    ("bird", "animal", (128, 128, 0)),
    ("boat", "vehicle", (0, 0, 128)),
    ("bottle", "indoor", (128, 0, 128)),
    ("bus", "vehicle", (0, 128, 128)),
    ("car", "vehicle", (128, 128, 128)),
    ("cat", "animal", (64, 0, 0)),
    ("chair", "indoor", (192, 0, 0)),
    ("cow", "animal", (64, 128, 0)),
    ("diningtable", "indoor", (192, 128, 0)),
    ("dog", "animal", (64, 0, 128)),
    ("horse", "animal", (192, 0, 128)),
    ("motorbike", "vehicle", (64, 128, 128)),
    ("person", "person", (192, 128, 128)),
    ("pottedplant", "indoor", (0, 64, 0)),
    ("sheep", "animal", (128, 64, 0)),
    ("sofa", "indoor", (0, 192, 0)),
    ("train", "vehicle", (128, 192, 0)),
    ("tvmonitor", "indoor", (0, 64, 128)),
)


def voc21() -> LabelTable:
    """Ids are palette indices: 0 is the background, a class of its own; 255, the border of objects, is ignored."""
    rows = [
        Label(name=name, source_ids=(index,), train_id=index, color=color, category=category)
        for index, (name, category, color) in enumerate(_VOC)
    ]
    void = Label(name="void", source_ids=(IGNORE,), train_id=IGNORE, color=(224, 224, 192), category="void")
    return LabelTable(name="voc21", labels=(*rows, void))
