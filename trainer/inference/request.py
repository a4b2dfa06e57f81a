"""The settings of a prediction."""

from __future__ import annotations

from dataclasses import dataclass

FORMS = ("train_ids", "cityscapes_submission")


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """A parsed command line; see `python -m trainer.predict --help`."""

    model: str
    images: str
    output: str
    form: str = "train_ids"
    overlay_opacity: float = 0.5
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_image_pixels: int = 100_000_000
    overwrite: bool = False
    verbose: bool = False
