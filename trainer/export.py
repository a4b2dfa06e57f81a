"""`python -m trainer.export`: from a trained model to a SavedModel that needs TensorFlow alone."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from trainer import arguments
from trainer.console import run_command


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """A parsed command line."""

    model: str
    output: str
    overwrite: bool
    verbose: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the SavedModel is there, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    settings = parse_export(argv)
    return run_command(functools.partial(_export, settings), verbose=settings.verbose)


def _export(settings: ExportSettings) -> int:
    from trainer.errors import refusals
    from trainer.inference.model_file import load_model
    from trainer.inference.saved_model import check_free, export_model, loading_note

    with refusals():
        check_free(settings.output, settings.overwrite)
        model, description = load_model(settings.model)
        export_model(settings.output, model, description, overwrite=settings.overwrite)
    classes = f"{description.labels.num_classes} classes ({description.labels.name})"
    note = loading_note(settings.output)
    print(f"{settings.output}: {description.model} of {classes}, from image_bytes to class_map{note}")
    return 0


def parse_export(argv: Sequence[str] | None = None) -> ExportSettings:
    """Ends the process with exit code 2 where the arguments are wrong."""
    return ExportSettings(**vars(export_parser().parse_args(argv)))


def export_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description="Writes a SavedModel: it takes encoded pictures of any size and gives train ids at their size.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, type=arguments.place, metavar="RUN|FILE", help="a run's folder, or a best.keras")
    add("--output", required=True, type=arguments.place, metavar="DIR", help="the folder to write, local or gs://")
    add("--overwrite", action="store_true", help="replace a SavedModel that is there")
    arguments.add_verbose(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
