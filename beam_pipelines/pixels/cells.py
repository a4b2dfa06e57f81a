"""Counts where the classes of a mask are: the pixels of each class in each cell of the picture."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from beam_pipelines.contract.index import GRID, HEAT_MAP, ClassPlace

_ROWS, _COLUMNS = HEAT_MAP


def heat_maps_of(mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """int64[16, 32, n]: the pixels of each of the n train ids `ids` in each cell of `mask` (uint8[H, W]).

    `ids` has all ids of the mask. A row y is in the row y * 16 // H of cells, a column x in the column x * 32 // W.
    """
    height, width = mask.shape
    count = len(ids)
    columns = _columns(width) * count
    place = np.zeros(256, columns.dtype)
    place[ids] = np.arange(count)
    edges = -(-np.arange(_ROWS + 1) * height // _ROWS)  # the first row of each cell
    counts = [
        np.bincount((columns + np.take(place, mask[top:bottom], mode="clip")).reshape(-1), minlength=_COLUMNS * count)
        for top, bottom in itertools.pairwise(edges.tolist())
    ]
    return np.stack(counts).reshape(_ROWS, _COLUMNS, count)


def places_of(heat_maps: np.ndarray, ids: np.ndarray, size: tuple[int, int]) -> dict[int, ClassPlace]:
    """Train id -> its place in a mask of `size` (height, width) with the `heat_maps` int64[16, 32, n]."""
    rows, columns = GRID
    counts = heat_maps.reshape(rows, _ROWS // rows, columns, _COLUMNS // columns, len(ids)).sum((1, 3))
    pixels = np.maximum(np.outer(_extents(size[0], rows), _extents(size[1], columns)), 1)
    shares = -(-255 * counts // pixels[..., None])  # rounded up
    return {
        int(train_id): ClassPlace(int(counts[..., n].sum()), shares[..., n].astype(np.uint8).tobytes())
        for n, train_id in enumerate(ids)
    }


@functools.lru_cache(maxsize=64)
def _columns(width: int) -> np.ndarray:
    """uint16[W]: the column of cells of each column of pixels."""
    return (np.arange(width) * _COLUMNS // width).astype(np.uint16)


def _extents(length: int, cells: int) -> np.ndarray:
    """int64[cells]: the pixels of each cell along an axis; whole heat map cells make a cell of the grid."""
    fine = _ROWS if cells == GRID[0] else _COLUMNS
    return np.bincount(np.arange(length) * fine // length * cells // fine, minlength=cells)
