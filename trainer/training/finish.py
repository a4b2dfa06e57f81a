"""The end of a run, on the chief only: the best model is evaluated with a full report, and exported."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer.config import FINISHED, TrainConfig
from trainer.data.dataset import Split
from trainer.evaluation import report
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.printed import print_scores
from trainer.files import DamagedFileError, files_below, is_local, read_bytes, sealed, sha256_of, unsealed, write_whole
from trainer.inference.model_file import BEST, load_model
from trainer.inference.saved_model import export_model, loading_note
from trainer.training import devices, journal

_FINISHED_BYTES = 2**22
_AGAIN = "writing the report and the export again"


def what_is_missing(config: TrainConfig) -> str | None:
    """Why `evaluate_and_export` must run again, in a sentence; None if it need not.

    It need not if the report and the export are unchanged, byte for byte, and belong to the current best model: the
    folders may hold files of an earlier run.
    """
    path = f"{config.places.output}/{FINISHED}"
    try:
        made = unsealed(read_bytes(path, _FINISHED_BYTES)).get("files")
    except FileNotFoundError:
        return f"{path} is missing: {_AGAIN}"
    except DamagedFileError as error:
        return f"{path}: {error}; {_AGAIN}"
    if not isinstance(made, dict):
        return f"{path}: it is not the file of a training run; {_AGAIN}"
    found = _facts(_made(config))
    changed = sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))
    more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more}: missing, or different from {path}; {_AGAIN}" if changed else None


def keep_record(config: TrainConfig) -> None:
    """Writes `finished.json`: size and digest of each file that `evaluate_and_export` has written."""
    write_whole(f"{config.places.output}/{FINISHED}", sealed({"files": _facts(_made(config))}))


def forget(config: TrainConfig) -> None:
    """Deletes `finished.json`: the run goes on, and its report and export have to be made again."""
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(f"{config.places.output}/{FINISHED}")


def _made(config: TrainConfig) -> dict[str, str]:
    """Name in `finished.json` -> path, of the best model, the files of the report and those of the export."""
    paths = {BEST: f"{config.places.output}/{BEST}"}
    if config.data.val_split:
        paths |= {f"report/{name}": f"{_report_folder(config)}/{name}" for name in report.FILES}
    paths |= {f"export/{name}": f"{config.places.export}/{name}" for name in files_below(config.places.export)}
    return paths


def _facts(paths: Mapping[str, str]) -> dict[str, Any]:
    """Name -> [size in bytes, SHA-256 digest or None if the file is not local]; missing files are left out."""
    found = {}
    for name, path in paths.items():
        with contextlib.suppress(tf.errors.NotFoundError):
            size = tf.io.gfile.stat(path).length
            found[name] = [size, sha256_of(path) if is_local(path) else None]
    return found


def evaluate_and_export(
    config: TrainConfig, val: Split | None, batch: int, strategy: tf.distribute.Strategy, console: Console
) -> None:
    """Writes the report and the SavedModel of the run's best model, and prints its scores.

    Args:
      val: the validation split; None for no report.
      batch: images on each device at a time.
    """
    if config.cluster.workers > 1:  # the other hosts have finished
        strategy = devices.make_strategy("one")
    with strategy.scope():
        model, description = load_model(f"{config.places.output}/{BEST}")
    made = [f"{config.places.output}/{BEST}: the {'best model' if val else 'model'}, from step {description.step:,}"]
    if val is not None:
        console.print(f"evaluating the model of step {description.step:,}", highlight=False)
        evaluation = evaluate(model, val, batch=batch, strategy=strategy)
        rows = journal.read_rows(config.places.output)
        report.write_report(_report_folder(config), evaluation, val, model, description=description, rows=rows)
        print_scores(evaluation.scores, evaluation.intervals, console)
        made.append(f"{_report_folder(config)}/: scores and plots of the model")
    console.print("exporting the model", highlight=False)
    export_model(config.places.export, model, description, overwrite=True)
    keep_record(config)
    folder = config.places.export
    made.append(f"{folder}/: a SavedModel, from image_bytes to class_map{loading_note(folder)}")
    for line in made:
        console.print(line, highlight=False, markup=False)


def _report_folder(config: TrainConfig) -> str:
    return f"{config.places.output}/report-{config.data.val_split}"
