"""The content of a mask file, without its meaning: samples, and the number, gray level and color of each value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from beam_pipelines.contract.picture_rules import STRICT, UPRIGHT, Rules, upright
from beam_pipelines.contract.pictures import (
    PictureError,
    checked_orientation,
    load,
    opaque,
    open_header,
    png_pixels,
)
from beam_pipelines.pixels.decode import MASK_CURES, bad, refused_at_decode

GRAY, SHALLOW, PALETTE, RGB = "grey", "shallow grey", "palette", "RGB"  # "grey", since plans hold these texts
KINDS = {
    GRAY: "gray with 8 or 16 bits",
    SHALLOW: "gray with 1, 2 or 4 bits",
    PALETTE: "palette",
    RGB: "RGB",
}
_JPEG = ("JPEG", "MPO")  # Pillow's formats
_PNG_GRAY = 0  # a color type; bit depth and color type are the bytes 24 and 25 of a PNG
_SHORT_RUN = 8  # pixels: counting longer runs is faster than counting pixels
NONE = -1  # in `StoredMask`: a sample that has no such number
_RGB_CODE = np.array([1 << 16, 1 << 8, 1], np.uint32)


@dataclass(frozen=True)
class StoredMask:
    """A mask as stored: `samples` uint8 or uint16 [H, W], and the n `values` that occur there, int64[n] in order; of
    RGB both are uint32, red << 16 | green << 8 | blue. Of each value: the stored number, the gray level in 8 and in 16
    bits, int64[n] (-1: none), and the color in 8 bits, int64[n, 3] (-1: none, or not opaque). `counts`, int64[n], are
    the pixels of each value.
    """

    kind: str
    samples: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    numbers: np.ndarray
    levels: np.ndarray
    deep: np.ndarray
    colors: np.ndarray

    def without_pixels(self) -> StoredMask:
        return replace(self, samples=self.samples[:0])


@refused_at_decode(MASK_CURES)
def open_mask(data: bytes, max_pixels: int, rules: Rules = STRICT) -> tuple[Image.Image, np.ndarray | None, int]:
    """-> the header; the pixels of a gray mask without alpha, upright: samples as stored, less than 8 bits stretched;
    and the EXIF orientation that the pixels of another mask have.
    """
    header = open_header(data, max_pixels)
    if header.format != "PNG":
        raise bad("mask_format", _other_format(header.format or "?"))
    applies = rules.orient != "image"
    orientation = checked_orientation(header, data, rules.orient, "image") if applies else UPRIGHT
    if data[25] != _PNG_GRAY:
        return header, None, orientation
    pixels = png_pixels(data)
    # An id that is marked as transparent (tRNS) adds a second channel; it is still an id.
    return header, upright(pixels[..., 0] if pixels.ndim == 3 else pixels, orientation), UPRIGHT


def _other_format(kind: str) -> str:
    refusal = f"the mask is a {kind} file: only PNG is read, as it keeps ids exactly"
    if kind in _JPEG:
        return (
            f"{refusal}; JPEG has blended them: save the mask as PNG where it comes from, or convert it to PNG, and "
            "give colors and `nearest_color` in the label table"
        )
    condition = ", if it is lossless (others have blended ids)" if kind == "WEBP" else ""
    return f"{refusal}; convert it with Pillow{condition}: Image.open(MASK).save('MASK.png')"


@refused_at_decode(MASK_CURES)
def stored_mask(data: bytes, image: Image.Image, pixels: np.ndarray | None, orientation: int = UPRIGHT) -> StoredMask:
    """The content of the file, without its meaning; the arguments behind the first are the results of `open_mask`."""
    if pixels is not None:
        return _gray(pixels, data[24])
    stored = _loaded(data, image)
    return replace(stored, samples=upright(stored.samples, orientation))


def _loaded(data: bytes, image: Image.Image) -> StoredMask:
    bits = data[24]
    load(image, data)
    if image.mode == "P":
        return _palette(image)
    if image.mode == "LA" and bits == 8:
        return _gray(opaque(image)[..., 0], bits)
    if image.mode in ("RGB", "RGBA") and bits == 8:
        return _rgb(_opaque_colors(image))
    raise bad("mask_format", f"the mask has mode {image.mode} with {bits} bits: expected ids or colors")


def _opaque_colors(image: Image.Image) -> np.ndarray:
    """uint8[H, W, 3]. Raises PictureError."""
    try:
        return opaque(image)
    except PictureError as error:
        if image.mode != "RGBA":
            raise
        detail = (
            f"{error.detail}: in an RGBA mask alpha may be a part of an instance's number, as in BDD100K's bitmasks of "
            "labels/pan_seg and labels/ins_seg (category, attributes, number); its semantic masks are in "
            "labels/sem_seg/masks"
        )
        raise PictureError(error.reason, detail) from error


def together(masks: Sequence[StoredMask]) -> StoredMask:
    """A mask without pixels that has all palette entries of `masks`."""
    entries = sorted({entry for mask in masks for entry in zip(*map(np.ndarray.tolist, _entries(mask)), strict=True)})
    numbers, levels, *colors = (np.array(column, np.int64) for column in zip(*entries, strict=True))
    samples, counts = np.empty(0, np.int64), np.zeros_like(numbers)
    return StoredMask(PALETTE, samples, numbers, counts, numbers, levels, _deepened(levels), np.stack(colors, axis=-1))


def _entries(mask: StoredMask) -> tuple[np.ndarray, ...]:
    return mask.numbers, mask.levels, *mask.colors.T


def palette_of(stored: StoredMask) -> list[tuple[int, tuple[int, ...]]]:
    """(index, RGB) of each entry that is used."""
    return list(zip(stored.numbers.tolist(), map(tuple, stored.colors.tolist()), strict=True))


def described(stored: StoredMask) -> str:
    """The kind and the values of the mask, for messages."""
    numbers = stored.numbers if stored.kind != RGB else stored.levels
    shown = ", ".join(map(str, numbers[:8].tolist())) + (", ..." if numbers.size > 8 else "")
    return f"a mask stored as {KINDS[stored.kind]}" + ("" if (numbers == NONE).any() else f" with the values {shown}")


def _gray(pixels: np.ndarray, bits: int) -> StoredMask:
    values, counts = counted(pixels)
    shown = values.astype(np.int64)
    if bits < 8:  # decoders stretch 1, 2 and 4 bits to 0..255; the division undoes that
        numbers, levels, deep = shown // (255 // (2**bits - 1)), shown, shown * 257
    elif bits == 8:
        numbers, levels, deep = shown, shown, shown * 257
    else:
        numbers, deep = shown, shown
        levels = shown // 257 if not (shown % 257).any() else np.full_like(shown, NONE)
    colors = np.repeat(levels[:, None], 3, axis=1)
    return StoredMask(SHALLOW if bits < 8 else GRAY, pixels, values, counts, numbers, levels, deep, colors)


def _palette(image: Image.Image) -> StoredMask:
    pixels = np.asarray(image)
    values, counts = counted(pixels)
    entries = np.full((256, 3), NONE, np.int64)
    listed = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)[:256]
    entries[: len(listed)] = listed
    numbers, colors = values.astype(np.int64), entries[values]
    opaque_colors = np.where(_opaque_entries(image)[values][:, None], colors, NONE)
    levels = np.where(are_gray(opaque_colors), opaque_colors[:, 0], NONE)
    return StoredMask(PALETTE, pixels, values, counts, numbers, levels, _deepened(levels), opaque_colors)


def _opaque_entries(image: Image.Image) -> np.ndarray:
    """bool[256]: whether a palette's entry is opaque (its tRNS chunk: alpha by index, or one transparent index)."""
    marked, opaque = image.info.get("transparency"), np.ones(256, bool)
    if isinstance(marked, bytes):
        opaque[: len(marked)] = np.frombuffer(marked, np.uint8)[:256] == 255
    elif marked is not None:
        opaque[marked] = False
    return opaque


def are_gray(colors: np.ndarray) -> np.ndarray:
    """bool[n]: which of the RGB colors int64[n, 3] are gray."""
    return np.asarray((colors == colors[:, :1]).all(axis=1))


def _rgb(pixels: np.ndarray) -> StoredMask:
    codes = pixels.astype(np.uint32) @ _RGB_CODE
    values, counts = _counted_codes(codes)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1).astype(np.int64)
    levels = np.where(are_gray(colors), colors[:, 0], NONE)
    return StoredMask(RGB, codes, values, counts, levels, levels, _deepened(levels), colors)


def counted(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur in uint8 or uint16[H, W], in order, and the pixels of each: int64[n], int64[n]."""
    if (runs := _runs(pixels.reshape(-1))) is not None:
        counts = np.bincount(runs[0], weights=runs[1]).astype(np.int64)
    elif pixels.dtype == np.uint8:  # Pillow counts bytes 4 times as fast
        counts = np.asarray(Image.fromarray(pixels).histogram())
    else:
        counts = np.bincount(pixels.reshape(-1))
    values = np.flatnonzero(counts)
    return values, counts[values]


def _counted_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of uint32[H, W]: uint32[n], int64[n]."""
    if (runs := _runs(codes.reshape(-1))) is None:
        return np.unique(codes, return_counts=True)
    values = np.unique(runs[0])
    counts = np.bincount(np.searchsorted(values, runs[0]), weights=runs[1])  # sums of float64, exact up to 2**53
    return values, counts.astype(np.int64)


def _runs(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The values of the runs of equal pixels, and their lengths; None if the runs are so short that this is no gain."""
    changes = flat[1:] != flat[:-1]
    if np.count_nonzero(changes) * _SHORT_RUN > flat.size:
        return None
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def _deepened(levels: np.ndarray) -> np.ndarray:
    return np.where(levels == NONE, NONE, levels * 257)
