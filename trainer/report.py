"""What is left of an evaluation to read and to look at: a table in the terminal, JSON, CSV and pictures in a folder."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from beam_pipelines.contract.manifest import Manifest
from trainer import plots
from trainer.dataset import Split, evaluation_batches
from trainer.evaluation import Evaluation, predict_logits
from trainer.files import write_whole
from trainer.metrics import Intervals, Scores
from trainer.model_file import Description

METRICS = "metrics.json"  # written last: a report that has it is whole
_PICTURES = ("class_iou", "category_iou", "confusion", "images", "learning_curves")
FILES = {METRICS, "per_class.csv", "per_image.csv", *(f"{name}.png" for name in _PICTURES)}
_SHOWN = 2  # images each of the worst, the median and the best
_CAPTION = 72  # characters of a file name


def write_report(
    folder: str,
    evaluation: Evaluation,
    split: Split,
    model: keras.Model,
    *,
    description: Description | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes to `folder`, local or gs://; files of an earlier report are replaced.

    `metrics.json`, `per_class.csv`, `per_image.csv`, `class_iou.png`, `category_iou.png`, `confusion.png`,
    `images.png` and, where there are `rows` of the run's metrics.jsonl, `learning_curves.png`.

    Args:
      evaluation: of `model` on `split`, of one host.
      description: what the model was trained on.
    """
    tf.io.gfile.makedirs(folder)
    scores, intervals = evaluation.scores, evaluation.intervals
    about = f"{evaluation.split}, {len(evaluation.filenames):,} images"
    figures = {
        "class_iou": plots.class_bars(scores, intervals, f"{about}; whiskers and brackets: 95 % interval over images"),
        "category_iou": plots.category_bars(scores, about),
        "confusion": plots.confusion_matrix(scores, about),
    }
    examples = _examples(evaluation, split, model)
    if examples:
        figures["images"] = plots.contact_sheet(examples, evaluation.labels, about)
    if rows:
        figures["learning_curves"] = plots.learning_curves(rows)
    for name, figure in figures.items():
        plots.write_png(f"{folder}/{name}.png", figure)
    _write_csv(f"{folder}/per_class.csv", _class_rows(scores, intervals))
    _write_csv(f"{folder}/per_image.csv", _image_rows(evaluation))
    value = _metrics(evaluation, split.manifest, split.folder, description)
    _write(f"{folder}/{METRICS}", _render(value))


def print_scores(scores: Scores, intervals: Intervals, console: Console) -> None:
    """IoU of each class with its 95 % interval and its share of the true pixels, and the scores of all together."""
    table = Table(title_justify="left")
    table.add_column("class")
    for name in ("IoU, %", "95 % interval", "true pixels"):
        table.add_column(name, justify="right")
    pixels = scores.confusion.sum(axis=1)
    for row, iou, limits in zip(scores.labels.classes, scores.class_iou, intervals.class_iou, strict=True):
        share = pixels[row.train_id] / max(1, pixels.sum())
        table.add_row(Text(row.name), _percent(iou), _interval(limits), f"{100 * share:.2f} %")
    console.print(table)
    count = f"{len(scores.labels.classes) - len(scores.absent)} classes"
    _say(console, f"mean IoU                {_percent(scores.mean_iou)} % of {count}, {_interval(intervals.mean_iou)}")
    _say(console, f"mean category IoU       {_percent(scores.mean_category_iou)} %")
    _say(console, f"pixel accuracy          {_percent(scores.pixel_accuracy)} %")
    _say(console, f"frequency-weighted IoU  {_percent(scores.frequency_weighted_iou)} %")
    if scores.absent:
        _say(console, f"left out, as they are neither true nor predicted: {', '.join(scores.absent)}")


def _examples(evaluation: Evaluation, split: Split, model: keras.Model) -> list[plots.Example]:
    """The worst, median and best images by their mean IoU; images without valid pixels have none."""
    captions = _captions(evaluation)
    found: dict[int, plots.Example] = {}
    for batch in evaluation_batches(split, 1):
        position = int(batch["position"][0])
        if position in captions:
            logits = predict_logits(model, batch["image"], evaluation.scales, evaluation.flip)
            found[position] = plots.Example(
                caption=captions[position],
                image=to_pixels(batch["image"][0].numpy(), split.manifest),
                truth=batch["mask"][0].numpy(),
                prediction=tf.argmax(logits[0], axis=-1).numpy().astype(np.uint8),
            )
    return [found[position] for position in captions]


def _captions(evaluation: Evaluation) -> dict[int, str]:
    """Position -> caption, from the worst to the best; each image once, however few there are."""
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


def to_pixels(image: np.ndarray, manifest: Manifest) -> np.ndarray:
    """A normalized example's image, float32[H, W, 3] -> uint8[H, W, 3], as it was written."""
    mean = np.array(manifest.moments.mean)
    std = np.array([value or 1.0 for value in manifest.moments.std])
    pixels: np.ndarray = np.clip(np.round(255 * (image * std + mean)), 0, 255).astype(np.uint8)
    return pixels


def _metrics(
    evaluation: Evaluation, manifest: Manifest, folder: str, description: Description | None
) -> dict[str, Any]:
    return {
        "split": evaluation.split,
        "images": len(evaluation.filenames),
        "dataset": {"folder": folder, "fingerprint": manifest.fingerprint},
        "model": None if description is None else {**description.to_json(), "labels": description.labels.name},
        "scales": list(evaluation.scales),
        "flip": evaluation.flip,
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "interval_95": evaluation.intervals.to_json(evaluation.labels),
        **evaluation.scores.to_json(),
    }


def _render(value: Any) -> str:
    """JSON with one line for each list of plain values, so that a person can read it."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # No string in JSON has a line break, so that these brackets are those of lists.
    return re.sub(r"\[\n[^][{}]*\n *\]", lambda found: re.sub(r"\n *", " ", found[0]), text) + "\n"


def _class_rows(scores: Scores, intervals: Intervals) -> Iterable[dict[str, Any]]:
    truth, shown = scores.confusion.sum(axis=1), scores.confusion.sum(axis=0)
    for row in scores.labels.classes:
        low, high = intervals.class_iou[row.train_id]
        yield {
            "train_id": row.train_id,
            "name": row.name,
            "category": row.category,
            "iou": scores.class_iou[row.train_id],
            "low": low,
            "high": high,
            "true_pixels": truth[row.train_id],
            "predicted_pixels": shown[row.train_id],
            "correct_pixels": scores.confusion[row.train_id, row.train_id],
        }


def _image_rows(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for name, scores in zip(evaluation.filenames, evaluation.image_scores, strict=True):
        yield {
            "filename": name,
            "mean_iou": scores.mean_iou,
            "pixel_accuracy": scores.pixel_accuracy,
            "valid_pixels": scores.confusion.sum(),
        }


def _write_csv(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One line for each row, under their keys; NaN is an empty cell."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in listed)
    _write(path, text.getvalue())


def _write(path: str, text: str) -> None:
    write_whole(path, text.encode())


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _percent(share: float) -> str:
    return "absent" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(limits: np.ndarray) -> str:
    return "" if np.isnan(limits).any() else f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"
