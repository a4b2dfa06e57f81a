"""Instance-weighted IoU of Cityscapes (iIoU): each object of a class counts about the same, however large it is.

As `csEvalPixelLevelSemanticLabeling` of cityscapesScripts counts it (evaluation/evalPixelLevelSemanticLabeling.py:
`evaluatePair`, `getInstanceIouScoreForLabel`, `getInstanceIouScoreForCategory`): true positives and false negatives of
an object are multiplied by the average size of the objects of its class over its own size; false positives, which
belong to no object, are not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, LabelTable
from trainer.data.dataset import Split
from trainer.data.training_set import read_index
from trainer.evaluation.instance_files import OBJECTS, InstanceFiles, InstancesError
from trainer.evaluation.metrics import Scores, plain
from trainer.inference.submission import label_ids_of

# Average pixels of an object: cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py, `args.avgClassSize`.
CLASS_SIZES: Mapping[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
_IDS = 2**16
WEIGHTING = (
    "the pixels of an object are weighted by the average object size of its class over its own size, so that each "
    "object counts about the same"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceScores:
    """The instance-weighted IoU of an evaluation.

    Attributes:
      scores: of all pixels.
      classes: float64[N, C, 2], weighted true positives and false negatives of each image and class; 0 for classes that
        have no objects.
      categories: float64[N, G, 2], the same for the categories, in the order of `scores.category_iou`.
    """

    scores: Scores
    classes: np.ndarray
    categories: np.ndarray

    @functools.cached_property
    def class_iou(self) -> dict[str, float]:
        """Of each class with objects; NaN for one that is neither true nor predicted."""
        ious = _weighted_iou(self.classes, self.scores.confusion)
        return {row.name: ious[row.train_id] for row in self.scores.labels.classes if row.name in CLASS_SIZES}

    @functools.cached_property
    def category_iou(self) -> dict[str, float]:
        """Of each category all of whose classes have objects; NaN for one that is neither true nor predicted."""
        labels = self.scores.labels
        groups, names = _groups(labels)
        member = np.eye(len(names), dtype=np.int64)[groups]
        ious = _weighted_iou(self.categories, member.T @ self.scores.confusion @ member)
        without = {row.category for row in labels.classes if row.name not in CLASS_SIZES}
        return {name: iou for name, iou in zip(names, ious, strict=True) if name not in without}

    @property
    def mean_class_iou(self) -> float:
        return _mean(self.class_iou.values())

    @property
    def mean_category_iou(self) -> float:
        return _mean(self.category_iou.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with None for NaN."""
        return {
            "mean": plain(self.mean_class_iou),
            "mean_category": plain(self.mean_category_iou),
            "class_iou": {name: plain(iou) for name, iou in self.class_iou.items()},
            "category_iou": {name: plain(iou) for name, iou in self.category_iou.items()},
        }


class InstanceCounter:
    """Counts what is predicted of the objects of each image that it is called with.

    Args:
      files: of the instance ids.
      labels: the table of the model, which has the classes of Cityscapes.

    Raises:
      SubmissionError: the table has other classes.
    """

    def __init__(self, files: InstanceFiles, labels: LabelTable) -> None:
        self._files, self._labels = files, labels
        # By label id; IGNORE for labels that are no class.
        self._train_id_of = np.full(_IDS // OBJECTS + 1, IGNORE, np.uint8)
        self._train_id_of[label_ids_of(labels, "--instances")] = np.arange(labels.num_classes)
        self._known = {source_id for row in BUILTIN_TABLES["cityscapes19"]().labels for source_id in row.source_ids}
        self._group_of, groups = _groups(labels)
        self._groups = len(groups)
        self._average = np.array([CLASS_SIZES.get(row.name, np.nan) for row in labels.classes])
        self._counts: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, filename: str, prediction: np.ndarray) -> None:
        """Counts an image, whose predicted train ids are uint8[H, W].

        Raises:
          InstancesError: its file is missing or damaged, has another size, or ids of objects that have no class.
        """
        path, ids = self._files.read(filename, prediction.shape)
        is_object = ids > OBJECTS
        objects, shown = ids[is_object], prediction[is_object]
        truth = self._train_id_of[objects // OBJECTS]
        known = truth != IGNORE
        self._check(path, np.unique(objects))
        self._counts[filename] = self._weighted(objects[known], truth[known], shown[known])

    def scores(self, scores: Scores, filenames: Sequence[str]) -> InstanceScores:
        """The result for the images `filenames`, which were counted, and whose pixels have these `scores`."""
        classes, categories = zip(*(self._counts[name] for name in filenames), strict=True)
        return InstanceScores(scores=scores, classes=np.stack(classes), categories=np.stack(categories))

    def _weighted(self, objects: np.ndarray, truth: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of objects: their ids, true and predicted train ids -> float64[C, 2] and float64[G, 2]."""
        group = self._group_of
        sizes, hits, near = (
            np.bincount(chosen, minlength=_IDS)
            for chosen in (objects, objects[shown == truth], objects[group[shown] == group[truth]])
        )
        numbers = np.flatnonzero(sizes)
        train_ids = self._train_id_of[numbers // OBJECTS]
        weights = self._average[train_ids] / sizes[numbers]
        parts = [
            [
                np.bincount(of, found[numbers] * weights, count),
                np.bincount(of, (sizes - found)[numbers] * weights, count),
            ]
            for of, found, count in (
                (train_ids, hits, len(self._average)),
                (group[train_ids], near, self._groups),
            )
        ]
        return np.stack(parts[0], -1), np.stack(parts[1], -1)

    def _check(self, path: str, numbers: np.ndarray) -> None:
        """Raises InstancesError if an object has a class that has no objects, or no label."""
        for number in numbers.tolist():
            label_id = number // OBJECTS
            train_id = self._train_id_of[label_id]
            if label_id not in self._known or (train_id != IGNORE and np.isnan(self._average[train_id])):
                raise InstancesError(
                    f"{path} has the id {number}, which is no object of {', '.join(CLASS_SIZES)}: give the files "
                    "*_instanceIds.png of Cityscapes"
                )


def counter_of(place: str, split: Split, labels: LabelTable) -> InstanceCounter:
    """Counts the objects of the images of a split, whose files are at `place`.

    Raises:
      InstancesError: there are none, or that of an image is missing, as far as an index of the data set tells.
      SubmissionError: see `InstanceCounter`.
      DatasetError: an index is damaged.
    """
    files = InstanceFiles(place)
    if split.manifest.indexed:
        files.check(line.filename for shard in split.shards for line in read_index(split.folder, shard))
    return InstanceCounter(files, labels)


def _groups(labels: LabelTable) -> tuple[np.ndarray, list[str]]:
    """-> the place of the category of each class, and the categories in the order of `Scores.category_iou`."""
    names = list(dict.fromkeys(row.category for row in labels.classes))
    return np.array([names.index(row.category) for row in labels.classes]), names


def _weighted_iou(counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Counts float64[N, K, 2] of images, and int64[K, K] of all pixels -> float64[K]; NaN where there is nothing."""
    true, missed = counts.sum(axis=0).T
    false = confusion.sum(axis=0) - np.diagonal(confusion)
    below = true + missed + false
    shares: np.ndarray = np.divide(true, below, out=np.full(len(below), np.nan), where=below != 0)
    return shares


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
