"""The settings of a prediction, an export and a conversion, and the command lines that they are parsed from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS
from trainer import arguments, settings
from trainer.inference.views import WHOLE, Views, take_views
from trainer.settings import Option, one_of

FORMS = ("train_ids", "cityscapes_submission")
SAVED_MODEL = "savedmodel"
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}  # of the formats that are one file


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """A parsed command line; see `python -m trainer.predict --help`."""

    model: str
    images: str
    output: str
    form: str = "train_ids"
    overlay_opacity: float = 0.5
    views: Views = WHOLE
    batch_per_replica: int = 1
    every: int = 1
    max_image_pixels: int = MAX_IMAGE_PIXELS
    overwrite: bool = False
    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """A parsed command line."""

    model: str
    output: str
    format: str = SAVED_MODEL
    image_size: tuple[int, int] | None = None
    dataset: str | None = None
    split: str = "val"
    views: Views = WHOLE
    overwrite: bool = False
    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """A parsed command line."""

    weights: str
    output: str
    labels: str | None = None
    output_stride: int | None = None
    overwrite: bool = False
    verbose: bool = False


_OPACITY = Option(
    "overlay_opacity",
    type=arguments.number(0, most=1),
    default=0.5,
    metavar="0..1",
    help="opacity of the colors (default %(default)s)",
    needs=(one_of("as", "train_ids"),),
)


_CHECK = (
    Option(
        "dataset",
        type=arguments.dataset,
        metavar="DIR",
        help="data set on which the file is compared with the model",
        needs=(one_of("format", *SUFFIXES),),
    ),
    Option(
        "split",
        default=ExportSettings.split,
        help="split to compare on (default: %(default)s)",
        needs=(one_of("format", *SUFFIXES),),
    ),
)

_BATCH = Option(
    "batch_per_replica",
    type=arguments.whole(1),
    default=PredictSettings.batch_per_replica,
    metavar="N",
    help="images of one size that the model gets at a time (default: %(default)s)",
    aliases=("batch",),
)


def parse_predict(argv: Sequence[str] | None = None) -> PredictSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = predict_parser()
    values = vars(parser.parse_args(argv))
    if problem := settings.contradiction([_OPACITY], settings.given(parser, argv), values):
        parser.error(problem)
    return PredictSettings(form=values.pop("as"), views=take_views(parser, values), **values)


def predict_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.predict`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.predict",
        description=(
            "Segments images of any size. train_ids: ids/NAME.png holds train ids, colors/NAME.png the same as a "
            "palette image in the colors of the classes, overlays/NAME.jpg these colors over the image. "
            "cityscapes_submission: NAME.png holds label ids, all in one folder. Folders are searched for BMP, JPEG, "
            "PNG, TIFF and WebP files, and keep their tree. An image that beam_pipelines.build would reject (damaged, "
            "transparent, animated, rotated by EXIF, of more than 8 bits) is named and skipped. The frames of a "
            "video are the images NAME/000001, NAME/000002, ... Run the same command again to continue: images that "
            "are already segmented are kept."
        ),
        allow_abbrev=False,
    )
    _add_places(parser)
    _add_form(parser)
    arguments.add_views(parser, "the trained scale")
    arguments.add_window(parser, "each image, at its own size")
    _BATCH.add_to(parser)
    parser.add_argument(
        "--max_image_pixels",
        type=arguments.whole(1),
        default=PredictSettings.max_image_pixels,
        metavar="N",
        help="skip larger images before they are decoded (default: %(default)s)",
    )
    arguments.add_verbose(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Declares what is read and written."""
    arguments.add_model(parser)
    parser.add_argument(
        "--images",
        required=True,
        type=arguments.place,
        metavar="FOLDER|FILE|GLOB",
        help="images or videos to segment, local or gs://",
    )
    parser.add_argument(
        "--every",
        type=arguments.whole(1),
        default=PredictSettings.every,
        metavar="N",
        help="of videos, segment the first of every N frames (default: %(default)s)",
    )
    parser.add_argument(
        "--output", required=True, type=arguments.place, metavar="DIR", help="folder to write to, local or gs://"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same name in the output folder")


def _add_form(parser: argparse.ArgumentParser) -> None:
    """Declares what is written of an image."""
    parser.add_argument("--as", choices=FORMS, default=FORMS[0], help="what to write (default: %(default)s)")
    _OPACITY.add_to(parser)


def parse_export(argv: Sequence[str] | None = None) -> ExportSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = export_parser()
    values = vars(parser.parse_args(argv))
    views = take_views(parser, values)
    if problem := _wrong_name(values["output"], values["format"]):
        parser.error(f"argument --output: {problem}")
    if values["format"] in SUFFIXES and views.window is not None:
        parser.error(
            f"argument --window: not possible with --format={values['format']}; leave it out, or set "
            f"--format={SAVED_MODEL}"
        )
    given = settings.given(parser, argv)
    if problem := settings.contradiction(_CHECK, given, values):
        parser.error(problem)
    if "split" in given and values["dataset"] is None:
        parser.error("argument --split: has no effect without --dataset; leave it out, or set --dataset=DIR")
    return ExportSettings(views=views, **values)


def _wrong_name(output: str, form: str) -> str | None:
    """What is wrong with the name of the output in a format; None if nothing is."""
    if form in SUFFIXES:
        return None if output.endswith(SUFFIXES[form]) else f"{output} does not end in {SUFFIXES[form]}"
    meant = [name for name, suffix in SUFFIXES.items() if output.endswith(suffix)]
    if not meant:
        return None
    return f"{output} is the name of a file, and a SavedModel is a folder: set --format={meant[0]}, or another name"


def export_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description="Writes a SavedModel that takes images, encoded or as a tensor, and returns their train ids. Or "
        "writes one file for ONNX Runtime or LiteRT that takes a tensor, compares it with the model on a data set, and "
        "describes both in FILE.json beside it.",
        allow_abbrev=False,
    )
    arguments.add_model(parser)
    parser.add_argument(
        "--output",
        required=True,
        type=arguments.place,
        metavar="DIR|FILE",
        help="folder to write to, local or gs://; for onnx and litert a file, .onnx or .tflite",
    )
    parser.add_argument(
        "--format",
        choices=(SAVED_MODEL, *SUFFIXES),
        default=SAVED_MODEL,
        help="what to write; onnx and litert need the extra `export` (default: %(default)s)",
    )
    parser.add_argument(
        "--image_size",
        type=arguments.image_size,
        metavar="HxW",
        help="size that encoded images are resized to and tensors must have (else the height in the data set, and the "
        "aspect ratio of the image; for onnx and litert the size of the images in the data set)",
    )
    arguments.add_window(parser, "each image, at its own size or --image_size")
    for option in _CHECK:
        option.add_to(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a SavedModel in the output folder, or the file"
    )
    arguments.add_verbose(parser)
    return parser


def parse_convert(argv: Sequence[str] | None = None) -> ConvertSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = convert_parser()
    settings = ConvertSettings(**vars(parser.parse_args(argv)))
    if not settings.output.endswith(".keras"):
        parser.error(f"argument --output: {settings.output} does not end in .keras")
    return settings


def convert_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.convert`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.convert",
        description="Makes a model file of published weights: of DeepLabV3+ (a checkpoint of research/deeplab) or of "
        "U2-Net (u2net.pth, u2netp.pth). Every variable comes from the file, or it is refused.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "weights",
        type=arguments.place,
        metavar="WEIGHTS",
        help="checkpoint (its folder, or what the names of its files begin with) or file of PyTorch, local or gs://",
    )
    parser.add_argument(
        "--output", required=True, type=arguments.place, metavar="FILE.keras", help="file to write, local or gs://"
    )
    parser.add_argument(
        "--labels", metavar="NAME", help="label table of the classes (else that of the published weights with as many)"
    )
    parser.add_argument(
        "--output_stride",
        type=arguments.whole(1),
        choices=(16, 8),
        help="output stride of DeepLabV3+: 8 is denser and 4 times slower (default: 16)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    arguments.add_verbose(parser)
    return parser
