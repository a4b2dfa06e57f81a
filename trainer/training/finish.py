"""The end of a run, on the chief only: the best model is evaluated with a full report, and exported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer.config import CONFIG, FINISHED, TrainConfig
from trainer.evaluation import report
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.printed import print_scores
from trainer.files import DamagedFileError, files_below, is_local, read_bytes, sealed, sha256_of, unsealed, write_whole
from trainer.inference.model_file import BEST, load_model
from trainer.inference.saved_model import export_model, loading_note
from trainer.training import devices, journal
from trainer.training.inputs import Inputs

_FINISHED_BYTES = 2**22


def what_is_missing(config: TrainConfig) -> str | None:
    """Why `evaluate_and_export` must run again, in a sentence; None if it need not.

    It need not if the report and the export, as far as they are wanted, are unchanged, byte for byte, and belong to the
    current best model: the folders may hold files of an earlier run.
    """
    path, parts = f"{config.places.output}/{FINISHED}", _parts(config)
    again = f"writing {_listed(parts)} again"
    try:
        made = unsealed(read_bytes(path, _FINISHED_BYTES)).get("files")
    except FileNotFoundError:
        return f"{path} is missing: {again}"
    except DamagedFileError as error:
        return f"{path}: {error}; {again}"
    if not isinstance(made, dict):
        return f"{path}: it is not the file of a training run; {again}"
    left_out = [part for part, last in parts.items() if f"{part}/{last}" not in made]
    if left_out:
        return f"{path} is without {_listed(left_out)}: {again}"
    wanted = {name: facts for name, facts in made.items() if name == BEST or name.partition("/")[0] in parts}
    found = _facts(_made(config))
    changed = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more}: missing, or different from {path}; {again}" if changed else None


def _parts(config: TrainConfig) -> dict[str, str]:
    """What a run writes at its end -> the file there that is never left out."""
    has_report = config.data.val_split and not config.reporting.no_report
    parts = {"report": "metrics.json"} if has_report else {}
    return parts if config.reporting.no_export else parts | {"export": "saved_model.pb"}


def _listed(parts: Iterable[str]) -> str:
    return " and ".join(f"the {part}" for part in parts) or "it"


def keep_record(config: TrainConfig) -> None:
    """Writes `finished.json`: size and digest of each file that `evaluate_and_export` has written."""
    write_whole(f"{config.places.output}/{FINISHED}", sealed({"files": _facts(_made(config))}))


def forget(config: TrainConfig) -> None:
    """Deletes `finished.json`: the run goes on, and its report and export have to be made again."""
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(f"{config.places.output}/{FINISHED}")


def _made(config: TrainConfig) -> dict[str, str]:
    """Name in `finished.json` -> path, of the best model, the files of the report and those of the export."""
    paths, parts = {BEST: f"{config.places.output}/{BEST}"}, _parts(config)
    if "report" in parts:
        paths |= {f"report/{name}": f"{_report_folder(config)}/{name}" for name in report.FILES}
    if "export" in parts:
        paths |= {f"export/{name}": f"{config.places.export}/{name}" for name in files_below(config.places.export)}
    return paths


def files_to_track(config: TrainConfig) -> dict[str, str]:
    """Name -> path of what an experiment tracker keeps of a finished run: all but the export and the checkpoints."""
    made = {name: path for name, path in _made(config).items() if not name.startswith("export/")}
    made |= {name: f"{config.places.output}/{name}" for name in (CONFIG, journal.FILE_NAME)}
    return {name: path for name, path in made.items() if tf.io.gfile.exists(path)}


def _facts(paths: Mapping[str, str]) -> dict[str, Any]:
    """Name -> [size in bytes, SHA-256 digest or None if the file is not local]; missing files are left out."""
    found = {}
    for name, path in paths.items():
        with contextlib.suppress(tf.errors.NotFoundError):
            size = tf.io.gfile.stat(path).length
            found[name] = [size, sha256_of(path) if is_local(path) else None]
    return found


def evaluate_and_export(inputs: Inputs, scored: Mapping[int, Evaluation], console: Console) -> None:
    """Writes the report and the SavedModel of the run's best model, as far as they are wanted, and prints its scores.

    Args:
      scored: step -> the evaluation that the model of that step had in this process, on one host.
    """
    config, val = inputs.config, inputs.val
    strategy = inputs.strategy if config.cluster.workers == 1 else devices.make_strategy("one")  # the others have ended
    with strategy.scope():
        model, description = load_model(f"{config.places.output}/{BEST}")
    made = [f"{config.places.output}/{BEST}: the {'best model' if val else 'model'}, from step {description.step:,}"]
    if val is not None and "report" in _parts(config):
        evaluation = scored.get(description.step)
        if evaluation is None:
            console.print(f"evaluating the model of step {description.step:,}", highlight=False)
            evaluation = evaluate(model, val, batch=inputs.batches.per_replica, strategy=strategy)
        report.write_report(
            _report_folder(config),
            evaluation,
            val,
            model,
            description=description,
            rows=journal.read_rows(config.places.output),
            config=journal.read_config(config.places.output),
        )
        print_scores(evaluation, console)
        made.append(f"{_report_folder(config)}/: scores and plots of the model")
    if "export" in _parts(config):
        console.print("exporting the model", highlight=False)
        folder = config.places.export
        export_model(folder, model, description, overwrite=True)
        made.append(f"{folder}/: a SavedModel, from image_bytes or images to class_map{loading_note(folder)}")
    keep_record(config)
    for line in made:
        console.print(line, highlight=False, markup=False)


def _report_folder(config: TrainConfig) -> str:
    return f"{config.places.output}/report-{config.data.val_split}"
