"""Class weights from the pixel counts of a data set, higher for rare classes: a table of functions.

NumPy is imported when weights are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_BETA = 1 - 1e-7  # of `effective_number`: distinguishes classes of less than about 10 million pixels


def equal(counts: np.ndarray) -> np.ndarray:
    """1 for each class."""
    import numpy as np

    return np.ones_like(counts)


def median_frequency(counts: np.ndarray) -> np.ndarray:
    """median(f) / f (Eigen and Fergus 2015, SegNet), where f is a class's fraction of all labeled pixels.

    The papers count only images that have the class, which is not known from totals.
    """
    import numpy as np

    shares = counts / counts.sum()
    return np.asarray(np.median(shares) / shares)


def enet(counts: np.ndarray) -> np.ndarray:
    """1 / ln(1.02 + f) (Paszke et al. 2016), where f is a class's fraction of all labeled pixels."""
    import numpy as np

    return np.asarray(1 / np.log(1.02 + counts / counts.sum()))


def effective_number(counts: np.ndarray) -> np.ndarray:
    """(1 - beta) / (1 - beta^n) (Cui et al. 2019), scaled to a mean of 1.

    Classes of many more than 1 / (1 - beta) pixels get equal weights, so the paper's beta of 0.9999, which is meant for
    images, has no effect on pixels.
    """
    import numpy as np

    weights = (1 - _BETA) / -np.expm1(counts * np.log(_BETA))
    return np.asarray(weights / weights.mean())


# Positive pixel counts float64[C] -> weights float64[C], of which only the ratios matter.
CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": equal,
    "median_frequency": median_frequency,
    "enet": enet,
    "effective_number": effective_number,
}


def class_weights(class_pixels: Sequence[float] | np.ndarray, scheme: str) -> np.ndarray:
    """The weights of a scheme in `CLASS_WEIGHTS`, float32[C]. A class without pixels gets 0, since it never occurs.

    Raises:
      ValueError: the scheme is unknown, a count is negative, or no class has pixels.
    """
    import numpy as np

    counts = np.asarray(class_pixels, np.float64)
    if counts.ndim != 1 or (counts < 0).any() or not counts.any():
        raise ValueError(f"class_pixels {list(class_pixels)}: expected counts of at least 0, with one above 0")
    if scheme not in CLASS_WEIGHTS:
        raise ValueError(f"class weights {scheme!r}: expected one of {', '.join(CLASS_WEIGHTS)}")
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = CLASS_WEIGHTS[scheme](counts[present])
    return weights.astype(np.float32)
