"""Example images of an evaluation: the worst, the median and the best, and those with suspected label errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.pages.pictures import smaller
from trainer.data.batches import evaluation_batches
from trainer.data.dataset import Split
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.outliers import Outliers
from trainer.evaluation.sizes import segmenter_of
from trainer.evaluation.suspects import suspect_regions
from trainer.inference.model_file import Description
from trainer.inference.segmenter import most_probable

RANKED = {"worst": 6, "median": 3, "best": 3}  # at most, of a page
_OF_SHEET = {"worst": 2, "median": 2, "best": 2}
_MOST_SUSPECTS = 8
_LEAST_SUSPECTS = 6  # if there are as many, even if fewer stand out
_CAPTION = 72  # characters of a file name


@dataclass(frozen=True)
class Suspicion:
    """How many pixels of suspected label errors have this label and this prediction."""

    label: int
    prediction: int
    pixels: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """An image, no larger than a page shows it: `image` RGB uint8[H, W, 3], `truth` and `prediction` train ids
    uint8[H, W], `region` bool[H, W] of suspected label errors.

    `suspicions` are the kinds of these, with pixels of the whole image, the largest first.
    """

    caption: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    region: np.ndarray
    suspicions: Sequence[Suspicion] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Examples by their place in the evaluation.

    Attributes:
      sheet: those of a contact sheet.
      ranked: rank -> places, from the worst to the best; each image once.
      suspects: the places of those with most suspected label errors, ranked.
    """

    found: Mapping[int, Example]
    sheet: Sequence[Example]
    ranked: Mapping[str, Sequence[int]]
    suspects: Sequence[int]


def pick_examples(
    evaluation: Evaluation, split: Split, model: keras.Model, description: Description | None
) -> Examples:
    """Picks by mean IoU, without images that have no valid pixels, and predicts these images again.

    description: see `trainer.evaluation.sizes.segmenter_of`.
    """
    segmenter = segmenter_of(model, split.manifest, description, evaluation.views)
    means = np.array([scores.mean_iou for scores in evaluation.image_scores])
    sheet, ranked = (_by_rank(means, numbers) for numbers in (_OF_SHEET, RANKED))
    suspects = _most_suspect(evaluation.suspects)
    captions = {place: _caption(evaluation, means, "", place) for place in suspects}
    for picked in (ranked, sheet):
        for rank, places in picked.items():
            captions |= {place: _caption(evaluation, means, f"{rank}: ", place) for place in places}
    found: dict[int, Example] = {}
    for batch in evaluation_batches(split, 1):
        place = int(batch["position"][0])
        if place in captions:
            probabilities = segmenter.probabilities_of_size(batch["image"])
            found[place] = _example(captions[place], batch["image"], batch["mask"], probabilities)
    on_sheet = [found[place] for places in sheet.values() for place in places]
    return Examples(found=found, sheet=on_sheet, ranked=ranked, suspects=suspects)


def _example(caption: str, image: tf.Tensor, mask: tf.Tensor, probabilities: tf.Tensor) -> Example:
    """Of a batch of one."""
    region = suspect_regions(mask, probabilities)[0].numpy()
    truth, prediction = mask[0].numpy(), most_probable(probabilities)[0].numpy().astype(np.uint8)
    return Example(
        caption=caption,
        image=smaller(image[0].numpy()),
        truth=smaller(truth),
        prediction=smaller(prediction),
        region=smaller(region.astype(np.uint8)) > 0,
        suspicions=_suspicions(truth[region], prediction[region]),
    )


def _suspicions(labels: np.ndarray, predictions: np.ndarray) -> list[Suspicion]:
    """Of the pixels of suspected label errors."""
    counts = np.bincount(labels.astype(np.int64) * (IGNORE + 1) + predictions)
    found = [Suspicion(*divmod(int(pair), IGNORE + 1), int(counts[pair])) for pair in np.flatnonzero(counts)]
    return sorted(found, key=lambda each: -each.pixels)


def _by_rank(means: np.ndarray, numbers: Mapping[str, int]) -> dict[str, list[int]]:
    """Rank -> the places of so many images of that rank, from the worst to the best; each image only once."""
    order = [int(place) for place in np.argsort(means, kind="stable") if not math.isnan(means[place])]
    middle = max(0, (len(order) - numbers["median"]) // 2)
    worst, median, best = numbers["worst"], numbers["median"], numbers["best"]
    ranked = {"worst": order[:worst], "median": order[middle : middle + median], "best": order[-best:]}
    taken: set[int] = set()
    for rank, places in ranked.items():
        ranked[rank] = [place for place in places if place not in taken]
        taken.update(places)
    return ranked


def _most_suspect(suspects: Outliers) -> list[int]:
    """All that stand out and the next ones, within limits."""
    number = min(_MOST_SUSPECTS, max(_LEAST_SUSPECTS, len(suspects.standing_out)))
    return suspects.ranked[:number]


def _caption(evaluation: Evaluation, means: np.ndarray, rank: str, place: int) -> str:
    name = evaluation.images.filenames[place]
    shown = name if len(name) <= _CAPTION else "…" + name[-_CAPTION:]
    return f"{rank}{shown}, mean IoU {100 * means[place]:.1f} %"
