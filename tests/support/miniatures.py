"""Miniatures of the field's data sets, in the exact form of their distributions, with masks drawn by their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable

SIZE = (16, 32)  # height, width


@dataclass(frozen=True)
class Miniature:
    """A data set in the form of a layout.

    Attributes:
      pairs: (image, mask) names; {0} is replaced by a number.
      splits: split -> numbers of its pairs; the place of the split's folder in the names is {1}.
      labels: the built-in table by which masks are drawn, and which the build is to choose by itself.
      stored: ids, palette or colors.
      others: names of further files, which are no pairs; text ones have content.
      left_out: names of images without masks.
    """

    pairs: tuple[str, str]
    splits: Mapping[str, str]
    labels: str
    stored: str = "ids"
    others: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def vistas_config(table: LabelTable) -> str:
    """As config_v1.2.json has it: the index of a label is its id."""
    rows = sorted(table.labels, key=lambda row: row.source_ids)
    labels = [
        {"name": row.name, "readable": row.name, "color": list(row.color or ()), "evaluate": row in table.classes}
        for row in rows
    ]
    return json.dumps({"labels": labels, "version": "1.2", "mapping": "public", "folder_structure": "{split}"})


_CITY = "{1}/aachen/aachen_{0:06d}_000019"
_VISTAS_TABLE = vistas_config(BUILTIN_TABLES["mapillary65"]())
_SPLITS = {"train": "train", "val": "val"}
_VOC_LISTS = {
    "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "2007_000000\n2007_000001\n",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": "2007_000002\n",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt": "2007_000000\n2007_000001\n2007_000002\n",
}
MINIATURES = {
    "cityscapes": Miniature(
        (f"leftImg8bit/{_CITY}_leftImg8bit.png", f"gtFine/{_CITY}_gtFine_labelIds.png"),
        _SPLITS,
        "cityscapes19",
        left_out=("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png",),
    ),
    "cityscapes as JPEG, train ids": Miniature(
        (f"data/leftImg8bit/{_CITY}_leftImg8bit.jpg", f"data/gtFine/{_CITY}_gtFine_labelTrainIds.png"),
        _SPLITS,
        "cityscapes_train_ids",
    ),
    "idd": Miniature(
        (
            "IDD_Segmentation/leftImg8bit/{1}/201/frame{0:04d}_leftImg8bit.jpg",
            "IDD_Segmentation/gtFine/{1}/201/frame{0:04d}_gtFine_labellevel3Ids.png",
        ),
        _SPLITS,
        "idd26",
    ),
    "idd, label ids": Miniature(
        ("leftImg8bit/{1}/201/frame{0:04d}_leftImg8bit.png", "gtFine/{1}/201/frame{0:04d}_gtFine_labelids.png"),
        _SPLITS,
        "idd_to_idd26",
    ),
    "acdc": Miniature(
        (
            "rgb_anon/fog/{1}/GOPR0475/GOPR0475_frame_{0:06d}_rgb_anon.png",
            "gt/fog/{1}/GOPR0475/GOPR0475_frame_{0:06d}_gt_labelIds.png",
        ),
        _SPLITS,
        "cityscapes19",
        left_out=("rgb_anon/fog/test/GOPR0475/GOPR0475_frame_000041_rgb_anon.png",),
    ),
    "bdd100k": Miniature(
        ("bdd100k/images/10k/{1}/0004a4c0-{0:08d}.jpg", "bdd100k/labels/sem_seg/masks/{1}/0004a4c0-{0:08d}.png"),
        _SPLITS,
        "bdd100k",
        others={"bdd100k/labels/sem_seg/colormaps/train/0004a4c0-00000000.png": ""},
    ),
    "bdd100k of 2018": Miniature(
        ("bdd100k/seg/images/{1}/0004a4c0-{0:08d}.jpg", "bdd100k/seg/labels/{1}/0004a4c0-{0:08d}_train_id.png"),
        _SPLITS,
        "bdd100k",
    ),
    "mapillary": Miniature(
        ("{1}/images/Eni{0:03d}_x-Y.jpg", "{1}/v1.2/labels/Eni{0:03d}_x-Y.png"),
        {"train": "training", "val": "validation"},
        "mapillary65",
        "palette",
        others={"config_v1.2.json": _VISTAS_TABLE, "training/v2.0/labels/Eni000_x-Y.png": "", "config_v2.0.json": "{}"},
        left_out=("testing/images/zzz.jpg",),
    ),
    "mapillary 1.1": Miniature(
        ("{1}/images/Eni{0:03d}.jpg", "{1}/labels/Eni{0:03d}.png"),
        {"train": "training", "val": "validation"},
        "mapillary65",
        "palette",
        others={"config.json": _VISTAS_TABLE, "training/instances/Eni000.png": ""},
    ),
    "kitti": Miniature(
        ("{1}/image_2/{0:06d}_10.png", "{1}/semantic/{0:06d}_10.png"),
        {"train": "training"},
        "cityscapes19",
        others={"training/semantic_rgb/000000_10.png": "", "training/instance/000000_10.png": ""},
        left_out=("testing/image_2/000000_10.png",),
    ),
    "camvid": Miniature(
        ("701_StillsRaw_full/0001TP_{0:06d}.png", "LabeledApproved_full/0001TP_{0:06d}_L.png"),
        {"train": "", "val": ""},
        "camvid32_to_camvid11",
        "colors",
        others={"label_colors.txt": "64 128 64\tAnimal\n"},
        options=("--splits=train=0.5,val=0.5",),
    ),
    "camvid_segnet": Miniature(
        ("CamVid/{1}/0001TP_{0:06d}.png", "CamVid/{1}annot/0001TP_{0:06d}.png"),
        {"train": "train", "val": "val", "test": "test"},
        "camvid11",
        others={
            "CamVid/train.txt": "/SegNet/CamVid/train/0001TP_000000.png /SegNet/CamVid/trainannot/0001TP_000000.png"
        },
    ),
    "a2d2": Miniature(
        (
            "camera_lidar_semantic/20180807_145028/camera/cam_front_center/20180807145028_camera_frontcenter_{0:09d}.png",
            "camera_lidar_semantic/20180807_145028/label/cam_front_center/20180807145028_label_frontcenter_{0:09d}.png",
        ),
        {"train": "", "val": ""},
        "a2d2",
        "colors",
        options=("--splits=train=0.5,val=0.5",),
    ),
    "voc": Miniature(
        ("VOCdevkit/VOC2012/JPEGImages/2007_{0:06d}.jpg", "VOCdevkit/VOC2012/SegmentationClass/2007_{0:06d}.png"),
        {"train": "", "val": ""},
        "voc21",
        "palette",
        others=_VOC_LISTS,
        left_out=("VOCdevkit/VOC2012/JPEGImages/2012_004331.jpg",),
    ),
    "ade20k": Miniature(
        (
            "ADEChallengeData2016/images/{1}/ADE_{1}_{0:08d}.jpg",
            "ADEChallengeData2016/annotations/{1}/ADE_{1}_{0:08d}.png",
        ),
        {"train": "training", "val": "validation"},
        "ade20k150",
        others={"ADEChallengeData2016/objectInfo150.txt": "Idx"},
    ),
    "folders": Miniature(
        ("imgs/{1}/scene {0}_img.tif", "gts/{1}/scene {0}_gt.png"),
        {"train": "train2017", "val": "val2017"},
        "cityscapes19",
    ),
}


def names_of(miniature: Miniature) -> list[tuple[str, str]]:
    """(image, mask) of each pair: two of train, one of every other split."""
    folders = [folder for split, folder in miniature.splits.items() for _ in range(2 if split == "train" else 1)]
    image, mask = miniature.pairs
    return [(image.format(number, folder), mask.format(number, folder)) for number, folder in enumerate(folders)]


def draw(miniature: Miniature, root: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Makes the files below `root`. -> name of the image -> train ids uint8[H, W] that its mask was drawn from."""
    rng = np.random.default_rng(seed)
    table = BUILTIN_TABLES[miniature.labels]()
    drawn = {}
    for image, mask in names_of(miniature):
        _save(Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)), root / image)
        drawn[image] = _draw_mask(table, miniature.stored, root / mask, rng)
    for name in miniature.left_out:
        _save(Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)), root / name)
    for name, text in miniature.others.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return drawn


def _draw_mask(table: LabelTable, stored: str, path: Path, rng: np.random.Generator) -> np.ndarray:
    if stored == "colors":
        values: list[tuple[Any, int]] = [(color, row.train_id) for row in table.labels for color in row.colors_in_masks]
    else:
        values = [(row.source_ids[0], row.train_id) for row in table.labels if row.source_ids]
    index = np.kron(rng.integers(0, len(values), (SIZE[0] // 2, SIZE[1] // 2)), np.ones((2, 2), int))
    image = Image.fromarray(np.array([value for value, _ in values], np.uint8)[index])
    if stored == "palette":
        palette = np.zeros((256, 3), np.uint8)
        for row in table.labels:
            palette[list(row.source_ids)] = row.color or (0, 0, 0)
        image.putpalette(palette.tobytes())
    _save(image, path)
    return np.array([train_id for _, train_id in values], np.uint8)[index]


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
