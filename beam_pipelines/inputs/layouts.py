"""The folder layouts that a build reads. A new layout is a row of `LAYOUTS`: detection, `--annotations`, messages, and
the folders that must not hold the output are derived from the rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.image_types import IMAGE_TYPES

SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT = "|".join(SPLIT_OF_FOLDER)
_TYPE = "|".join(IMAGE_TYPES)
_FLAGS = re.IGNORECASE | re.DOTALL  # a name may contain line breaks
_PICTURE = re.compile(rf".+\.(?:{_TYPE})", _FLAGS)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way to arrange images and masks in folders.

    Attributes:
      name: its name in messages.
      image_folder: the folder that has the images.
      image: the pattern of the name of an image, below the input. Its last group is the stem that image and mask share;
        the groups before it are places of the split's name; a file for which several match must have one split there.
      masks: folder with masks -> the pattern of the name of a mask, with groups like those of `image`; preferred
        folders come first.
      mask_names: the names of masks below such a folder, for messages.
      choice: whether `--annotations` chooses one of the mask folders; otherwise only one of them may exist.
      unlabeled: splits whose masks are placeholders; they are built only if `--splits` names them.
      cure: what to do if there are images but no masks.
    """

    name: str
    image_folder: str
    image: re.Pattern[str]
    masks: Mapping[str, re.Pattern[str]]
    mask_names: str
    choice: bool = False
    unlabeled: frozenset[str] = frozenset()
    cure: str

    @property
    def folders(self) -> str:
        """The folders of the layout, for messages."""
        return f"{self.image_folder}/ with {listed([f'{folder}/' for folder in self.masks])}"

    @property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        return (self.image, *self.masks.values())


def _below_split(folder: str, types: str) -> re.Pattern[str]:
    """Files in `folder`, with the split's folder, if any, above or below it."""
    return re.compile(rf"(?:({_SPLIT})/)?{folder}/(?:({_SPLIT})/)?(.+)\.(?:{types})", _FLAGS)


LAYOUTS = (
    Layout(
        name="Cityscapes",
        image_folder="leftImg8bit",
        image=re.compile(r"(?:.*/)?leftImg8bit/([^/]+)/(.+)_leftImg8bit\.png", re.DOTALL),
        masks={
            kind: re.compile(rf"(?:.*/)?{kind}/([^/]+)/(.+)_{kind}_labelIds\.png", re.DOTALL)
            for kind in ("gtFine", "gtCoarse")
        },
        mask_names="SPLIT/CITY/*_labelIds.png",
        choice=True,
        unlabeled=frozenset({"test"}),
        cure="add gtFine_trainvaltest.zip, or its content, to --input",
    ),
    Layout(
        name="folders",
        image_folder="images",
        image=_below_split("images", _TYPE),
        masks={folder: _below_split(folder, "png") for folder in ("masks", "annotations", "labels")},
        mask_names="*.png",
        cure="put the masks into one of these folders, each a PNG file with the name of its image",
    ),
)
ANNOTATIONS = tuple(folder for layout in LAYOUTS if layout.choice for folder in layout.masks)
PICTURE_FOLDERS = {  # in lower case
    folder.lower() for layout in LAYOUTS for folder in (layout.image_folder, *layout.masks)
}


def is_picture(name: str) -> bool:
    """Whether `name` ends like that of an image file."""
    return _PICTURE.fullmatch(name) is not None


def has_images(names: Iterable[str]) -> bool:
    """Whether any of `names` is an image of a layout."""
    return any(layout.image.fullmatch(name) for name in names for layout in LAYOUTS)


def is_part(name: str) -> bool:
    """Whether `name` is an image or a mask of a layout."""
    return any(pattern.fullmatch(name) for layout in LAYOUTS for pattern in layout.patterns)


def listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
