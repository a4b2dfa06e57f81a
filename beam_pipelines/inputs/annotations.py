"""Annotations that are polygons, not masks: which files have them, and which image each is of.

Labelme writes a JSON file beside each image. COCO and CVAT write one file for many images; planning reads it once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import opened
from beam_pipelines.inputs.claims import composed
from beam_pipelines.inputs.coco import read_coco
from beam_pipelines.inputs.cvat import read_cvat
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layouts import is_picture
from beam_pipelines.inputs.templates import split_of_folder

_HEAD = 4096
_COCO_KEY = re.compile(rb'"(images|annotations|categories|licenses)"')
_CVAT_ROOT = re.compile(rb"<annotations\b")
# Files of COCO without regions of things that are segmented: its captions, key points and panoptic maps.
_OTHER_COCO = re.compile(r"(captions|person_keypoints|panoptic|image_info)_.*\.json", re.IGNORECASE)
_INSTANCES = re.compile(r"instances_.*\.json", re.IGNORECASE)


@dataclass(frozen=True)
class Annotated:
    """The annotations of an image.

    Attributes:
      image: its name in the listing; None if there is no such image, only `wanted`.
      split: "" if neither the annotations nor the folders name one.
      document: its regions as a line of JSON.
      wanted: what the annotations call the image.
      source: the name of the file with the annotations in the listing.
    """

    image: str | None
    split: str
    document: bytes
    wanted: str
    source: str


def may_be_coco(files: Files) -> list[str]:
    """The names of JSON files that have no image of the same stem; where some begin with `instances_`, only those."""
    found = [name for name in _of_many_images(files, ".json") if not _OTHER_COCO.fullmatch(_base(name))]
    return [name for name in found if _INSTANCES.fullmatch(_base(name))] or found


def may_be_cvat(files: Files) -> list[str]:
    """The names of XML files that have no image of the same stem."""
    return _of_many_images(files, ".xml")


def find_coco(files: Files) -> list[str]:
    """Those of `may_be_coco` that have a key of COCO at their beginning."""
    return _that_begin(files, may_be_coco(files), _COCO_KEY)


def find_cvat(files: Files) -> list[str]:
    """Those of `may_be_cvat` that begin with <annotations>."""
    return _that_begin(files, may_be_cvat(files), _CVAT_ROOT)


def coco_pairs(files: Files, names: Sequence[str]) -> Iterator[Annotated]:
    """Yields the images of COCO's files `names`, file by file.

    Raises:
      BuildError: a file can't be read, or the name of an image fits several images equally well.
    """
    return _pairs(files, names, lambda file, name: read_coco(file.read(), name))


def cvat_pairs(files: Files, names: Sequence[str]) -> Iterator[Annotated]:
    """Yields the images of CVAT's files `names`; raises as `coco_pairs` does. A file is read part by part."""
    return _pairs(files, names, read_cvat)


def split_of(name: str) -> str:
    """The split that the annotation file `name` is of, "" if nothing tells: a word of `instances_train2017.json`, or a
    folder.
    """
    words = filter(None, map(split_of_folder, re.split(r"[^0-9A-Za-z]+", _base(name))))
    splits = set(words)
    return splits.pop() if len(splits) == 1 else split_of_folders(name)


def split_of_folders(name: str) -> str:
    """The split of the last folder of `name` that is named like one; "" if there is none."""
    return next(filter(None, map(split_of_folder, reversed(name.split("/")[:-1]))), "")


def _pairs(
    files: Files, names: Sequence[str], read: Callable[[BinaryIO, str], Iterator[tuple[str, str, bytes]]]
) -> Iterator[Annotated]:
    images = _Images(filter(is_picture, files))
    for source in names:
        with opened(files[source][0]) as file:
            for wanted, subset, document in read(file, source):
                split = _split_of_subset(subset) or split_of(source)
                image = images.find(wanted, source, split)
                yield Annotated(image, split or split_of_folders(image or wanted), document, wanted, source)


class _Images:
    """Finds images by the end of their names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_end: Mapping[str, list[str]] = defaultdict(list)
        for name in names:
            for end in _ends(composed(name)):
                self._by_end[end].append(name)

    def find(self, wanted: str, source: str, split: str) -> str | None:
        """The image that `source`, about `split`, calls `wanted`: the one beside it or with the longest common end;
        None if there is none, or only those of other splits.
        """
        plain = "/".join(part for part in composed(wanted).replace("\\", "/").split("/") if part not in ("", "."))
        beside = f"{composed(source).rpartition('/')[0]}/{plain}".lstrip("/")
        for end in (beside, *_ends(plain)):
            found = [name for name in self._by_end.get(end, []) if not _contradict(plain, name, split)]
            exact = [name for name in found if composed(name) == end]
            of_split = [name for name in found if split and split_of_folders(name) == split]
            image = next((names[0] for names in (found, exact, of_split) if len(names) == 1), None)
            if found and image is None:
                raise BuildError(
                    f"{source}: the image {wanted!r} may be {found[0]} or {found[1]}: write its folder before its name"
                )
            if image is not None:
                return image
        return None


def _contradict(wanted: str, image: str, split: str) -> bool:
    """Whether the folders of `image` stand for another split than those of `wanted`, or than `split`, which is none of
    them: the regions would be those of another image.
    """
    told = split_of_folders(image)
    if not told:
        return False
    folders = image.split("/")[:-1]
    is_other = split not in ("", *folders, *map(split_of_folder, folders))
    return is_other or split_of_folders(wanted) not in ("", told)


def _ends(name: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`."""
    parts = name.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _split_of_subset(subset: str) -> str:
    """CVAT calls images that are in no subset `default`."""
    return split_of_folder(subset) or ("" if subset.lower() == "default" else subset)


def _of_many_images(files: Files, ending: str) -> list[str]:
    """The names with this ending that have no image of the same stem."""
    found = sorted(name for name in files if name.lower().endswith(ending))
    stems = {_stem(name) for name in files if is_picture(name)} if found else set()
    return [name for name in found if _stem(name) not in stems]


def _that_begin(files: Files, names: Sequence[str], pattern: re.Pattern[bytes]) -> list[str]:
    """Those of `names` that have `pattern` at their beginning."""
    return [name for name in names if pattern.search(_head(files[name][0]))]


def _head(path: str) -> bytes:
    """The first bytes; without the NULs of UTF-16."""
    with opened(path) as file:
        return file.read(_HEAD).replace(b"\0", b"")


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)
