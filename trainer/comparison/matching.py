"""Whether reports can be compared: same images, same truth, same classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.comparison.runs import ComparisonError, Run
from trainer.inference.views import shown

FEW_IMAGES = 20
FEW_RUNS = 4  # a side: with fewer, no permutation of runs gives p below 5 %


def matched(runs: Sequence[Run]) -> list[Run]:
    """The runs, with their images in the order of the first one.

    Raises:
      ComparisonError: a report is of another data set, split, images, classes or image size.
    """
    first, *others = runs
    if len(first.filenames) < 2:
        raise ComparisonError(
            f"{first.report} has {len(first.filenames)} image: a comparison needs 2 or more; score a larger split"
        )
    return [first, *(_matched(first, other) for other in others)]


def _matched(first: Run, other: Run) -> Run:
    both = f"{first.report} and {other.report} can't be compared"
    if other.metrics["split"] != first.metrics["split"]:
        raise ComparisonError(
            f"{both}: one is of split {first.metrics['split']}, the other of {other.metrics['split']}; name "
            "reports of one split, or runs with --split"
        )
    if other.class_names != first.class_names:
        raise ComparisonError(
            f"{both}: they have other classes, {_gap(first.class_names, other.class_names)}; "
            "compare models that were trained with one label table"
        )
    if other.fingerprint != first.fingerprint:
        raise ComparisonError(
            f"{both}: they are of the data sets {_dataset(first)} and {_dataset(other)}; evaluate both models on "
            "one of them, each with an --output of its own, and name these reports"
        )
    order = _order(first, other, both)
    aligned = replace(other, filenames=first.filenames, confusions=other.confusions[order])
    _check_truth(first, aligned, both)
    return aligned


def _dataset(run: Run) -> str:
    return f"{run.metrics['dataset'].get('folder', '')} ({run.fingerprint[:12]})"


def _order(first: Run, other: Run, both: str) -> np.ndarray:
    """Where each image of `first` is in `other`: int[N]."""
    ours, theirs = (np.argsort(np.array(run.filenames), kind="stable") for run in (first, other))
    if [first.filenames[place] for place in ours] != [other.filenames[place] for place in theirs]:
        raise ComparisonError(
            f"{both}: they have other images, {_gap(first.filenames, other.filenames)}; run trainer.evaluate again for "
            "both"
        )
    order = np.empty(len(ours), np.int64)
    order[ours] = theirs
    return order


def _gap(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two lists of names differ, by their first names that only one has."""
    only = [
        next((name for name in these if name not in those), None)
        for these, those in ((ours, {*theirs}), (theirs, {*ours}))
    ]
    if only == [None, None]:
        return f"{len(ours):,} and {len(theirs):,}, in another order or number"
    told = [
        f"{name!r} only in the {which}"
        for name, which in zip(only, ("first", "other"), strict=True)
        if name is not None
    ]
    return f"{len(ours):,} and {len(theirs):,}: {', '.join(told)}"


def _check_truth(first: Run, other: Run, both: str) -> None:
    """The true pixels of each class are the same on each image, unless these were scored at another size."""
    ours, theirs = first.confusions.sum(2), other.confusions.sum(2)
    differing = np.flatnonzero((ours != theirs).any(1))
    if len(differing):
        place = int(differing[0])
        valid = [int(truth[place].sum()) for truth in (ours, theirs)]
        raise ComparisonError(
            f"{both}: the true pixels of {len(differing):,} images differ, so they were scored at another size or with "
            f"other masks: {first.filenames[place]} has {valid[0]:,} and {valid[1]:,} valid "
            "pixels; run trainer.evaluate with the same options for both"
        )


def cautions(sides: Sequence[Sequence[Run]]) -> Iterator[str]:
    """Yields a sentence for each thing that these runs can't tell, or that a reader should know."""
    runs = [run for side in sides for run in side]
    numbers = sorted({len(side) for side in sides})
    if numbers == [1]:
        yield (
            "One run a side: this tells whether these two models differ, not whether their settings do. Another seed "
            "alone may change a score as much; compare several runs a side with --a and --b."
        )
    elif numbers[0] == 1:
        yield (
            "One side has one run: how much the seed changes its score is not known, and is taken to be as much as on "
            "the other side."
        )
    if numbers != [1] and numbers[0] < FEW_RUNS:
        yield (
            f"Few runs ({' and '.join(str(len(side)) for side in sides)}): the test takes their scores for normally "
            "distributed, which so few can't show."
        )
    if len(runs[0].filenames) < FEW_IMAGES:
        yield f"Only {len(runs[0].filenames)} images: intervals of fewer than {FEW_IMAGES} are too narrow."
    yield from (
        f"The runs were scored with different {name}: {told}; that is part of the difference."
        for name, told in _differing_views(runs)
    )


def _differing_views(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """What the model saw of an image, where that differs: what it is, and how it was in each run."""
    seen = {run.name: _seen(run.metrics) for run in runs}
    for name in _seen({}):
        if len({each[name] for each in seen.values()}) > 1:
            yield name, ", ".join(f"{run} {each[name]}" for run, each in seen.items())


def _seen(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Of a metrics.json, whose earlier versions have only some of it."""
    window, overlap = metrics.get("window"), metrics.get("overlap", 0)
    windows = "whole images" if window is None else f"windows of {shown(window)}"
    return {
        "scales": " and ".join(f"{scale:g}" for scale in metrics.get("scales", [1])),
        "flipping": "on" if metrics.get("flip") else "off",
        "windows": f"{windows} with overlap {overlap:g}" if overlap else windows,
        "sizes": _size_words(metrics["size"]["seen"]) if metrics.get("size") else "unknown",
    }


def _size_words(seen: Sequence[int | None] | None) -> str:
    if seen is None:
        return "each image as it is"
    return f"images of {shown(seen)}" if None not in seen else f"images with a height of {seen[0]}"
