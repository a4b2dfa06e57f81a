"""`index.html`: a study as a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_pipelines.contract import pages
from beam_pipelines.contract.pages.charts import Chart, Table, curves, intervals
from trainer.comparison.configuration import UNKNOWN
from trainer.comparison.printed import labels_sentence, sentence
from trainer.comparison.runs import Run
from trainer.comparison.scores import MEAN
from trainer.comparison.study import Comparison, ImageDifference, Study
from trainer.comparison.wording import chance, interval, percent, points
from trainer.evaluation.series import thin_points_of

_PACKAGE = "trainer.comparison"
_IMAGES = 10  # of each direction
_TONES = {"better": "green", "worse": "red", "unclear": "series-6"}
_EDGE = 0.03  # of the axis, beyond the furthest limits


def render(found: Study) -> str:
    """The page. Equal studies give equal pages."""
    return pages.render(_PACKAGE, "comparison.html", values_of(found))


def values_of(found: Study) -> dict[str, Any]:
    """What the template shows."""
    within = _within(found.comparisons)
    return {
        "study": found,
        "results": [_result(each, found, within) for each in found.comparisons],
        "summary": _summary(found),
        "run_scores": _run_scores(found),
        "curves": _curves(found.runs),
        "settings": Table(
            ["option", *(run.name for run in found.runs)],
            [[each.name, *each.values.values()] for each in found.settings],
        ),
        "settings_unknown": any(UNKNOWN in each.values.values() for each in found.settings),
        "runs": [_facts(run) for run in found.runs],
        "without_config": [run.name for run in found.runs if not run.config],
        "one_each": all(len(side.runs) == 1 for side in found.sides),
        "folder": _folder_of(found),
        "unknown": UNKNOWN,
        "percent": percent,
    }


def _result(each: Comparison, found: Study, within: tuple[float, float]) -> dict[str, Any]:
    """What is shown of one comparison."""
    folder = _folder_of(found)
    gained = [image for image in each.images if image.difference > 0][:_IMAGES]
    lost = [image for image in reversed(each.images) if image.difference < 0][:_IMAGES]
    return {
        "a": each.a.name,
        "b": each.b.name,
        "verdict": each.verdict(MEAN),
        "sentence": sentence(each),
        "difference": points(each.estimate.difference[MEAN]),
        "interval": interval(each.estimate.interval[MEAN]),
        "p": chance(each.adjusted[MEAN]),
        "labels": labels_sentence(each.labels) if each.labels else "",
        "chart": _chart(each, found, within),
        "method": each.estimate.method,
        "gained": _images_table(each, gained, folder),
        "lost": _images_table(each, lost, folder),
        "images": len(each.images),
        "better_images": sum(image.difference > 0 for image in each.images),
        "worse_images": sum(image.difference < 0 for image in each.images),
    }


def _chart(each: Comparison, found: Study, within: tuple[float, float]) -> Chart:
    """The differences of mean IoU and of each class."""
    a, b, estimate = each.a.name, each.b.name, each.estimate
    bars = [None if np.isnan(limits).any() else (100 * limits[0], 100 * limits[1]) for limits in estimate.interval]
    verdicts = [each.verdict(place) for place in range(len(bars))]
    groups = {"better": f"{b} better", "worse": f"{a} better", "unclear": "may be chance"}
    kinds = [kind for kind in groups if kind in verdicts]
    return intervals(
        f"{b} minus {a}",
        found.names,
        [100 * value for value in estimate.difference],
        {
            groups[kind]: [bar if kind == verdict else None for bar, verdict in zip(bars, verdicts, strict=True)]
            for kind in kinds
        },
        what="difference of IoU in percentage points",
        tones=[_TONES[kind] for kind in kinds],
        table=_scores_table(each, found),
        dots="difference",
        signed=True,
        within=within,
        note="Point: the difference. Bar: its 95 % interval, colored by the adjusted p-value.",
    )


def _scores_table(each: Comparison, found: Study) -> Table:
    estimate = each.estimate
    rows = [
        [
            name,
            percent(estimate.a[place]),
            percent(estimate.b[place]),
            points(estimate.difference[place]),
            interval(estimate.interval[place]),
            chance(estimate.p[place]),
            chance(each.adjusted[place]),
        ]
        for place, name in enumerate(found.names)
    ]
    return Table(["IoU, %", each.a.name, each.b.name, "difference", "95 % interval", "p", "p, adjusted"], rows)


def _within(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """What all charts show, in percentage points: all intervals, and 0; no difference is beyond 100."""
    limits = np.concatenate([each.estimate.interval.ravel() for each in comparisons])
    low, high = 100 * min(0.0, np.nanmin(limits, initial=0.0)), 100 * max(0.0, np.nanmax(limits, initial=0.0))
    edge = max(0.5, _EDGE * (high - low))
    return max(-100, math.floor(low - edge)), min(100, math.ceil(high + edge))


def _summary(found: Study) -> Table:
    """Mean IoU of all comparisons."""
    rows = [
        [
            f"{each.b.name} minus {each.a.name}",
            points(each.estimate.difference[MEAN]),
            interval(each.estimate.interval[MEAN]),
            chance(each.estimate.p[MEAN]),
            chance(each.adjusted[MEAN]),
        ]
        for each in found.comparisons
    ]
    return Table(["mean IoU", "points", "95 % interval", "p", "p, adjusted"], rows)


def _run_scores(found: Study) -> Table:
    """Each run by itself."""
    rows = [[run.name, side.name, percent(run.scores[MEAN])] for side in found.sides for run in side.runs]
    return Table(["run", "side", "mean IoU, %"], rows)


def _folder_of(found: Study) -> str:
    """The folders that the names of all images begin with, and a slash; empty if there are none."""
    levels = zip(*(name.split("/")[:-1] for name in found.runs[0].filenames), strict=False)
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, levels)
    return "".join(f"{names[0]}/" for names in shared)


def _images_table(each: Comparison, images: Sequence[ImageDifference], folder: str) -> Table:
    rows = [
        [image.filename.removeprefix(folder), percent(image.a), percent(image.b), points(image.difference)]
        for image in images
    ]
    return Table(["image", f"{each.a.name}, %", f"{each.b.name}, %", "difference"], rows)


def _curves(runs: Sequence[Run]) -> list[Chart]:
    """The learning curves of the runs that have any."""
    wanted = (
        ("Mean IoU of val", "val", "mean_iou", True, "Evaluations during the run."),
        ("Cross entropy of val", "val", "loss", False, "In nats; the same measure for every training loss."),
        ("Mean IoU in training", "train", "mean_iou", True, "Of augmented crops, by the predictions of each update."),
    )
    found = []
    for title, split, key, is_share, note in wanted:
        series = {run.name: points for run in runs if (points := thin_points_of(run.rows, split, key))}
        if series:
            found.append(curves(title, series, what="epoch", percent=is_share, note=note))
    return found


def _facts(run: Run) -> dict[str, Any]:
    model = run.metrics["model"] or {}
    return {
        "name": run.name,
        "report": run.report,
        "model": model.get("model", "unknown"),
        "backbone": run.config.get("config", {}).get("backbone") or "",
        "step": "" if run.step is None else f"{run.step:,}",
        "trained_on": str(model.get("dataset") or "")[:12],
        "mean_iou": percent(run.scores[MEAN]),
    }
