"""`python -m trainer.convert`: makes a model file of published weights."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.console import run_command, run_main  # nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the model file is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.inference.request import parse_convert

    settings = parse_convert(argv)

    def work() -> int:
        from trainer.inference.conversion import convert_file

        print(convert_file(settings))
        return 0

    return run_command(work, verbose=settings.verbose)


if __name__ == "__main__":
    run_main(main)
