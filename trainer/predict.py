"""`python -m trainer.predict`: from a trained model and pictures to their class maps, colors and overlays."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trainer import arguments
from trainer.console import run_command
from trainer.inference.request import FORMS, PredictSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 some pictures are segmented (the others are listed), 1 none is, 2 (SystemExit) the
    arguments are wrong.
    """
    settings = parse_predict(argv)

    def work() -> int:
        from trainer.inference.pictures import predict

        return 0 if predict(settings).segmented else 1

    return run_command(work, verbose=settings.verbose, less_memory="Segment smaller pictures, or use fewer --scales")


def parse_predict(argv: Sequence[str] | None = None) -> PredictSettings:
    """Ends the process with exit code 2 where the arguments are wrong."""
    return PredictSettings(**vars(predict_parser().parse_args(argv)))


def predict_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.predict`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.predict",
        description=(
            "Segments pictures of any size. train_ids: ids/NAME.png holds train ids, colors/NAME.png the same as a "
            "palette picture in the colors of the classes, overlays/NAME.jpg these over the picture. "
            "cityscapes_submission: NAME.png holds label ids, all in one folder. Folders are searched for BMP, JPEG, "
            "PNG, TIFF and WebP files, and keep their tree. A picture that beam_pipelines.build would reject (damaged, "
            "transparent, animated, turned by EXIF, of more than 8 bits) is named and left out."
        ),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, type=arguments.place, metavar="RUN|FILE", help="a run's folder, or a best.keras")
    add(
        "--images",
        required=True,
        type=arguments.place,
        metavar="FOLDER|FILE|GLOB",
        help="what to segment, local or gs://",
    )
    add(
        "--output",
        required=True,
        type=arguments.place,
        metavar="DIR",
        help="where to write, local or gs://; what is there is replaced",
    )
    add("--as", dest="form", choices=FORMS, default=FORMS[0], help="what to write (default: %(default)s)")
    add(
        "--overlay_opacity",
        type=arguments.number(0, most=1),
        default=0.5,
        metavar="0..1",
        help="opacity of the colors (default %(default)s)",
    )
    add(
        "--scales",
        type=arguments.scales,
        default=(1.0,),
        metavar="S,...",
        help="average the probabilities over these multiples of the trained scale (default: 1)",
    )
    add("--flip", action="store_true", help="average the probabilities over each picture and its mirror image")
    add(
        "--max_image_pixels",
        type=arguments.whole(1),
        default=PredictSettings.max_image_pixels,
        metavar="N",
        help="a larger picture is left out before it is decoded (default: %(default)s)",
    )
    arguments.add_verbose(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
