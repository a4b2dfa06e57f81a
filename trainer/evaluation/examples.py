"""Example images of an evaluation: the worst, the median and the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trainer.data.batches import evaluation_batches
from trainer.data.dataset import Split
from trainer.evaluation.evaluator import Evaluation
from trainer.inference.logits import predict_logits

_SHOWN = 2  # images of each kind
_CAPTION = 72  # characters of a file name


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A row of a contact sheet: `image` RGB uint8[H, W, 3], `truth` and `prediction` train ids uint8[H, W]."""

    caption: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def pick_examples(evaluation: Evaluation, split: Split, model: keras.Model) -> list[Example]:
    """The worst, median and best images by mean IoU, without images that have no valid pixels."""
    captions = _captions(evaluation)
    found: dict[int, Example] = {}
    for batch in evaluation_batches(split, 1):
        position = int(batch["position"][0])
        if position in captions:
            logits = predict_logits(model, batch["image"], evaluation.views)
            found[position] = Example(
                caption=captions[position],
                image=split.manifest.moments.normalization.to_pixels(batch["image"][0].numpy()),
                truth=batch["mask"][0].numpy(),
                prediction=tf.argmax(logits[0], axis=-1).numpy().astype(np.uint8),
            )
    return [found[position] for position in captions]


def _captions(evaluation: Evaluation) -> dict[int, str]:
    """Position -> caption, from the worst to the best; each image only once."""
    means = np.array([scores.mean_iou for scores in evaluation.image_scores])
    order = [int(position) for position in np.argsort(means, kind="stable") if not math.isnan(means[position])]
    middle = max(0, (len(order) - _SHOWN) // 2)
    picked = {"worst": order[:_SHOWN], "median": order[middle : middle + _SHOWN], "best": order[-_SHOWN:]}
    captions: dict[int, str] = {}
    for rank, positions in picked.items():
        for position in positions:
            name = evaluation.filenames[position]
            shown = name if len(name) <= _CAPTION else "…" + name[-_CAPTION:]
            captions.setdefault(position, f"{rank}: {shown}, mean IoU {100 * means[position]:.1f} %")
    return captions
