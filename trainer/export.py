"""`python -m trainer.export`: writes a trained model as a SavedModel, which needs only TensorFlow, or as one file."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainer.console import LINE_SECONDS, run_command, run_main  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    from trainer.data.dataset import Split
    from trainer.inference.model_file import Description
    from trainer.inference.request import ExportSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the model is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.inference.request import SAVED_MODEL, parse_export

    settings = parse_export(argv)

    def check() -> None:
        from trainer.data.manifest import check_local

        if settings.dataset is not None:
            check_local(settings.dataset, {"split": [settings.split]})

    work = _export if settings.format == SAVED_MODEL else _export_file
    return run_command(functools.partial(work, settings), check=check, verbose=settings.verbose)


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
    size = " of {}x{}".format(*settings.image_size) if settings.image_size else ""
    size += " by windows of {}x{}".format(*settings.views.window) if settings.views.window else ""
    note = loading_note(settings.output)
    print(f"{settings.output}: {_subject(description)}, from image_bytes or images{size} to class_map{note}")
    return 0


def _export_file(settings: ExportSettings) -> int:
    """Writes an ONNX or LiteRT file, after it was compared with the model if there is a data set."""
    from trainer.errors import refusals
    from trainer.formats import check, writing
    from trainer.formats.precision import in_float32
    from trainer.formats.table import FORMATS
    from trainer.inference.model_file import load_model

    row = FORMATS[settings.format]
    row.require()
    with refusals():
        writing.check_free(settings.output, settings.overwrite)
        split = _open_split(settings)
        model, description = load_model(settings.model)
    size = writing.size_of(model, description, settings.image_size)
    if split is not None:
        check.check_fit(split, description, size)
    served = writing.Served(in_float32(model), description, size, row.batch)
    content, run = writing.convert(served, settings.format, size)
    compared, told = None, "not compared with the model: --dataset=DIR does it"
    if split is not None:
        original = writing.Served(model, description, size)
        comparison = check.compare(split, description, original.run, run, _progress())
        compared = writing.checked(comparison, split.folder, split.manifest.fingerprint, settings.split)
        told = f"{settings.split} of {split.folder}, {comparison.images:,} images: {comparison}"
    about = writing.about(settings.output, content, settings.format, description, size, compared)
    writing.write(settings.output, content, about)
    sizes = "images of {}x{}".format(*size)
    print(f"{settings.output}: {row.title}, {_subject(description)}, from {sizes} to class_map")
    print(f"{told}; {len(content) / 1e6:.1f} MB")
    return 0


def _open_split(settings: ExportSettings) -> Split | None:
    """The split that the file is compared on, if any."""
    from trainer.data import corrupt, dataset

    if settings.dataset is None:
        return None
    split = dataset.open_split(settings.dataset, settings.split, "split")
    corrupt.check_framing(split)
    return split


def _subject(description: Description) -> str:
    return f"{description.model} of {description.labels.num_classes} classes ({description.labels.name})"


def _progress() -> Callable[[int, int], None]:
    """A function that prints a line every 20 seconds."""
    said = time.monotonic()

    def show(done: int, images: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            print(f"compared {done:,} of {images:,} images", flush=True)

    return show


if __name__ == "__main__":
    run_main(main)
