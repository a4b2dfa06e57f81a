"""The published networks, against what the original code computes: `tests/golden/weights`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from tests.support.published import as_training_leaves_it, golden, write_checkpoint
from tests.support.pytorch_files import write_state
from trainer.inference.conversion import convert
from trainer.inference.segmenter import network_input
from trainer.models import as_list

TOLERANCE = 1e-5  # of logits, relative to the largest; measured: 8e-6 at most


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    keras.backend.clear_session()


def logits_of(model: keras.Model, description: Any, picture: np.ndarray) -> list[np.ndarray]:
    images = network_input(picture[None], description.__class__(**{**vars(description), "size": None}))
    return [output.numpy() for output in as_list(model(images, training=False))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "variables", "strides"),
    [("xception_65", 732, (16, 8)), ("xception_41", 492, (16, 8)), ("xception_71", 802, (16,))],
)
def test_deeplab_computes_the_logits_of_the_original(
    variant: str, variables: int, strides: tuple[int, ...], tmp_path: Path
) -> None:
    known = golden(variant)
    checkpoint = write_checkpoint(tmp_path / "model.ckpt", as_training_leaves_it(known.weights()))
    for stride in strides:
        model, description, account = convert(str(checkpoint), output_stride=stride)
        assert (account.used, description.step, description.labels.name) == (variables, 90_000, "cityscapes19")
        assert account.dropped == {"Momentum": sum("moving_" not in name for name in known.shapes), "counters": 1}
        assert len(model.weights) == variables
        (logits,) = logits_of(model, description, known.picture())
        assert known.difference(logits, f"logits{stride}") < TOLERANCE
        assert known.difference(logits, f"logits{24 - stride}") > 1000 * TOLERANCE, "it would not see a wrong stride"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["u2net", "u2netp"])
def test_u2net_computes_the_logits_of_the_original(name: str, tmp_path: Path) -> None:
    known = golden(name)
    state = write_state(tmp_path / "net.pth", known.weights())
    model, description, account = convert(str(state))
    assert account.used == len(known.weights()) == 686
    outputs = logits_of(model, description, known.picture())
    assert len(outputs) == 7
    assert not any(output[..., 0].any() for output in outputs)
    maps = np.stack([output[0, ..., 1] for output in outputs])
    assert known.difference(maps, "logits") < TOLERANCE
