"""`python -m trainer.evaluate`: scores a trained model on a split of a data set, and writes a report."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.console import LINE_SECONDS, SIGNALS, run_command, run_main  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from rich.console import Console

    from beam_pipelines.contract.labels import LabelTable
    from trainer.data.dataset import Split
    from trainer.evaluation.evaluated import Evaluation
    from trainer.evaluation.options import EvaluateSettings
    from trainer.inference.model_file import Description


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the report is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.evaluation.options import parse_evaluate

    settings = parse_evaluate(argv)
    views = " or fewer views (--scales, --flip)" if settings.views.several else ""
    views += " or a smaller --window" if settings.views.window else ""
    batch = settings.batch_per_replica
    less = "Set --batch_per_replica=1" if batch is None else f"Set less than --batch_per_replica={batch}"

    def check() -> None:
        from trainer.data.manifest import check_local
        from trainer.evaluation.source_files import check_installed

        if settings.dataset is None:
            check_installed()
        else:
            check_local(settings.dataset, {"split": [settings.split]})

    return run_command(
        lambda: run(settings),
        check=check,
        verbose=settings.verbose,
        less_memory=f"{less}{views}",
        stopped="stopped" if settings.keep_dataset is None else "stopped; run the same command again to continue",
    )


def run(settings: EvaluateSettings) -> int:
    """Builds a data set if image and mask files are given, and scores the model on it.

    Returns:
      0, or the exit code of the build if it fails.

    Raises:
      SourceFilesError, ModelFileError: see `trainer.evaluation.source_files.build`; and as `score`.
      SubmissionError: `--instances` needs other classes than the model has.
    """
    from rich.console import Console

    from trainer.evaluation.report import check_folder
    from trainer.files import made_folder
    from trainer.inference import model_file
    from trainer.inference.submission import label_ids_of

    console = Console(soft_wrap=True)
    if settings.instances:  # before the work, which may take long
        label_ids_of(model_file.read_description(settings.model).labels, "--instances")
    report = settings.output or f"{_home(settings)}/report-{settings.split}"
    check_folder(report)
    with made_folder(report):  # before the work, so that a folder that can't be written is reported at once
        if settings.files is not None:
            labels = model_file.read_description(settings.model).labels
            return _score_files(settings, settings.files, labels, report, console)
        score(settings, str(settings.dataset), report, console)
        return 0


def _score_files(
    settings: EvaluateSettings, files: Mapping[str, str], labels: LabelTable, report: str, console: Console
) -> int:
    """-> the exit code of the build."""
    from trainer.evaluation import source_files

    shows_all = settings.keep_dataset is not None or settings.verbose
    with source_files.folder_for(settings.keep_dataset) as folder:
        code = source_files.build(folder, settings.split, files, labels, console, shows_all)
        if code == 0:
            score(settings, folder, report, console)
    return code


def score(settings: EvaluateSettings, dataset: str, folder: str, console: Console) -> None:
    """Evaluates on the data set, prints the table, and writes the report to `folder`.

    Raises:
      DatasetError, ManifestError: the split can't be read.
      DeviceError: there are no such devices.
      ModelFileError: the model can't be loaded, or has other classes than the data set.
      EvaluationError: the settings do not fit the model.
      InstancesError, SubmissionError: there are no instances to score, see `trainer.evaluation.instances`.
    """
    from trainer.data import corrupt
    from trainer.data.dataset import open_split
    from trainer.evaluation import report
    from trainer.evaluation.printed import print_scores
    from trainer.evaluation.sizes import Sizes
    from trainer.inference import model_file
    from trainer.training import devices, journal

    strategy = devices.make_strategy(settings.strategy, logical_devices=settings.logical_devices)
    split = open_split(dataset, settings.split, "split")
    corrupt.check_framing(split)
    with strategy.scope():
        model, description = model_file.load_model(settings.model)
        model_file.check_labels(description, split.manifest, dataset)
    console.print(f"{Sizes.of(split.manifest, description, settings.views)}", highlight=False)
    evaluation = _evaluate(settings, model, description, split, strategy, console)
    print_scores(evaluation, console)
    home, is_kept = _home(settings), settings.dataset is not None or settings.keep_dataset is not None
    rows, config = journal.read_rows(home), journal.read_config(home)
    report.write_report(
        folder,
        evaluation,
        split,
        model,
        description=description,
        rows=rows,
        config=config,
        run=_run_elsewhere(home, folder),
        is_kept=is_kept,
    )
    console.print(f"report: {folder}", highlight=False, markup=False)


def _home(settings: EvaluateSettings) -> str:
    """The folder of the model file: that of a run, if a run made it."""
    from trainer.inference.model_file import find_model

    return os.path.dirname(find_model(settings.model)) or "."


def _run_elsewhere(home: str, folder: str) -> str | None:
    """`home`, whatever the working folder; None for a report right in it, since both may be moved together."""
    from trainer.files import is_local

    above = os.path.dirname(folder.rstrip("/"))
    if not is_local(home):
        return None if above == home else home
    is_inside = is_local(folder) and os.path.realpath(above) == os.path.realpath(home)
    return None if is_inside else os.path.abspath(home)


def _evaluate(
    settings: EvaluateSettings,
    model: keras.Model,
    description: Description,
    split: Split,
    strategy: tf.distribute.Strategy,
    console: Console,
) -> Evaluation:
    from trainer.data.corrupt import READ_ERRORS, diagnosis
    from trainer.evaluation.evaluator import evaluate
    from trainer.evaluation.instances import counter_of
    from trainer.evaluation.sizes import is_native

    counter = counter_of(settings.instances, split, description.labels) if settings.instances else None
    try:
        with _progress(console) as on_progress:
            evaluation = evaluate(
                model,
                split,
                batch=settings.batch_per_replica or (1 if is_native(split.manifest) else 4),
                strategy=strategy,
                views=settings.views,
                description=description,
                take=counter,
                on_progress=on_progress,
            )
    except READ_ERRORS as error:
        found = diagnosis(error, split)
        if found is None:
            raise
        raise found from error
    if counter is None:
        return evaluation
    return dataclasses.replace(evaluation, instances=counter.scores(evaluation.scores, evaluation.images.filenames))


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows progress: a bar in a terminal, else a line every 20 seconds."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, images: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=images)
            if not console.is_terminal and time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                console.print(f"evaluated {done:,} of {images:,} images", highlight=False)

        yield show


if __name__ == "__main__":
    run_main(main, SIGNALS)
