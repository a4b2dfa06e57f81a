"""`python -m launch.doctor`: reports what would make a job fail, or cost too much, before it is started."""

from __future__ import annotations

from collections.abc import Sequence

from launch.errors import command, missing_packages
from trainer import console  # nothing slow: signals are handled after this


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 no check failed, 1 a check or the doctor itself failed, 128 + N after signal N, 2
    (SystemExit) the arguments are wrong.
    """
    from launch.doctor.options import parse

    settings = parse(argv)
    # Importing Google's libraries takes a second: --help and wrong arguments end before this.
    with missing_packages("launch"):
        from launch.doctor.runner import run_checks
        from launch.doctor.table import CHECKS

    console.raise_when_stopped()
    return run_checks(CHECKS, settings)


if __name__ == "__main__":
    console.run_main(main, console.SIGNALS)
