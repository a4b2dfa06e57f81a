"""What comes after the last update: the best model is scored with all its pictures, and exported. The chief alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer.config import TrainConfig
from trainer.data.dataset import Split
from trainer.evaluation import report
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.printed import print_scores
from trainer.files import DamagedFileError, is_local, read_bytes, sealed, sha256_of, unsealed, write_whole
from trainer.inference.model_file import BEST, load_model
from trainer.inference.saved_model import export_model, loading_note
from trainer.training import devices, journal

_FINISHED = "finished.json"  # in the run's folder: what was made, written last
_FINISHED_BYTES = 2**22
_AGAIN = "the report and the export are made again"


def what_is_missing(config: TrainConfig) -> str | None:
    """Why `evaluate_and_export` has to work again, in a sentence. None where everything that it makes is there, byte
    for byte as it was made, and of the best model that is there now: these folders may hold files of an earlier run.
    """
    path = f"{config.places.output}/{_FINISHED}"
    try:
        made = unsealed(read_bytes(path, _FINISHED_BYTES)).get("files")
    except FileNotFoundError:
        return f"{path} is missing: {_AGAIN}"
    except DamagedFileError as error:
        return f"{path}: {error}; {_AGAIN}"
    if not isinstance(made, dict):
        return f"{path}: it is not that of a training run; {_AGAIN}"
    found = _facts(_made(config))
    changed = sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))
    more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more}: missing, or not as {path} says; {_AGAIN}" if changed else None


def keep_record(config: TrainConfig) -> None:
    """Writes `finished.json`: what `evaluate_and_export` has made, as it is now."""
    write_whole(f"{config.places.output}/{_FINISHED}", sealed({"files": _facts(_made(config))}))


def _made(config: TrainConfig) -> dict[str, str]:
    """What `finished.json` vouches for -> its path: the best model, the files of the report and those of the export."""
    paths = {BEST: f"{config.places.output}/{BEST}"}
    if config.data.val_split:
        paths |= {f"report/{name}": f"{_report_folder(config)}/{name}" for name in report.FILES}
    for at, _, names in tf.io.gfile.walk(config.places.export):
        below = at.rstrip("/")[len(config.places.export) :]
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
        model, description = load_model(f"{config.places.output}/{BEST}")
    made = [f"{config.places.output}/{BEST}: the {'best model' if val else 'model'}, of step {description.step:,}"]
    if val is not None:
        console.print(f"evaluating the model of step {description.step:,}", highlight=False)
        evaluation = evaluate(model, val, batch=batch, strategy=strategy)
        rows = journal.read_rows(config.places.output)
        report.write_report(_report_folder(config), evaluation, val, model, description=description, rows=rows)
        print_scores(evaluation.scores, evaluation.intervals, console)
        made.append(f"{_report_folder(config)}/: its scores and pictures")
    console.print("exporting it", highlight=False)
    export_model(config.places.export, model, description, overwrite=True)
    keep_record(config)
    folder = config.places.export
    made.append(f"{folder}/: a SavedModel, from image_bytes to class_map{loading_note(folder)}")
    for line in made:
        console.print(line, highlight=False, markup=False)


def _report_folder(config: TrainConfig) -> str:
    return f"{config.places.output}/report-{config.data.val_split}"
