"""Colors of masks that were smoothed or saved as JPEG: the main ones among thousands, and how far colors are apart."""

from __future__ import annotations

import numpy as np

from beam_pipelines.errors import BuildError
from beam_pipelines.label_drafts.contents import colors_of
from beam_pipelines.label_drafts.meanings import Meaning
from beam_pipelines.label_drafts.tallies import MOST_VALUES, Tally
from beam_pipelines.pixels.mask_readings import COLORS

MOST_CLASSES = 255  # of a label table
SAME = 16  # JPEG moves the color of an area by less in each channel, and data sets keep their colors further apart
_RARE = 20  # times fewer pixels than a color beside it: a trace of that color
_LEAST_TRACES = 3
_LEAST_SHARE = 20_000  # a main color has at least this part of the pixels
_LOOKED_AT = 4096  # of the commonest colors


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
    if values is None or values.values.size > MOST_CLASSES:
        return True
    beside = apart(values.values, values.values) <= SAME
    traces = (beside & (values.pixels[None, :] >= _RARE * values.pixels[:, None])).any(axis=1)
    return bool(traces.sum() >= _LEAST_TRACES and traces.sum() * 2 >= traces.size)


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
        raise BuildError(
            f"the masks hold {count_of_colors(meaning)} colors, and none of them fills a good part of a mask: they "
            "look like pictures, not like masks"
        )
    chosen: list[int] = []
    distance = apart(found.values, found.values)
    for place in range(found.values.size):
        if len(chosen) < MOST_CLASSES and (distance[place, chosen] > SAME).all():
            chosen.append(place)
    return found.of(np.array(chosen, np.int64))


def nearest_pixels(meaning: Meaning, colors: np.ndarray) -> tuple[np.ndarray, int]:
    """The pixels of which each of the color codes int64[n] is the nearest, int64[n]; and those that are not `SAME` as
    any of them. Counted by coarse colors where there are too many.
    """
    values = meaning.coarse if meaning.values is None else meaning.values
    pixels, far = np.zeros(len(colors), np.int64), 0
    for start in range(0, values.values.size, _LOOKED_AT):  # the table of distances of all of them would be large
        part = values.of(np.arange(start, min(start + _LOOKED_AT, values.values.size)))
        distance = apart(part.values, colors)
        np.add.at(pixels, distance.argmin(axis=1), part.pixels)
        far += int(part.pixels[distance.min(axis=1) > SAME].sum())
    return pixels, far
