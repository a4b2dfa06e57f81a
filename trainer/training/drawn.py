"""What class-uniform sampling reached: the share of each class in the pixels that were trained on."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from beam_pipelines.contract.labels import LabelTable


class DrawnClasses:
    """Prints the shares of the classes in the labeled pixels of an epoch, once, beside those of uniform sampling.

    Args:
      uniform: float64[C], the pixels of each class in the images to train on, which uniform sampling reaches in the
        mean.
    """

    def __init__(self, labels: LabelTable, uniform: np.ndarray, console: Console) -> None:
        self._labels, self._uniform, self._console = labels, uniform, console
        self._is_shown = False

    def show(self, confusion: np.ndarray) -> None:
        """Prints the table of an epoch with the counts int64[C, C], whose rows are the truth; only the first time."""
        pixels = confusion.sum(axis=1)
        if not self._is_shown and pixels.any():
            self._console.print(share_table(self._labels, self._uniform, pixels))
            self._is_shown = True


def share_table(labels: LabelTable, uniform: np.ndarray, drawn: np.ndarray) -> Table:
    """A row a class: the share of its pixels in `uniform` and in `drawn`, both [C], and the second by the first."""
    table = Table(title="labeled pixels of an epoch", title_justify="left")
    table.add_column("class")
    for name in ("uniform sampling", "class-uniform", "ratio"):
        table.add_column(name, justify="right")
    before, after = (100 * np.asarray(pixels, np.float64) / np.sum(pixels) for pixels in (uniform, drawn))
    for row, share, reached in zip(labels.classes, before, after, strict=True):
        ratio = f"{reached / share:.2f}" if share else ""
        table.add_row(Text(row.name), f"{share:.2f} %", f"{reached:.2f} %", ratio)
    return table
