"""What a model sees of an image, as settings. Needs no TensorFlow, so that `--help` does not wait for it."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from beam_pipelines.contract.errors import UserError

MOST_WINDOWS = 10_000  # of a view: more are a window or an overlap that nobody meant


class ViewsError(UserError, ValueError):
    """Views that can't be made; the message says how to fix it."""


@dataclass(frozen=True)
class Views:
    """The views of an image whose probabilities are averaged; see `trainer.inference.logits.predict_logits`.

    Attributes:
      scales: multiples of the image's size, above 0.
      flip: also the mirror image, at each scale.
      window: (height, width) of the windows in which the model sees each view, in pixels; None for the whole view.
      overlap: least overlap of windows that follow each other, as a share of the window: at least 0, below 1.

    Raises:
      ViewsError: a value is out of its range, or there is an overlap without a window.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if not self.scales or any(not 0 < scale < math.inf for scale in self.scales):
            raise ViewsError(f"scales {list(self.scales)}: set one or more numbers above 0")
        if self.window is not None and not all(side > 0 for side in self.window):
            raise ViewsError(f"a window of {shown(self.window)} has no pixels: set sides of at least 1")
        if not 0 <= self.overlap < 1:
            raise ViewsError(f"overlap {self.overlap:g}: set at least 0 and less than 1")
        if self.overlap and self.window is None:
            raise ViewsError(f"overlap {self.overlap:g} has no effect without windows: set --window, or no --overlap")

    @property
    def several(self) -> bool:
        return self.flip or len(self.scales) > 1

    def to_json(self) -> dict[str, Any]:
        window = None if self.window is None else list(self.window)
        return {"scales": list(self.scales), "flip": self.flip, "window": window, "overlap": self.overlap}

    def check_windows(self, size: tuple[int, int]) -> None:
        """Raises ViewsError if an image of `size`, (height, width), has more than MOST_WINDOWS at one of the scales."""
        if self.window is None:
            return
        for scale in self.scales:
            sides = [scaled(side, scale) for side in size]
            count = math.prod(windows_along(*pair, self.overlap) for pair in zip(sides, self.window, strict=True))
            if count > MOST_WINDOWS:
                raise ViewsError(
                    f"an image of {shown(sides)} has {count:,} windows of {shown(self.window)} with overlap "
                    f"{self.overlap:g}, more than {MOST_WINDOWS:,}: set a larger --window or a smaller --overlap"
                )


WHOLE = Views()  # an image as it is


def scaled(side: int, scale: float) -> int:
    """A side in pixels, at least 1."""
    return max(1, round(side * scale))


def windows_along(side: Any, length: int, overlap: float, largest: Callable[[Any, Any], Any] = max) -> Any:
    """The number of windows of `length` pixels that cover a side.

    Args:
      side: in pixels; an integer, or a tensor of one if `largest` is that of tensors.
    """
    step = max(1, length - round(length * overlap))
    return 1 + largest(0, -((length - side) // step))


def shown(size: Any) -> str:
    """HEIGHTxWIDTH, as on a command line."""
    return "x".join(str(side) for side in size)


def take_views(parser: argparse.ArgumentParser, values: dict[str, Any]) -> Views:
    """Makes Views from parsed `values`, and removes from them what it uses.

    Raises SystemExit with code 2 and a message if the values do not go together.
    """
    names = [field.name for field in dataclasses.fields(Views) if field.name in values]
    try:
        return Views(**{name: values.pop(name) for name in names})
    except ViewsError as error:
        parser.error(str(error))
