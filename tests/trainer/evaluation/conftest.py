"""The benchmark's own evaluation, which the trainer's is compared with."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def official() -> Iterator[Any]:
    """cityscapesScripts' evaluation. NumPy 2.4 has no in1d; the import of its drawing parts warns."""
    pytest.importorskip("cityscapesscripts", reason="cityscapesscripts is not installed")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "in1d", np.isin, raising=False)
        evaluation = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
        patch.setattr(evaluation.args, "evalInstLevelScore", False)
        patch.setattr(evaluation.args, "JSONOutput", False)
        patch.setattr(evaluation.args, "quiet", True)
        yield evaluation
