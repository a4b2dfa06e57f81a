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
from trainer.evaluation.report import FILES

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from rich.console import Console

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluator import Evaluation

_LINE_SECONDS = 20.0  # between lines, if the output is not a terminal


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """A parsed command line. If `report` is None, the report is written beside the model."""

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
    """Returns the exit code: 0 the report is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
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
        less_memory=f"Set less than --batch={settings.batch}{views}",
    )


def run(settings: EvaluateSettings) -> None:
    """Evaluates, prints the table, and writes the report.

    Raises:
      DatasetError, ManifestError: the split can't be read.
      DeviceError: there are no such devices.
      ModelFileError: the model can't be loaded, or has other classes than the data set.
      EvaluationError: the settings do not fit the model.
    """
    import tensorflow as tf
    from rich.console import Console

    from trainer.data import corrupt, dataset
    from trainer.evaluation import report
    from trainer.evaluation.evaluator import renormalized
    from trainer.evaluation.printed import print_scores
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
    tf.io.gfile.makedirs(folder)  # before the work, so that a folder that can't be written is reported at once
    evaluation = _evaluate(settings, model, split, strategy, console)
    print_scores(evaluation.scores, evaluation.intervals, console)
    rows = journal.read_rows(home)
    report.write_report(folder, evaluation, split, model, description=description, rows=rows)
    console.print(f"report: {folder}", highlight=False, markup=False)


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    return EvaluateSettings(**vars(evaluate_parser().parse_args(argv)))


def evaluate_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Scores a trained model on every image of a split, with 95 % intervals, and writes a report: "
        f"{', '.join(FILES)}.",
        allow_abbrev=False,
    )
    _add_places(parser)
    arguments.add_views(parser, "the image size")
    _add_devices(parser)
    arguments.add_verbose(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Declares what is read and written."""
    arguments.add_model(parser)
    parser.add_argument(
        "--dataset",
        required=True,
        type=arguments.dataset,
        metavar="DIR",
        help="folder of the data set, local or gs://",
    )
    parser.add_argument("--split", default="val", help="split to score (default: %(default)s)")
    parser.add_argument(
        "--report",
        type=arguments.place,
        metavar="DIR",
        help="folder to write the report to, local or gs:// (default: report-SPLIT beside the model)",
    )


def _add_devices(parser: argparse.ArgumentParser) -> None:
    """Declares the devices, and how many images each gets at a time."""
    parser.add_argument(
        "--batch",
        type=arguments.whole(1),
        default=4,
        metavar="N",
        help="images on each device at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--strategy",
        choices=ONE_HOST_STRATEGIES,
        default="auto",
        help="devices to evaluate on; auto: all GPUs, else the CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--logical_devices",
        type=arguments.whole(1),
        metavar="N",
        help="split the CPU into this many devices, to try several replicas",
    )


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
    """Yields a function that shows progress: a bar in a terminal, else a line every 20 seconds."""
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
