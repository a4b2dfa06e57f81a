"""`python -m trainer.export`: writes a trained model as a SavedModel, which needs only TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.console import run_command, run_main  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    from trainer.inference.request import ExportSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the SavedModel is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.inference.request import parse_export

    settings = parse_export(argv)
    return run_command(functools.partial(_export, settings), verbose=settings.verbose)


def _export(settings: ExportSettings) -> int:
    from trainer.errors import refusals
    from trainer.inference.model_file import load_model
    from trainer.inference.saved_model import check_free, export_model, loading_note

    with refusals():
        check_free(settings.output, settings.overwrite)
        model, description = load_model(settings.model)
        export_model(
            settings.output,
            model,
            description,
            size=settings.image_size,
            views=settings.views,
            overwrite=settings.overwrite,
        )
    classes = f"{description.labels.num_classes} classes ({description.labels.name})"
    size = " of {}x{}".format(*settings.image_size) if settings.image_size else ""
    size += " by windows of {}x{}".format(*settings.views.window) if settings.views.window else ""
    note = loading_note(settings.output)
    print(f"{settings.output}: {description.model} of {classes}, from image_bytes or images{size} to class_map{note}")
    return 0


if __name__ == "__main__":
    run_main(main)
