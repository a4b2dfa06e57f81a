"""What comes after the last update: the best model is scored with all its pictures, and exported. The chief alone."""

from __future__ import annotations

import tensorflow as tf
from rich.console import Console

from trainer import devices, journal, report
from trainer.config import TrainConfig
from trainer.dataset import Split
from trainer.evaluation import evaluate
from trainer.model_file import BEST, load_model, read_description
from trainer.saved_model import export_model, read_exported


def is_finished(config: TrainConfig) -> bool:
    """Whether everything that `evaluate_and_export` makes is there, and of this run's best model: an earlier run may
    have left some in these folders. The export comes last.
    """
    exported = read_exported(config.export)
    if exported is None or (config.val_split and not tf.io.gfile.exists(f"{_report_folder(config)}/{report.METRICS}")):
        return False
    return exported == read_description(config.output)


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
    made.append(f"{config.export}/: a SavedModel, from image_bytes to class_map")
    for line in made:
        console.print(line, highlight=False, markup=False)


def _report_folder(config: TrainConfig) -> str:
    return f"{config.output}/report-{config.val_split}"
