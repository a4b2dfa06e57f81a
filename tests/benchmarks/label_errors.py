"""How well suspected label errors are ranked: faults are put into the labels of 10 images, and looked for.

    python tests/benchmarks/label_errors.py --model=out/run --dataset=out/camvid

For each kind of fault, the mean over several draws of: average precision and precision of the first 10, by the regions
of `trainer.evaluation.suspects` and by the soft minimum of Lad and Mueller 2023; images with faults among those that
stand out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from trainer.data.batches import evaluation_batches
from trainer.data.dataset import open_split
from trainer.evaluation.outliers import Outliers
from trainer.evaluation.sizes import segmenter_of
from trainer.evaluation.suspects import suspect_regions
from trainer.inference.model_file import load_model
from trainer.inference.views import WHOLE

_FAULTS = 10
_PATCH = 60  # pixels
_TEMPERATURE = 0.1  # of the soft minimum


def main() -> None:
    """Prints a line for each kind of fault."""
    parser = argparse.ArgumentParser()
    for name in ("--model", "--dataset"):
        parser.add_argument(name, required=True)
    parser.add_argument("--draws", type=int, default=10)
    settings = parser.parse_args()
    masks, probabilities = (np.stack(part) for part in zip(*predicted(settings.model, settings.dataset), strict=True))
    sound = np.array([scores_of(*each) for each in zip(masks, probabilities, strict=True)])
    random = np.random.default_rng(0)
    for name, spoil in KINDS.items():
        found = []
        for _ in range(settings.draws):
            places, scores = random.choice(len(masks), _FAULTS, replace=False), sound.copy()
            scores[places] = [scores_of(spoil(masks[place].copy(), random), probabilities[place]) for place in places]
            out = Outliers(scores[:, 0]).standing_out
            precision = [value for score in scores.T for value in precisions(score, places)]
            found.append([*precision, np.isin(out, places).sum(), len(out)])
        ours, first, soft, soft_first, right, number = np.mean(found, axis=0)
        print(f"{name}: AP {ours:.2f}, P@10 {first:.2f}; soft minimum: AP {soft:.2f}, P@10 {soft_first:.2f}; ", end="")
        print(f"standing out: {right:.1f} of {number:.1f}", flush=True)


def predicted(model_path: str, dataset: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mask and probabilities, float16, of each image of val."""
    model, description = load_model(model_path)
    split = open_split(dataset, "val")
    segmenter = segmenter_of(model, split.manifest, description, WHOLE)
    for batch in evaluation_batches(split, 1):
        probabilities = segmenter.probabilities_of_size(batch["image"])[0].numpy()
        yield batch["mask"][0].numpy(), probabilities.astype(np.float16)


def scores_of(mask: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """By suspected regions, and by the soft minimum: high is suspect."""
    shares, valid = probabilities.astype(np.float32), mask != IGNORE
    region = suspect_regions(tf.constant(mask[np.newaxis]), tf.constant(shares[np.newaxis]))[0].numpy()
    of_label = np.take_along_axis(shares, np.where(valid, mask, 0)[..., np.newaxis].astype(int), -1)[..., 0][valid]
    weights = np.exp((1 - of_label) / _TEMPERATURE)
    return region.sum() / valid.sum(), -(weights * of_label).sum() / weights.sum()


def swap_class(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All pixels of a class get the label of another class of the image."""
    ids, counts = np.unique(mask[mask != IGNORE], return_counts=True)
    one = random.choice(ids[counts > 500])
    mask[mask == one] = random.choice(ids[ids != one])
    return mask


def drop_class(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A class that covers less than 5 % of the image gets the nearest other label of the row."""
    ids, counts = np.unique(mask[mask != IGNORE], return_counts=True)
    one = random.choice(ids[(counts > 300) & (counts < 0.05 * mask.size)])
    for row in mask:
        gone, kept = np.flatnonzero(row == one), np.flatnonzero(row != one)
        if len(gone) and len(kept):
            row[gone] = row[kept[np.abs(kept - gone[:, np.newaxis]).argmin(1)]]
    return mask


def paste_square(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A square gets the label of a class of the image."""
    top, left = (random.integers(0, side - _PATCH) for side in mask.shape)
    square = mask[top : top + _PATCH, left : left + _PATCH]
    square[square != IGNORE] = random.choice(np.unique(mask[mask != IGNORE]))
    return mask


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "a class swapped": swap_class,
    "a class left out": drop_class,
    "a square pasted": paste_square,
}


def precisions(scores: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Average precision, and precision of the first 10."""
    hits = np.isin(np.argsort(-scores, kind="stable"), places)
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()), float(hits[:10].mean())


if __name__ == "__main__":
    main()
