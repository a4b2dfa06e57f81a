"""`python -m trainer.evaluate`: scores a trained model on a split of a data set, and writes a report."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer import arguments
from trainer.cluster import ONE_HOST_STRATEGIES
from trainer.console import run_command

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from rich.console import Console

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluator import Evaluation

_LINE_SECONDS = 20.0  # between lines, where the output is no terminal


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """A parsed command line; without a `report` it is written beside the model."""

    model: str
    dataset: str
    split: str = "val"
    report: str | None = None
    batch: int = 4
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    strategy: str = "auto"
    logical_devices: int | None = None
    verbose: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 evaluated, 1 it failed, 2 (SystemExit) the arguments are wrong."""
    settings = parse_evaluate(argv)
    views = " or fewer views (--scales, --flip)" if settings.flip or len(settings.scales) > 1 else ""

    def check() -> None:
        from trainer.data.manifest import check_local

        check_local(settings.dataset, [settings.split])

    def work() -> int:
        run(settings)
        return 0

    return run_command(
        work,
        check=check,
        verbose=settings.verbose,
        less_memory=f"Give less than --batch={settings.batch}{views}",
    )


def run(settings: EvaluateSettings) -> None:
    """Evaluates, prints the table, and writes the report.

    Raises:
      DatasetError, DeviceError, EvaluationError, ManifestError, ModelFileError: see where they are defined.
    """
    from rich.console import Console

    from trainer.data import corrupt, dataset
    from trainer.evaluation import report
    from trainer.evaluation.evaluator import renormalized
    from trainer.files import make_folder
    from trainer.inference import model_file
    from trainer.training import devices, journal

    console = Console(soft_wrap=True)
    strategy = devices.make_strategy(settings.strategy, logical_devices=settings.logical_devices)
    split = dataset.open_split(settings.dataset, settings.split)
    corrupt.check_framing(split)
    with strategy.scope():
        model, description = model_file.load_model(settings.model)
        model_file.check_labels(description, split.manifest, settings.dataset)
        model = renormalized(model, description, split.manifest)
    home = os.path.dirname(model_file.find_model(settings.model)) or "."
    folder = settings.report or f"{home}/report-{settings.split}"
    make_folder(folder)  # a folder that can't be written fails before the work
    evaluation = _evaluate(settings, model, split, strategy, console)
    report.print_scores(evaluation.scores, evaluation.intervals, console)
    rows = journal.read_rows(home)
    report.write_report(folder, evaluation, split, model, description=description, rows=rows)
    console.print(f"report: {folder}", highlight=False, markup=False)


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateSettings:
    """Ends the process with exit code 2 where the arguments are wrong."""
    return EvaluateSettings(**vars(evaluate_parser().parse_args(argv)))


def evaluate_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Scores a trained model on every image of a split, with 95 % intervals, and writes a report: "
        "metrics.json, per_class.csv, per_image.csv and pictures.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, type=arguments.place, metavar="RUN|FILE", help="a run's folder, or a best.keras")
    add("--dataset", required=True, type=arguments.dataset, metavar="DIR", help="the data set's folder, local or gs://")
    add("--split", default="val", help="split to score (default: %(default)s)")
    add(
        "--report",
        type=arguments.place,
        metavar="DIR",
        help="where to write, local or gs:// (default: report-SPLIT beside the model)",
    )
    add(
        "--batch",
        type=arguments.whole(1),
        default=4,
        metavar="N",
        help="images on a device at a time (default: %(default)s)",
    )
    add(
        "--scales",
        type=arguments.scales,
        default=(1.0,),
        metavar="S,...",
        help="average the probabilities over these multiples of the image size (default: 1)",
    )
    add("--flip", action="store_true", help="average the probabilities over each image and its mirror image")
    add(
        "--strategy",
        choices=ONE_HOST_STRATEGIES,
        default="auto",
        help="devices to evaluate on; auto: all GPUs, else the CPU (default: %(default)s)",
    )
    add(
        "--logical_devices",
        type=arguments.whole(1),
        metavar="N",
        help="split the CPU into so many devices, to try several replicas",
    )
    arguments.add_verbose(parser)
    return parser


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
                batch=settings.batch,
                strategy=strategy,
                scales=settings.scales,
                flip=settings.flip,
                on_progress=on_progress,
            )
    except READ_ERRORS as error:
        found = diagnosis(error, split)
        if found is None:
            raise
        raise found from error


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Shows how many images are done: a bar in a terminal, else a line every 20 seconds."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, images: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=images)
            if not console.is_terminal and time.monotonic() - said >= _LINE_SECONDS:
                said = time.monotonic()
                console.print(f"evaluated {done:,} of {images:,} images", highlight=False)

        yield show


if __name__ == "__main__":
    sys.exit(main())
