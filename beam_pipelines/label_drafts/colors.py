"""Colors of masks that were smoothed or saved as JPEG: the main ones among thousands, and how far colors are apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.labels import IGNORE, MAX_COLOR_DISTANCE
from beam_pipelines.errors import BuildError
from beam_pipelines.label_drafts.contents import colors_of
from beam_pipelines.label_drafts.meanings import Meaning
from beam_pipelines.label_drafts.tallies import MOST_VALUES, Tally
from beam_pipelines.pixels.mask_readings import COLORS

SAME = 16  # JPEG moves the color of an area by less in each channel, and data sets keep their colors further apart
PICTURE_SHARE = 0.3  # of the pixels far from all main colors; JPEG and smoothing leave a tenth
_RARE = 20  # times fewer pixels than a color beside it: a trace of that color
_LEAST_TRACES = 3
_MOST_BESIDE, _MOST_BETWEEN = 0.5, 0.75  # shares of all colors that are traces; many a table has a color between two
_ENDS = 32  # of the commonest colors, between which others may be
_LEAST_SHARE = 20_000  # a main color has at least this part of the pixels
_LOOKED_AT = 4096  # of the commonest colors; and colors of which distances are computed at once
_LEVELS = (255, 0, 192, 64, 128)
_CANDIDATES = np.array([red << 16 | green << 8 | blue for red in _LEVELS for green in _LEVELS for blue in _LEVELS])


def apart(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest difference in a channel between two color codes, int64[n] and int64[m] -> int16[n, m]."""
    one, other = (colors_of(each).astype(np.int16) for each in (codes, others))
    channels = [np.abs(one[:, None, channel] - other[None, :, channel]) for channel in range(3)]
    return np.asarray(np.maximum.reduce(channels))


def are_blurred(meaning: Meaning) -> bool:
    """Whether most colors are only traces of others, as smoothing and JPEG leave them."""
    if meaning.way != COLORS:
        return False
    values = meaning.values
    if values is None or values.values.size > IGNORE:
        return True
    beside = apart(values.values, values.values) <= SAME
    traces = (beside & (values.pixels[None, :] >= _RARE * values.pixels[:, None])).any(axis=1)
    if traces.sum() >= _LEAST_TRACES and traces.mean() >= _MOST_BESIDE:
        return True
    traces |= _between(values)
    return bool(traces.sum() >= _LEAST_TRACES and traces.mean() >= _MOST_BETWEEN)


def _between(values: Tally) -> np.ndarray:
    """bool[n]: the colors between two much commoner ones, as they are at smooth edges."""
    colors, between = colors_of(values.values).astype(float), np.zeros(values.values.size, bool)
    ends = np.lexsort((values.values, -values.pixels))[:_ENDS]
    for one, other in itertools.combinations(ends.tolist(), 2):
        way = colors[other] - colors[one]
        part = np.clip((colors - colors[one]) @ way / (way @ way), 0, 1)
        off = np.abs(colors - colors[one] - part[:, None] * way).max(axis=1)
        rarer = values.pixels * _RARE <= min(values.pixels[one], values.pixels[other])
        between |= rarer & (off <= SAME / 2) & (part > 0) & (part < 1)
    return between


def _pictures(meaning: Meaning, why: str) -> BuildError:
    return BuildError(
        f"the masks hold {count_of_colors(meaning)} colors, and {why}: they look like pictures, not like masks"
    )


def count_of_colors(meaning: Meaning) -> str:
    """The number of different colors, for people."""
    return f"more than {MOST_VALUES:,}" if meaning.values is None else f"{meaning.values.values.size:,}"


def main_colors(meaning: Meaning) -> Tally:
    """The colors that the masks were drawn in, as far as that can be told, commonest first. Their pixels and masks are
    those where the color fills a good part of the mask.

    Raises:
      BuildError: there are none.
    """
    found = (meaning.main if meaning.main is not None else meaning.coarse).commonest(_LOOKED_AT)
    found = found.of(found.pixels * _LEAST_SHARE >= meaning.pixels)
    if not found.values.size:
        raise _pictures(meaning, "none of them fills a good part of a mask")
    chosen: list[int] = []
    distance = apart(found.values, found.values)
    for place in range(found.values.size):
        if len(chosen) < IGNORE and (distance[place, chosen] > SAME).all():
            chosen.append(place)
    return found.of(np.array(chosen, np.int64))


@dataclass(frozen=True)
class Nearest:
    """What is read as which of the main colors, if each color is read as the nearest one.

    Attributes:
      limit: the distance, Euclidean in RGB, that takes in every color.
      pixels: int64[k], those of each main color.
      tied: the pixels of colors that are as near to two main ones.
      far: the pixels of colors that are not `SAME` as any main one.
      free: the code of a color to which no color is nearest, if one was found.
    """

    limit: int
    pixels: np.ndarray
    tied: int
    far: int
    free: int | None


def nearest_of(meaning: Meaning, colors: np.ndarray) -> Nearest:
    """`colors`: the codes of the main ones, int64[k]. Counted by coarse colors where there are too many.

    Raises:
      BuildError: most colors are none of masks.
    """
    values = meaning.coarse if meaning.values is None else meaning.values
    pixels, tied, far, most, free = np.zeros(len(colors), np.int64), 0, 0, 0, np.ones(len(_CANDIDATES), bool)
    for part in _parts(values):
        distance = _squared(part.values, colors)
        least = distance.min(axis=1)
        ties = (distance == least[:, None]).sum(axis=1) > 1
        np.add.at(pixels, distance.argmin(axis=1)[~ties], part.pixels[~ties])
        tied += int(part.pixels[ties].sum())
        far += int(part.pixels[apart(part.values, colors).min(axis=1) > SAME].sum())
        most = max(most, int(least.max()))
        free &= (_squared(part.values, _CANDIDATES) > least[:, None]).all(axis=0)
    if far > PICTURE_SHARE * meaning.pixels:
        raise _pictures(meaning, f"{far / meaning.pixels:.0%} of the pixels are in none of the main ones")
    needed = MAX_COLOR_DISTANCE if meaning.values is None else math.isqrt(max(0, most - 1)) + 1
    limit = min(MAX_COLOR_DISTANCE, needed)
    found = _CANDIDATES[free].tolist()
    return Nearest(limit, pixels, tied, far, found[0] if found else None)


def _squared(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The squared Euclidean distances, int64[n] and int64[m] -> int32[n, m]."""
    one, other = (colors_of(each).astype(np.int32) for each in (codes, others))
    return np.asarray(sum((one[:, None, channel] - other[None, :, channel]) ** 2 for channel in range(3)))


def _parts(values: Tally) -> Iterator[Tally]:
    """The table of distances of all values would be large."""
    for start in range(0, values.values.size, _LOOKED_AT):
        yield values.of(np.arange(start, min(start + _LOOKED_AT, values.values.size)))
