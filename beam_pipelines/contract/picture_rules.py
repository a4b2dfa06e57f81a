"""What becomes of pictures that are turned by EXIF, not opaque, or of 16 bits: unless a rule takes them, they are
refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.picture_errors import PictureError

REJECT = "reject"
ORIENT = (REJECT, "apply", "image")
ALPHA = (REJECT, "drop", "white", "black")
DEEP = (REJECT, "scale")
UPRIGHT = 1  # the EXIF orientation of pixels that are stored as they are shown
_BACKGROUND = {"white": 255, "black": 0}
_FACTOR = 257  # 65535 / 255


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`orient` is one of `ORIENT`, `alpha` of `ALPHA`, `deep` of `DEEP`. A rule is named by its field in a PictureError
    of a picture that it would take.
    """

    orient: str = REJECT
    alpha: str = REJECT
    deep: str = REJECT


STRICT = Rules()


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] as stored -> as shown, of the same dtype: [W, H, ...] with the orientations 5 to 8.

    Orientations as in Exif 2.32 (CIPA DC-008-2019), section 4.6.4, tag 274.
    """
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::down, ::right])


def without_alpha(colors: np.ndarray, opacity: np.ndarray, alpha: str, premultiplied: bool = False) -> np.ndarray:
    """uint8[H, W, 3] and uint8[H, W] -> uint8[H, W, 3]: the colors as stored, or over a background b, which is
    (c * a + b * (255 - a)) / 255, rounded half up.

    Raises:
      PictureError: pixels are not opaque, and `alpha` rejects them, or their colors are `premultiplied`, so that 8 bits
        do not hold what they were.
    """
    hidden = 0 if alpha == "drop" and not premultiplied else np.count_nonzero(opacity < 255)
    if not hidden:
        return colors
    if premultiplied:
        cure = "the colors are premultiplied (associated alpha), so they can't be restored: save the picture as PNG"
        raise PictureError("transparent", f"{hidden:,} pixels are not opaque, and {cure}")
    if alpha == REJECT:
        raise PictureError("transparent", f"{hidden:,} pixels are not opaque", rule="alpha")
    weight = opacity[..., None].astype(np.uint16)
    total = colors * weight + _BACKGROUND[alpha] * (255 - weight)  # at most 255 * 255
    return ((total + 127) // 255).astype(np.uint8)


def eight_bits(pixels: np.ndarray, deep: str) -> np.ndarray:
    """16 bits v of any integer dtype -> uint8 of the same shape, v / 257 rounded to nearest.

    Raises:
      PictureError: `deep` rejects values that are not v * 257, which 8-bit pictures have when they are stored in 16.
    """
    if deep == "scale":
        return ((pixels.astype(np.uint32) + _FACTOR // 2) // _FACTOR).astype(np.uint8)
    eight = (pixels >> 8).astype(np.uint8)
    if not np.array_equal(pixels, eight.astype(np.uint16) * _FACTOR):
        detail = f"16 bits per channel with values up to {pixels.max()}: convert the picture to 8 bits"
        raise PictureError("deep_color", detail, rule="deep")
    return eight
