"""`python -m launch.doctor`: reports what would make a job fail, or cost too much, before it is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from launch.doctor.options import parse
from launch.errors import command, missing_packages


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 no check failed, 1 a check failed or the doctor itself did, 130 after Ctrl-C, 2
    (SystemExit) the arguments are wrong.
    """
    settings = parse(argv)
    # Importing Google's libraries takes a second: --help and wrong arguments end before this.
    with missing_packages("launch"):
        from launch.doctor.runner import run_checks
        from launch.doctor.table import CHECKS

    return run_checks(CHECKS, settings)


if __name__ == "__main__":
    sys.exit(main())
