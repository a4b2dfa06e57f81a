"""The ids of a mask file, read as a build reads it."""

from __future__ import annotations

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.picture_rules import STRICT, Rules
from beam_pipelines.pixels.mask_readings import MaskReading
from beam_pipelines.pixels.masks import read_mask


def decode_mask(
    data: bytes, table: LabelTable, max_pixels: int, reading: MaskReading, rules: Rules = STRICT
) -> np.ndarray:
    """The ids of `read_mask`."""
    return read_mask(data, table, max_pixels, reading, rules).ids
