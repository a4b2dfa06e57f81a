"""Encoded images -> arrays; faults become reasons to reject the pair. The rules are in `contract.pictures`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from beam_pipelines.contract import pictures
from beam_pipelines.rejects import BadInputError


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """-> uint8[H, W, 3], RGB; see `contract.pictures.decode_image`.

    Raises:
      BadInputError: of stage `decode`.
    """
    with refused_at_decode():
        return pictures.decode_image(data, max_pixels)


@contextlib.contextmanager
def refused_at_decode() -> Iterator[None]:
    """Turns a PictureError into a BadInputError of stage `decode`."""
    try:
        yield
    except pictures.PictureError as error:
        raise bad(error.reason, error.detail) from error


def bad(reason: str, detail: str) -> BadInputError:
    """A BadInputError of stage `decode`."""
    return BadInputError("decode", reason, detail)
