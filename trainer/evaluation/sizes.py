"""At which size the model sees an image, and at which size it is scored.

A data set built with `--image_size=native` holds images and masks as they are in their files. There the model sees an
image as `trainer.predict` shows it, at the height that it was trained on or, by windows, as it is, and its
probabilities are resized to the size of the mask. Of any other data set, the model sees the images as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from beam_pipelines.contract.manifest import Manifest
from trainer.inference.model_file import Description
from trainer.inference.segmenter import Segmenter, trained_size
from trainer.inference.views import Views


@dataclass(frozen=True)
class Sizes:
    """(height, width) in pixels; None for what differs between images.

    Attributes:
      seen: of the image as the model sees it, before `Views.scales`, whole or by windows.
      scored: of the masks that its prediction is compared with.
    """

    seen: tuple[int, int | None] | None
    scored: tuple[int, int] | None

    @classmethod
    def of(cls, manifest: Manifest, description: Description, views: Views) -> Sizes:
        """Of the images of a data set, for a model with this description."""
        scored = stored_size(manifest)
        if not is_native(manifest) or description.size is None or views.window is not None:
            return cls(scored, scored)
        height = description.size[0]
        return cls((height, None) if scored is None else trained_size(scored, height), scored)

    def to_json(self) -> dict[str, Any]:
        return {"seen": self.seen, "scored": self.scored}

    def __str__(self) -> str:
        scored = "each mask" if self.scored is None else f"the masks, {_joined(self.scored)}"
        if self.seen == self.scored:
            return f"the model sees each image as it is, and is scored at the size of {scored}"
        return f"the model sees images at {_joined(self.seen)}, as in training, and is scored at the size of {scored}"


def is_native(manifest: Manifest) -> bool:
    """Whether images and masks have the sizes of their files."""
    return manifest.recipe.get("image_size", ()) is None


def stored_size(manifest: Manifest) -> tuple[int, int] | None:
    """(height, width) of all images of a data set; None if they have several sizes."""
    height, width = manifest.pixels.height, manifest.pixels.width
    return None if height is None or width is None else (height, width)


def segmenter_of(model: keras.Model, manifest: Manifest, description: Description | None, views: Views) -> Segmenter:
    """Segments the images of a data set at the size of their masks.

    description: of the model; None if it was trained on this data set.
    """
    if description is None:
        description = Description.of("", manifest)
    return Segmenter(model, description, size=None if is_native(manifest) else stored_size(manifest), views=views)


def _joined(size: tuple[int, int | None] | None) -> str:
    if size is None:
        return "their own sizes"
    return f"a height of {size[0]}" if size[1] is None else f"{size[0]}x{size[1]}"
