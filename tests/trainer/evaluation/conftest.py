"""The benchmark's own evaluation, which the trainer's is compared with."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def official() -> Iterator[Any]:
    """cityscapesScripts' evaluation, without files of instance ids. The import of its drawing parts warns."""
    pytest.importorskip("cityscapesscripts", reason="cityscapesscripts is not installed")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
        patch.setattr(evaluation.args, "evalInstLevelScore", False)
        patch.setattr(evaluation.args, "JSONOutput", False)
        patch.setattr(evaluation.args, "quiet", True)
        yield evaluation
