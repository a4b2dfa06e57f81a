"""What comes after the last update: the best model is scored with all its pictures, and exported. The chief alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer import devices, journal, report
from trainer.config import TrainConfig
from trainer.dataset import Split
from trainer.evaluation import evaluate
from trainer.files import DamagedFileError, is_local, read_bytes, sealed, sha256_of, unsealed, write_whole
from trainer.model_file import BEST, load_model
from trainer.saved_model import export_model

_FINISHED = "finished.json"  # in the run's folder: what was made, written last
_FINISHED_BYTES = 2**22


def is_finished(config: TrainConfig) -> bool:
    """Whether everything that `evaluate_and_export` makes is there, byte for byte as it was made, and of the best model
    that is there now: an earlier run may have left some in these folders.
    """
    try:
        made = unsealed(read_bytes(f"{config.output}/{_FINISHED}", _FINISHED_BYTES)).get("files")
    except (DamagedFileError, FileNotFoundError):
        return False
    return isinstance(made, dict) and made == _facts(_made(config))


def _made(config: TrainConfig) -> dict[str, str]:
    """What `finished.json` vouches for -> its path: the best model, the files of the report and those of the export."""
    paths = {BEST: f"{config.output}/{BEST}"}
    if config.val_split:
        paths |= {f"report/{name}": f"{_report_folder(config)}/{name}" for name in report.FILES}
    for at, _, names in tf.io.gfile.walk(config.export):
        below = at.rstrip("/")[len(config.export) :]
        paths |= {f"export{below}/{name}": f"{at.rstrip('/')}/{name}" for name in names}
    return paths


def _facts(paths: Mapping[str, str]) -> dict[str, Any]:
    """Name -> bytes and, of local files, the digest; what is not there is left out."""
    found = {}
    for name, path in paths.items():
        with contextlib.suppress(tf.errors.NotFoundError):
            size = tf.io.gfile.stat(path).length
            found[name] = [size, sha256_of(path) if is_local(path) else None]
    return found


def evaluate_and_export(
    config: TrainConfig, val: Split | None, batch: int, strategy: tf.distribute.Strategy, console: Console
) -> None:
    """Writes the report on the validation split and the SavedModel, both of the run's best model; prints its scores.

    batch: images on a device at a time.
    """
    if config.cluster.workers > 1:  # the other hosts are done
        strategy = devices.make_strategy("one")
    with strategy.scope():
        model, description = load_model(f"{config.output}/{BEST}")
    made = [f"{config.output}/{BEST}: the {'best model' if val else 'model'}, of step {description.step:,}"]
    if val is not None:
        console.print(f"evaluating the model of step {description.step:,}", highlight=False)
        evaluation = evaluate(model, val, batch=batch, strategy=strategy)
        rows = journal.read_rows(config.output)
        report.write_report(_report_folder(config), evaluation, val, model, description=description, rows=rows)
        report.print_scores(evaluation.scores, evaluation.intervals, console)
        made.append(f"{_report_folder(config)}/: its scores and pictures")
    console.print("exporting it", highlight=False)
    export_model(config.export, model, description, overwrite=True)
    write_whole(f"{config.output}/{_FINISHED}", sealed({"files": _facts(_made(config))}))
    made.append(f"{config.export}/: a SavedModel, from image_bytes to class_map")
    for line in made:
        console.print(line, highlight=False, markup=False)


def _report_folder(config: TrainConfig) -> str:
    return f"{config.output}/report-{config.val_split}"
