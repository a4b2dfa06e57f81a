"""Annotations in the format of COCO: a JSON file with the images and regions of a split.

Format: cocodataset.org, "Data format", object detection.
"""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.regions import Number, Region, UnreadRegion, encode

_Id = int | str


class _Image(msgspec.Struct):
    id: _Id
    file_name: str
    height: Number | None = None
    width: Number | None = None


class _Annotation(msgspec.Struct):
    image_id: _Id
    category_id: _Id
    segmentation: msgspec.Raw = msgspec.Raw()


class _Category(msgspec.Struct):
    id: _Id
    name: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(data: bytes, name: str) -> Iterator[tuple[str, str, bytes]]:
    """Yields (file_name, "", regions as a line of JSON) of each image, in the order of the file, which messages call
    `name`. Polygons are not parsed: those of one image that can't be drawn are a fault of that image.

    Raises:
      BuildError: it is not such a file, an annotation has a category or an image that the file does not have, or two
        images have the same id.
    """
    try:
        file = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=_File)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BuildError(f"{name} is not a file of COCO with images, annotations and categories: {error}") from error
    categories = {category.id: category.name for category in file.categories}
    regions: dict[_Id, list[Region | UnreadRegion]] = defaultdict(list)
    seen: set[_Id] = set()
    for annotation in file.annotations:
        label = categories.get(annotation.category_id)
        if label is None:
            raise BuildError(
                f"{name}: an annotation of image {annotation.image_id} has category {annotation.category_id}, and the "
                "file has no category with this id: add it"
            )
        regions[annotation.image_id].append(_region(label, annotation.segmentation))
    for image in file.images:
        if image.id in seen:
            raise BuildError(f"{name}: two images have the id {image.id!r}: annotations tell them apart by it")
        seen.add(image.id)
        yield image.file_name, "", encode(image.height, image.width, regions.pop(image.id, []))
    if regions:
        first, count = next(iter(regions)), sum(map(len, regions.values()))
        raise BuildError(
            f"{name}: {count:,} annotations are of images that the file does not have, the first of the image_id "
            f"{first!r}: add these images with the same id (1 and '1' differ), or remove the annotations"
        )


def _region(label: str, segmentation: msgspec.Raw) -> Region | UnreadRegion:
    text = bytes(segmentation).strip()
    if text in (b"", b"null", b"[]"):
        return Region(label, problem="it has a box and no segmentation")
    return UnreadRegion(label, segmentation)
