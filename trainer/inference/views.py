"""What a model sees of an image, as settings. Needs no TensorFlow, so that `--help` does not wait for it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from beam_pipelines.contract.errors import UserError


class ViewsError(UserError, ValueError):
    """Views that can't be made; the message says how to fix it."""


@dataclass(frozen=True)
class Views:
    """The views of an image whose probabilities are averaged; see `trainer.inference.logits.predict_logits`.

    Attributes:
      scales: multiples of the image's size, above 0.
      flip: also the mirror image, at each scale.
      window: (height, width) of the windows in which the model sees each view, in pixels; None for the whole view.
      overlap: of windows that follow each other, as a fraction of the window.

    Raises:
      ViewsError: no scale, or one that is not above 0.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if not self.scales or any(not 0 < scale < math.inf for scale in self.scales):
            raise ViewsError(f"scales {list(self.scales)}: set one or more numbers above 0")

    @property
    def several(self) -> bool:
        return self.flip or len(self.scales) > 1


WHOLE = Views()  # an image as it is


def take_views(values: dict[str, Any]) -> Views:
    """Makes Views from parsed `values`, and removes from them what it uses."""
    names = [field.name for field in dataclasses.fields(Views) if field.name in values]
    return Views(**{name: values.pop(name) for name in names})
