"""Scenes painted in the colors of CamVid's classes, whose masks have faults that a model of colors does not have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from beam_pipelines.pixels.conform import Sample

CAMVID = BUILTIN_TABLES["camvid11"]()
SIZE = (60, 90)  # boundaries reach 2 pixels
ID_OF = {row.name: row.train_id for row in CAMVID.classes}
SKY, BUILDING, ROAD, FENCE, CAR = (ID_OF[name] for name in ("sky", "building", "road", "fence", "car"))
Faults = Mapping[int, tuple[int, int]]  # number of a scene -> (class of a square of its mask, the square's side)
CORNER = (20, 30)  # of the square, which is building in truth


def draw_truth(number: int) -> np.ndarray:
    """uint8[H, W]: sky over a building and a road, with a car."""
    truth = np.full(SIZE, BUILDING, np.uint8)
    truth[: 12 + number % 5] = SKY
    truth[45:] = ROAD
    truth[48:57, 5 + 3 * number % 60 :][:, :16] = CAR
    return truth


def draw_mask(number: int, faults: Faults) -> np.ndarray:
    """uint8[H, W]: the truth with boundaries a pixel off, some ignored pixels, and the scene's fault."""
    mask = np.roll(draw_truth(number), (1, -1), axis=(0, 1))
    if number in faults:
        mask[fault_of(*faults[number])] = faults[number][0]
    mask[np.random.default_rng(number).random(SIZE) < 0.01] = IGNORE
    return mask


def fault_of(_: int, side: int) -> tuple[slice, slice]:
    """Where a fault is."""
    top, left = CORNER
    return slice(top, top + side), slice(left, left + side)


def draw_scene(number: int, faults: Faults, name: str = "") -> Sample:
    """A scene and its mask."""
    image = CAMVID.palette[draw_truth(number)]
    return Sample(name or f"scene-{number:02}.png", image, draw_mask(number, faults))
