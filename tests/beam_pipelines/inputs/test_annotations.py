"""Annotations of many images in one file: which files have them, and which image, split and regions each entry is."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.annotations import (
    Annotated,
    coco_pairs,
    cvat_pairs,
    find_coco,
    find_cvat,
    split_of,
)
from beam_pipelines.inputs.coco import read_coco
from beam_pipelines.inputs.cvat import read_cvat
from beam_pipelines.inputs.input_files import Files, list_inputs
from beam_pipelines.inputs.regions import Regions

TRIANGLE = [1.25, 2, 9, 2.5, 5, 8]


def coco(*names: str, **changes: Any) -> bytes:
    """A file with a car in each image."""
    found: dict[str, Any] = {
        "info": {"year": 2017},
        "images": [{"id": index, "file_name": name, "height": 8, "width": 16} for index, name in enumerate(names)],
        "annotations": [
            {
                "id": 1,
                "image_id": index,
                "category_id": 2,
                "segmentation": [TRIANGLE],
                "bbox": [1, 2, 8, 6],
                "area": 9.5,
            }
            for index in range(len(names))
        ],
        "categories": [{"id": 2, "name": "car", "supercategory": "vehicle"}],
    }
    return json.dumps(found | changes, indent=2).encode()


def cvat(*images: str) -> bytes:
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    meta = "  <meta><task><labels><label><name>car</name><type>any</type></label></labels></task></meta>\n"
    return (head + meta + "\n".join(images) + "\n</annotations>\n").encode()


def image(name: str, shapes: str = "", more: str = "") -> str:
    return f'<image id="0" name="{name}" {more} width="16" height="8">{shapes}</image>'


def listing(folder: Path, files: Mapping[str, bytes]) -> Files:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return list_inputs(str(folder))


def of_coco(folder: Path, files: Mapping[str, bytes]) -> list[Annotated]:
    found = listing(folder, files)
    return list(coco_pairs(found, find_coco(found)))


def places(found: list[Annotated]) -> list[tuple[str | None, str]]:
    return [(each.image, each.split) for each in found]


def regions(document: bytes) -> list[Any]:
    return msgspec.json.decode(document, type=Regions).regions


def test_coco_as_it_is_downloaded(tmp_path: Path) -> None:
    files = {
        "annotations/instances_train2017.json": coco("000001.jpg", "000002.jpg"),
        "annotations/instances_val2017.json": coco("000007.jpg"),
        "annotations/captions_train2017.json": b'{"images": [], "annotations": [{"caption": "a car"}]}',
        "annotations/person_keypoints_train2017.json": coco("000001.jpg"),
    }
    images = ("train2017/000001.jpg", "train2017/000002.jpg", "val2017/000007.jpg")
    found = of_coco(tmp_path, files | dict.fromkeys(images, b""))
    assert places(found) == [(images[0], "train"), (images[1], "train"), (images[2], "val")]
    assert found[2].source == "annotations/instances_val2017.json"
    ((region,),) = ([region.segmentation for region in regions(each.document)] for each in found[:1])
    assert region == [TRIANGLE]
    assert b"\n" not in found[0].document


def test_coco_as_roboflow_exports_it_with_the_same_names_in_each_split(tmp_path: Path) -> None:
    files = {f"{split}/_annotations.coco.json": coco("a.jpg", "b.jpg") for split in ("train", "valid")}
    images = [f"{split}/{name}.jpg" for split in ("train", "valid") for name in "ab"]
    found = of_coco(tmp_path, files | dict.fromkeys(images, b""))
    assert places(found) == [(name, {"train": "train", "valid": "val"}[name.split("/")[0]]) for name in images]


def test_an_image_that_its_split_lacks_is_not_taken_from_another_split(tmp_path: Path) -> None:
    images = ("train/1.jpg", "valid/1.jpg", "valid/2.jpg")
    found = of_coco(tmp_path, {"train/_annotations.coco.json": coco("1.jpg", "2.jpg"), **dict.fromkeys(images, b"")})
    assert places(found) == [("train/1.jpg", "train"), (None, "train")]


@pytest.mark.parametrize(
    ("subset", "name", "expected"),
    [
        ("train", "images/val/a.png", (None, "train")),
        ("day", "images/val/a.png", (None, "day")),
        ("day", "images/day/val/a.png", ("images/day/val/a.png", "day")),
        ("Train", "images/train2017/a.png", ("images/train2017/a.png", "train")),
        ("default", "images/val/a.png", ("images/val/a.png", "val")),
    ],
)
def test_an_image_of_a_subset_is_in_no_folder_of_another_split(
    tmp_path: Path, subset: str, name: str, expected: tuple[str | None, str]
) -> None:
    files = listing(tmp_path, {"annotations.xml": cvat(image("a.png", more=f'subset="{subset}"')), name: b""})
    assert places(list(cvat_pairs(files, ["annotations.xml"]))) == [expected]


@pytest.mark.parametrize(
    ("wanted", "images", "expected"),
    [
        ("a.jpg", ["images/a.jpg"], "images/a.jpg"),
        ("city/a.jpg", ["images/city/a.jpg", "images/town/a.jpg"], "images/city/a.jpg"),
        ("C:\\data\\city\\a.jpg", ["images/city/a.jpg", "images/town/a.jpg"], "images/city/a.jpg"),
        ("./images/a.jpg", ["images/a.jpg", "other/images/a.jpg"], "images/a.jpg"),
        ("u\u0308.jpg", ["images/\u00fc.jpg"], "images/\u00fc.jpg"),
        ("a.jpg", ["images/train/a.jpg", "images/val/a.jpg"], "images/train/a.jpg"),
        ("train/a.jpg", ["val/a.jpg"], None),
        ("a.jpg", ["images/val/a.jpg"], None),
        ("a.jpg", ["valid/a.jpg", "test/a.jpg"], None),
        ("a.jpg", ["valid/a.jpg", "a.jpg"], "a.jpg"),
        ("b.jpg", ["images/a.jpg"], None),
    ],
)
def test_an_image_is_found_by_the_end_of_its_name(
    tmp_path: Path, wanted: str, images: list[str], expected: Any
) -> None:
    found = of_coco(tmp_path, {"train.json": coco(wanted), **dict.fromkeys(images, b"")})
    assert [(each.image, each.wanted) for each in found] == [(expected, wanted)]


def test_a_name_that_fits_two_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^all\.json: the image 'a\.jpg' may be one/a\.jpg or two/a\.jpg: write its"):
        of_coco(tmp_path, {"all.json": coco("a.jpg"), "one/a.jpg": b"", "two/a.jpg": b""})


def test_annotations_in_an_archive_are_read_in_place(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/train/a.jpg", b"")
        archive.writestr("train.json", coco("a.jpg"))
        archive.writestr("annotations.xml", cvat(image("a.jpg")))
    found = list_inputs(str(tmp_path / "all.zip"))
    for pairs in (list(coco_pairs(found, find_coco(found))), list(cvat_pairs(found, find_cvat(found)))):
        assert places(pairs) == [("images/train/a.jpg", "train")]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("Validation.json", "val"),
        ("my-test-set.json", "test"),
        ("train/_annotations.coco.json", "train"),
        ("train/val.json", "val"),
        ("trainval.json", ""),
        ("train_val.json", ""),
        ("test_drive/all.json", ""),
    ],
)
def test_the_split_of_a_file(name: str, split: str) -> None:
    assert split_of(name) == split


def test_an_image_of_no_split_is_of_that_of_its_folder(tmp_path: Path) -> None:
    found = of_coco(tmp_path, {"all.json": coco("a.jpg", "b.jpg"), "images/val/a.jpg": b"", "images/b.jpg": b""})
    assert places(found) == [("images/val/a.jpg", "val"), ("images/b.jpg", "")]


def test_images_without_annotations_and_annotations_without_a_segmentation() -> None:
    data = coco(
        "a.jpg", "b.jpg", annotations=[{"image_id": 0, "category_id": 2, "bbox": [1, 2, 3, 4], "segmentation": []}]
    )
    (_, _, one), (_, _, other) = read_coco(b"\xef\xbb\xbf" + data, "all.json")
    assert "no segmentation" in regions(one)[0].problem
    assert regions(other) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "is not a file of COCO"),
        (b'{"images": [', "is not a file of COCO"),
        (coco("a.jpg", categories=[]), "has category 2, and the file has no category with this id"),
        (coco("a.jpg", images=[{"id": 0}]), "missing required field `file_name`"),
        (
            coco("a.jpg", "b.jpg", images=[{"id": "0", "file_name": "a.jpg"}]),
            "2 annotations.*the first of the image_id 0:",
        ),
        (
            coco("a.jpg", images=[{"id": 0, "file_name": name} for name in ("a.jpg", "b.jpg")]),
            "two images have the id 0",
        ),
    ],
)
def test_a_file_that_is_not_of_coco_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BuildError, match=f"^all.json.*{problem}"):
        list(read_coco(data, "all.json"))


def test_labelme_is_beside_the_image_and_not_taken_for_coco(tmp_path: Path) -> None:
    assert find_coco(listing(tmp_path, {"images/a.jpg": b"", "images/a.json": coco("a.jpg")})) == []


def test_other_json_and_xml_is_no_annotation_file(tmp_path: Path) -> None:
    others = {"labels.json": b'{"road": 1}', "voc.xml": b"<annotation><size/></annotation>", "empty.json": b""}
    found = listing(tmp_path / "one", others)
    assert find_coco(found) == find_cvat(found) == []


def test_cvat_as_a_task_and_as_a_project_is_exported(tmp_path: Path) -> None:
    data = cvat(
        image("a.jpg", more='subset="Train" task_id="3"'),
        image("b.jpg", more='subset="default"'),
        image("sub/c.jpg", more='subset="Validation"'),
    )
    images = ("images/Train/a.jpg", "images/Validation/a.jpg", "images/default/b.jpg", "images/Validation/sub/c.jpg")
    found = listing(tmp_path, {"annotations.xml": data, **dict.fromkeys(images, b""), "voc/a.xml": b"<annotation/>"})
    assert find_cvat(found) == ["annotations.xml"]
    expected = [(images[0], "train"), (images[2], ""), (images[3], "val")]
    assert places(list(cvat_pairs(found, ["annotations.xml"]))) == expected


def test_shapes_of_cvat_are_in_the_order_in_which_they_are_drawn() -> None:
    shapes = (
        '<polygon label="car" points="1.50,2.00;3.00,4.00;5.00,6.00" z_order="2"><attribute name="a"/></polygon>'
        '<tag label="sunny"/><points label="p" points="1,2"/><skeleton label="s"><points points="1,2"/></skeleton>'
        '<polyline label="lane" points="0,0;9,9" z_order="-1"></polyline><cuboid label="bus" xtl1="0" z_order="5"/>'
    )
    ((name, subset, document),) = read_cvat(io.BytesIO(cvat(image("a.jpg", shapes))), "annotations.xml")
    assert (name, subset) == ("a.jpg", "")
    found = regions(document)
    assert [region.label for region in found] == ["lane", "bus", "car"]
    assert found[0].line == [0, 0, 9, 9]
    assert found[1].problem == "a cuboid can't be drawn"
    assert found[2].segmentation == [[1.5, 2, 3, 4, 5, 6]]


BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (BOMB, "has a document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "has a document type"),
        (b"<annotation><object/></annotation>", "holds <annotation>, not <annotations>"),
        (cvat('<track id="0" label="car"/>'), "tracks of a video"),
        (cvat(image("a.jpg"))[:-30], "is not XML, or is truncated"),
        (cvat(image("")), "an <image> has no name"),
        (b'<?xml version="1.0" encoding="none"?><annotations/>', "is not XML"),
        (b"", "is not XML"),
    ],
)
def test_a_file_that_is_not_of_cvat_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BuildError, match=f"^annotations.xml.*{problem}"):
        list(read_cvat(io.BytesIO(data), "annotations.xml"))


def test_a_damaged_archive_is_told_by_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("images/a.jpg", b"")
        archive.writestr("train.json", coco("a.jpg"))
    found = list_inputs(str(tmp_path / "all.zip"))
    data = (tmp_path / "all.zip").read_bytes()
    (tmp_path / "all.zip").write_bytes(data.replace(b'"car"', b'"bus"'))
    with pytest.raises(BuildError, match=r"all\.zip!/train\.json can't be read: Bad CRC-32"):
        list(coco_pairs(found, find_coco(found)))
