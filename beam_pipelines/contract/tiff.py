"""Which TIFF files are taken: those that Pillow reads as what they are."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

from beam_pipelines.contract.picture_errors import BIG_TIFF_SIGNATURES, PictureError, damage_refused

GRAY_16 = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes
_WIDTH, _HEIGHT, _OFFSETS = 256, 257, (273, 324)
_SUBFILE, _OLD_SUBFILE = 254, 255
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_SAMPLES, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 332, 338, 339
_MIN_IS_WHITE, _RGB, _YCBCR = 0, 2, 6
_JPEG = (6, 7)  # compressions of which libtiff gives RGB


def _pages(data: bytes) -> Iterator[TiffImagePlugin.ImageFileDirectory_v2]:
    file, offsets = io.BytesIO(data), set[int]()
    page = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data.startswith(BIG_TIFF_SIGNATURES) else data[:8])
    while page.next and page.next not in offsets:
        offsets.add(page.next)
        file.seek(page.next)
        page.load(file)
        yield page


def count_pictures(data: bytes) -> int:
    """The number of pages that are pictures, at least 1."""
    return max(1, sum(map(_is_a_picture, _pages(data))))


def _is_a_picture(page: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """And not another page's overview or mask."""
    reduced, mask = 1, 4
    return not page.get(_SUBFILE, 0) & (reduced | mask) and page.get(_OLD_SUBFILE, 1) != 2


def check_is_known(data: bytes) -> None:
    """Refuses by its name what is whole, and of a kind that Pillow does not read."""
    page = next(_pages(data), None)
    if page is None or not {_WIDTH, _HEIGHT, _PHOTOMETRIC} <= page.keys() or not (page.keys() & set(_OFFSETS)):
        return
    bits = max(page.get(_BITS_PER_SAMPLE, (1,)))
    if bits > 8:
        raise PictureError("deep_color", f"{bits} bits per channel in a TIFF file: convert the picture to 8 bits")
    raise PictureError("unsupported_mode", f"a TIFF file of {_kind(page)}: convert the picture to RGB of 8 bits")


def _kind(page: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    named = {
        "samples": _SAMPLES,
        "bits": _BITS_PER_SAMPLE,
        "photometric interpretation": _PHOTOMETRIC,
        "extra samples": _EXTRA_SAMPLES,
        "sample format": _SAMPLE_FORMAT,
        "compression": _COMPRESSION,
    }
    return ", ".join(f"{name} {page[tag]}" for name, tag in named.items() if tag in page)


def check(image: TiffImagePlugin.TiffImageFile, data: bytes) -> bool:
    """Refuses by its name what Pillow would read as something else. -> whether Pillow leaves it inverted."""
    with damage_refused(data):
        tags = image.tag_v2
        bits, formats = max(tags.get(_BITS_PER_SAMPLE, (1,))), set(tags.get(_SAMPLE_FORMAT, (1,)))
        photometric, compression = tags.get(_PHOTOMETRIC, 0), tags.get(_COMPRESSION, 1)
        extra, samples = tags.get(_EXTRA_SAMPLES, ()), tags.get(_SAMPLES, 1)
    if image.mode != "F" and bits > 8 and (bits != 16 or image.mode not in GRAY_16):
        raise PictureError("deep_color", f"{bits} bits per channel in a TIFF file: convert the picture to 8 bits")
    strange = (
        (image.mode != "F" and formats != {1})
        or (photometric == _YCBCR and compression not in _JPEG and samples > 1)
        or (photometric == _RGB and samples == 4 and not extra and not _is_opaque(image, data))
        or tags.get(_INK_SET, 1) != 1
    )
    if strange:
        detail = f"a TIFF file of {_kind(tags)}: convert the picture to RGB of 8 bits"
        raise PictureError("unsupported_mode", detail)
    return bool(photometric == _MIN_IS_WHITE)


def is_premultiplied(image: Image.Image) -> bool:
    """Whether it is a TIFF file whose alpha is associated (TIFF 6.0, section 18, ExtraSamples = 1)."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and 1 in image.tag_v2.get(_EXTRA_SAMPLES, ())


def _is_opaque(image: Image.Image, data: bytes) -> bool:
    """Whether a fourth band of which the file does not say that it is alpha could be nothing else."""
    with damage_refused(data):
        return bool(np.asarray(image)[..., 3].min() == 255)
