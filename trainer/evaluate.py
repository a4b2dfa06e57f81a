"""`python -m trainer.evaluate`: scores a trained model on a split of a data set, and writes a report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.console import LINE_SECONDS, run_command, run_main  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from rich.console import Console

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluator import Evaluation
    from trainer.evaluation.options import EvaluateSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the report is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.evaluation.options import parse_evaluate

    settings = parse_evaluate(argv)
    views = " or fewer views (--scales, --flip)" if settings.views.several else ""

    def check() -> None:
        from trainer.data.manifest import check_local

        check_local(settings.dataset, {"split": [settings.split]})

    def work() -> int:
        run(settings)
        return 0

    return run_command(
        work,
        check=check,
        verbose=settings.verbose,
        less_memory=f"Set less than --batch_per_replica={settings.batch_per_replica}{views}",
    )


def run(settings: EvaluateSettings) -> None:
    """Evaluates, prints the table, and writes the report.

    Raises:
      DatasetError, ManifestError: the split can't be read.
      DeviceError: there are no such devices.
      ModelFileError: the model can't be loaded, or has other classes than the data set.
      EvaluationError: the settings do not fit the model.
    """
    from rich.console import Console

    from trainer.data import corrupt, dataset
    from trainer.evaluation import report
    from trainer.evaluation.evaluator import renormalized
    from trainer.evaluation.printed import print_scores
    from trainer.files import make_folder
    from trainer.inference import model_file
    from trainer.training import devices, journal

    console = Console(soft_wrap=True)
    strategy = devices.make_strategy(settings.strategy, logical_devices=settings.logical_devices)
    split = dataset.open_split(settings.dataset, settings.split, "split")
    corrupt.check_framing(split)
    with strategy.scope():
        model, description = model_file.load_model(settings.model)
        model_file.check_labels(description, split.manifest, settings.dataset)
        model = renormalized(model, description, split.manifest)
    home = os.path.dirname(model_file.find_model(settings.model)) or "."
    folder = settings.output or f"{home}/report-{settings.split}"
    make_folder(folder)  # before the work, so that a folder that can't be written is reported at once
    evaluation = _evaluate(settings, model, split, strategy, console)
    print_scores(evaluation.scores, evaluation.intervals, console)
    rows = journal.read_rows(home)
    report.write_report(folder, evaluation, split, model, description=description, rows=rows)
    console.print(f"report: {folder}", highlight=False, markup=False)


def _evaluate(
    settings: EvaluateSettings, model: keras.Model, split: Split, strategy: tf.distribute.Strategy, console: Console
) -> Evaluation:
    from trainer.data.corrupt import READ_ERRORS, diagnosis
    from trainer.evaluation.evaluator import evaluate

    try:
        with _progress(console) as on_progress:
            return evaluate(
                model,
                split,
                batch=settings.batch_per_replica,
                strategy=strategy,
                views=settings.views,
                on_progress=on_progress,
            )
    except READ_ERRORS as error:
        found = diagnosis(error, split)
        if found is None:
            raise
        raise found from error


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
    run_main(main)
