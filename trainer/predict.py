"""`python -m trainer.predict`: class maps, colors and overlays of images and videos, from a trained model."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.console import run_command, run_main  # nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 every image that can be segmented is (the others are listed), 1 none can be, or the
    command failed, 2 (SystemExit) the arguments are wrong.
    """
    from trainer.inference.request import parse_predict

    request = parse_predict(argv)

    def work() -> int:
        from trainer.inference.prediction import predict

        outcome = predict(request)
        return 0 if outcome.segmented or outcome.kept else 1

    less = f"Set less than --batch_per_replica={request.batch_per_replica}, s" if request.batch_per_replica > 1 else "S"
    less_memory = f"{less}egment smaller images or windows (--window), or use fewer --scales"
    return run_command(work, verbose=request.verbose, less_memory=less_memory)


if __name__ == "__main__":
    run_main(main)
