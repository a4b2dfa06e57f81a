"""Encoded files -> arrays: images as RGB, masks with their ids as they are. What can't be read exactly is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from beam_pipelines.contract import pictures
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.pictures import load as _load
from beam_pipelines.contract.pictures import opaque as _opaque
from beam_pipelines.contract.pictures import open_header as _open
from beam_pipelines.contract.pictures import png_pixels as _png_pixels
from beam_pipelines.rejects import BadInputError

_PNG_GREY = 0  # a colour type of a PNG's header; bit depth and colour type are its bytes 24 and 25


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """-> uint8[H, W, 3], RGB; see `contract.pictures.decode_image`.

    Raises:
      BadInputError: of stage `decode`.
    """
    with _refused_at_decode():
        return pictures.decode_image(data, max_pixels)


@contextlib.contextmanager
def _refused_at_decode() -> Iterator[None]:
    try:
        yield
    except pictures.PictureError as error:
        raise _bad(error.reason, error.detail) from error


@_refused_at_decode()
def decode_mask(data: bytes, table: LabelTable, max_pixels: int) -> np.ndarray:
    """-> the ids as stored, uint8[H, W] or uint16[H, W]: palette indices, or grey values of 1 to 16 bits.

    An RGB mask is looked up by the colours of `table`: each colour gives the first source id of its row.

    Raises:
      BadInputError: of stage `decode`.
    """
    header = _open(data, max_pixels)
    if header.format != "PNG":
        raise _bad("mask_format", f"the mask is a {header.format} file: only PNG keeps ids exactly")
    bit_depth, colour_type = data[24], data[25]
    if colour_type == _PNG_GREY:
        pixels = _png_pixels(data)
        if pixels.ndim == 3:
            pixels = pixels[..., 0]  # one id is marked as transparent (tRNS): it is an id all the same
        # Decoders stretch 1, 2 and 4 bits to 0..255; the division gives back what was stored.
        return pixels if bit_depth >= 8 else pixels // np.uint8(255 // (2**bit_depth - 1))
    image = _load(header, data)
    if image.mode == "P":
        return np.asarray(image)
    if image.mode == "LA":
        return _opaque(image)[..., 0]
    if image.mode in ("RGB", "RGBA") and bit_depth == 8:
        return _ids_of_colours(_opaque(image), table)
    raise _bad("mask_format", f"the mask has mode {image.mode} with {bit_depth} bits: ids or colours were expected")


def _ids_of_colours(pixels: np.ndarray, table: LabelTable) -> np.ndarray:
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    present, place = np.unique(codes, return_inverse=True)
    ids = np.zeros(present.size, np.uint16)
    unknown = []
    for index, code in enumerate(present.tolist()):
        colour = (code >> 16, code >> 8 & 255, code & 255)
        if colour in table.source_id_of_color:
            ids[index] = table.source_id_of_color[colour]
        else:
            unknown.append(colour)
    if unknown:
        shown = ", ".join(map(str, unknown[:20]))
        raise _bad("unknown_colours", f"{len(unknown)} colours are not in table {table.name}: {shown}")
    return ids[place].reshape(codes.shape)


def _bad(reason: str, detail: str) -> BadInputError:
    return BadInputError("decode", reason, detail)
