"""What a layout is: the names of images and of masks, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.inputs.templates import FolderTemplate, Template

_SHOWN_TEMPLATES = 4
AnyTemplate = Template | FolderTemplate


@dataclass(frozen=True, kw_only=True)
class Masks:
    """One kind of masks of a layout.

    Attributes:
      template: their names.
      name: the value of `--annotations` that chooses them.
      ids: what they hold, another value of `--annotations`. All masks of a data set hold the same: the kinds of one
        `ids` are mixed, each split with the first of them that it has.
      labels: the built-in label table that fits.
      table: the names of files of the data set that hold its label table.
      needs_table: bytes in such a file, which must exist, as the names of folders alone tell too little.
      fallback: whether they hold the same classes as the kinds before them, and need no mention if those exist.
    """

    template: AnyTemplate
    name: str
    ids: str = ""
    labels: str | None = None
    table: Template | None = None
    needs_table: bytes | None = None
    fallback: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way to arrange images and masks in folders.

    Attributes:
      name: its name in messages.
      option: the value of `--layout` that chooses it.
      source: where its facts are from.
      images: the names of images.
      masks: the kinds of masks; the first `ids` that exist are read.
      alternatives: whether only one kind of masks may exist, as nothing tells which is meant.
      unlabeled: splits whose masks are placeholders; they are built only if `--splits` names them.
      split_lists: the names of lists of keys that are the splits; images in none of them are left out.
      cure: what to do if there are images but no masks.
    """

    name: str
    option: str
    source: str = ""
    images: tuple[AnyTemplate, ...]
    masks: tuple[Masks, ...]
    alternatives: bool = False
    unlabeled: frozenset[str] = frozenset()
    split_lists: Template | None = None
    cure: str = "add the masks, or their archive, to --input"

    @property
    def shown(self) -> str:
        """The layout, for messages."""
        return f"{shown(self.images)} with {shown([masks.template for masks in self.masks])}"

    @property
    def templates(self) -> tuple[AnyTemplate, ...]:
        return (*self.images, *(masks.template for masks in self.masks))

    @property
    def folders(self) -> frozenset[str]:
        """The names of the folders that hold images and masks."""
        return frozenset().union(*(template.folders for template in self.templates))

    @property
    def is_loose(self) -> bool:
        """Whether only its masks tell the layout, as its images may be in any folder."""
        return not any(template.folders for template in self.images)

    @property
    def is_anywhere(self) -> bool:
        """Whether its masks, too, may be in any folder: only the pairs tell the layout."""
        return self.is_loose and not any(getattr(masks.template, "folder", True) for masks in self.masks)

    def is_image(self, name: str) -> bool:
        """Whether `name` is an image of this layout."""
        return any(template.matches(name) for template in self.images)

    def is_mask(self, name: str) -> bool:
        """Whether `name` is a mask of this layout, of any kind."""
        return any(masks.template.matches(name) for masks in self.masks)


@dataclass(frozen=True, kw_only=True)
class RegionFormat:
    """A file with the regions of many images, in the place of masks; `option` is the value of `--layout`."""

    name: str
    option: str
    source: str


def shown(templates: Sequence[AnyTemplate]) -> str:
    """The forms of names, for messages; of many only the first."""
    texts = list(dict.fromkeys(template.shown for template in templates))
    return listed(texts) if len(texts) <= _SHOWN_TEMPLATES else ", ".join([*texts[:_SHOWN_TEMPLATES], "..."])


def listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
