"""Class-uniform sampling: an epoch whose crops lie around rare classes as often as around common ones.

After section 3.3 of Zhu et al. 2019, arXiv 1812.01593: half of the images of an epoch are drawn uniformly, and for the
other half a class is drawn, then an image that has it. Where it lies in the image is known from the index of the shard,
as cells of a 4 x 8 grid, so that no mask is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.index import GRID, Example
from beam_pipelines.contract.labels import IGNORE

CLASS_UNIFORM_FRACTION = 0.5  # of an epoch: section 4.1 of Zhu et al.

_CELLS = GRID[0] * GRID[1]


@dataclass(frozen=True)
class ClassPlaces:
    """Where the examples of a split have each class. A row is a class in an example.

    Attributes:
      examples: number of examples.
      first: int64[K + 1]; the rows of the class k of the K that occur are first[k] to first[k + 1].
      example: int64[rows], the number of the example in the split.
      cells: uint16[rows, 32], the running sum of the weights of the cells.
    """

    examples: int
    first: np.ndarray
    example: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class Draws:
    """What an epoch of a split draws, ordered by example.

    Attributes:
      counts: int64[examples], how often each example is drawn; their sum is the number of examples.
      first: int64[examples], the number of the first draw of each example.
      focus: float32[draws, 2], a point (y, x) that the crop shall contain, as fractions of height and width; -1 for a
        crop at any place.
    """

    counts: np.ndarray
    first: np.ndarray
    focus: np.ndarray


def class_places(examples: Sequence[Example]) -> ClassPlaces:
    """The places of all classes but IGNORE, from the lines of the indexes of a split, in stored order."""
    rows = sorted(
        (train_id, number, place.grid)
        for number, example in enumerate(examples)
        for train_id, place in example.classes.items()
        if train_id != IGNORE and any(place.grid)
    )
    ids = np.array([train_id for train_id, _, _ in rows], np.int64)
    grids = np.frombuffer(b"".join(grid for _, _, grid in rows), np.uint8).reshape(-1, _CELLS)
    return ClassPlaces(
        examples=len(examples),
        first=np.append(np.unique(ids, return_index=True)[1], len(ids)).astype(np.int64),
        example=np.array([number for _, number, _ in rows], np.int64),
        cells=np.cumsum(grids, axis=1, dtype=np.uint16),
    )


def draw(places: ClassPlaces, seed: int, epoch: int) -> Draws:
    """The draws of an epoch, a function of `seed` and `epoch`.

    As many as there are examples: one half are different examples, uniformly drawn; in the other half, the numbers of
    draws of any two classes differ by at most one.
    """
    # Its numbers stay the same in later versions of NumPy, unlike those of a Generator: a run may be resumed with one.
    random = np.random.RandomState([seed % 2**32, seed // 2**32, epoch % 2**32])
    classes = len(places.first) - 1
    of_classes = int(places.examples * CLASS_UNIFORM_FRACTION) if classes else 0
    plain = random.permutation(places.examples)[: places.examples - of_classes]
    chosen = random.permutation(of_classes) % max(classes, 1)  # the class of each draw
    rows = _below(random, places.first[chosen + 1] - places.first[chosen]) + places.first[chosen] if classes else chosen
    cells = places.cells[rows].astype(np.int64)
    cell = np.sum(cells <= _below(random, cells[:, -1])[:, None], axis=1)
    inside = random.random_sample((of_classes, 2))
    point = (np.stack(np.divmod(cell, GRID[1]), axis=1) + inside) / GRID
    example = np.concatenate([plain, places.example[rows]])
    focus = np.concatenate([np.full((len(plain), 2), -1.0), point]).astype(np.float32)
    counts = np.bincount(example, minlength=places.examples)
    return Draws(counts, np.cumsum(counts) - counts, focus[np.argsort(example, kind="stable")])


def _below(random: np.random.RandomState, limits: np.ndarray) -> np.ndarray:
    """int64: a whole number from 0 to below each of `limits`, int64 above 0."""
    return np.asarray(np.minimum((random.random_sample(len(limits)) * limits).astype(np.int64), limits - 1))
