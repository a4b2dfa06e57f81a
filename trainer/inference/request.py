"""What a prediction is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

FORMS = ("train_ids", "cityscapes_submission")


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """A parsed command line; what each value means stands in its --help."""

    model: str
    images: str
    output: str
    form: str = "train_ids"
    overlay_opacity: float = 0.5
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_image_pixels: int = 100_000_000
    verbose: bool = False
