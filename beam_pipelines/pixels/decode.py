"""Encoded images -> arrays; faults become reasons to reject the pair. The rules are in `contract.pictures`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from beam_pipelines.contract import pictures
from beam_pipelines.contract.picture_rules import STRICT, Rules
from beam_pipelines.rejects import BadInputError

# Field of `Rules` -> the option that would take the picture.
IMAGE_CURES = {
    "orient": "--orient=apply turns image and mask, each by its own orientation, --orient=image only the image",
    "alpha": "--alpha=drop takes their colors as stored, --alpha=white or black blends them with a background",
    "deep": "--deep=scale rounds them",
}
MASK_CURES = {"orient": IMAGE_CURES["orient"]}


def decode_image(data: bytes, max_pixels: int, rules: Rules = STRICT) -> np.ndarray:
    """-> uint8[H, W, 3], RGB; see `contract.pictures.decode_image`.

    Raises:
      BadInputError: of stage `decode`.
    """
    with refused_at_decode(IMAGE_CURES):
        return pictures.decode_image(data, max_pixels, rules)


@contextlib.contextmanager
def refused_at_decode(cures: Mapping[str, str]) -> Iterator[None]:
    """Turns a PictureError into a BadInputError of stage `decode`, with the option that would take the picture."""
    try:
        yield
    except pictures.PictureError as error:
        cure = f"; {cures[error.rule]}" if error.rule in cures else ""
        raise bad(error.reason, error.detail + cure) from error


def bad(reason: str, detail: str) -> BadInputError:
    """A BadInputError of stage `decode`."""
    return BadInputError("decode", reason, detail)
